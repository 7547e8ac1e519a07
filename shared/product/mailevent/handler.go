// Package mailevent keeps what SES tells of activation mails after it took them (docs/contract.md §3). It is apart from
// package mail so that its function carries neither templates, SES nor SQS.
package mailevent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/clock"
	"carillon/shared/fault"
	"carillon/shared/messagebatch"
	"carillon/shared/product"
	"carillon/shared/product/store"
)

// Handler serves the queue of SES's events: it keeps what became of mails after SES took them.
type Handler struct {
	mails *store.Mails
	clock clock.Clock
	log   *slog.Logger
}

// NewHandler returns a Handler.
func NewHandler(mails *store.Mails, clock clock.Clock, log *slog.Logger) *Handler {
	return &Handler{mails: mails, clock: clock, log: log}
}

// Handle works through the events of a batch of messages. They may come twice and in any order: a mail's state never
// goes back. An event of a mail or a type that is not known is logged and done with. Handle reports the messages that
// are no events, and those that failed for a reason that a repeat may mend, AWS's mostly.
func (h *Handler) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Each(h.log, h.handle)(ctx, event)
}

var errEvent = errors.New("mailevent: a message is not an event of SES")

// sesEvent is an event as EventBridge delivers it.
type sesEvent struct {
	Detail struct {
		EventType string `json:"eventType"`
		Mail      struct {
			MessageID string              `json:"messageId"`
			Tags      map[string][]string `json:"tags"`
		} `json:"mail"`
		Bounce struct {
			Type       string      `json:"bounceType"`
			SubType    string      `json:"bounceSubType"`
			Recipients []recipient `json:"bouncedRecipients"`
		} `json:"bounce"`
		Delay struct {
			Type       string      `json:"delayType"`
			Recipients []recipient `json:"delayedRecipients"`
		} `json:"deliveryDelay"`
		Complaint struct {
			FeedbackType string `json:"complaintFeedbackType"`
			SubType      string `json:"complaintSubType"`
		} `json:"complaint"`
		Reject struct {
			Reason string `json:"reason"`
		} `json:"reject"`
		Failure struct {
			ErrorMessage string `json:"errorMessage"`
		} `json:"failure"`
	} `json:"detail"`
}

// recipient is what an event has about the mail's one receiver.
type recipient struct {
	Status         string `json:"status"`
	DiagnosticCode string `json:"diagnosticCode"`
}

// suppressed are the subtypes of a bounce or a complaint that SES makes up itself, without sending the mail: the
// address is on its own list or on the account's.
var suppressed = map[string]bool{"Suppressed": true, "OnAccountSuppressionList": true}

// The weight of bounces and complaints is as SES documents it:
// https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
const (
	// permanent is the type of a bounce after which SES says not to write to the address again. Of the others,
	// Transient and Undetermined, it says that a mail may get through later, and an out-of-office answer to a mail that
	// was delivered is one of them.
	permanent = "Permanent"
	// notSpam is the type of a complaint that is none: its reporter does not consider the mail to be spam.
	notSpam = "not-spam"
)

// rejected are the subtypes of a transient bounce that are about the mail and not its receiver: SES says that it may
// get through if it is changed.
var rejected = map[string]bool{"MessageTooLarge": true, "ContentRejected": true, "AttachmentRejected": true}

// outcome returns what an event says of its mail, without a state if that is nothing; known is false for a type of
// event that means nothing here.
func (e *sesEvent) outcome() (outcome product.Outcome, known bool) {
	detail := &e.Detail
	outcome.MessageID = detail.Mail.MessageID
	switch detail.EventType {
	case "Delivery":
		outcome.State = product.MailDelivered
	case "Bounce":
		bounce := &detail.Bounce
		outcome.Reason = reason(bounce.Type+"/"+bounce.SubType, bounce.Recipients)
		switch {
		case suppressed[bounce.SubType]:
			outcome.State = product.MailSuppressed
		case bounce.Type == permanent:
			outcome.State = product.MailBounced
		default:
			outcome.State, outcome.Refused = product.MailDelayed, rejected[bounce.SubType]
		}
	case "DeliveryDelay":
		outcome.State = product.MailDelayed
		outcome.Reason = reason("DeliveryDelay/"+detail.Delay.Type, detail.Delay.Recipients)
	case "Complaint":
		complaint := &detail.Complaint
		switch {
		case suppressed[complaint.SubType]:
			outcome.State, outcome.Reason = product.MailSuppressed, "Complaint/"+complaint.SubType
		case !strings.EqualFold(complaint.FeedbackType, notSpam):
			outcome.State, outcome.Reason = product.MailComplained, complaint.FeedbackType
		}
	case "Reject":
		outcome.State, outcome.Reason = product.MailRefused, detail.Reject.Reason
	case "Rendering Failure":
		outcome.State, outcome.Reason = product.MailRefused, detail.Failure.ErrorMessage
	default:
		return product.Outcome{}, false
	}
	return outcome, true
}

// reason is what kind of event it is, and what the receiver's server said: a mail of ours has one receiver.
func reason(kind string, recipients []recipient) string {
	if len(recipients) == 0 {
		return kind
	}
	said := cmp.Or(recipients[0].DiagnosticCode, recipients[0].Status)
	if said == "" {
		return kind
	}
	return kind + ": " + said
}

func (h *Handler) handle(ctx context.Context, body string) error {
	var event sesEvent
	// A receiver's server may say anything.
	err := json.Unmarshal([]byte(body), &event, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if err != nil {
		return errEvent // without the cause, which may quote an address
	}
	var requestID string
	if tags := event.Detail.Mail.Tags[RequestTag]; len(tags) > 0 {
		requestID = decodeTag(tags[0])
	}
	outcome, known := event.outcome()
	if !known {
		h.log.WarnContext(ctx, "unknown type of event", "request", requestID, "eventType", event.Detail.EventType)
		return nil
	}
	if outcome.State == "" {
		h.logNoChange(ctx, requestID, &event)
		return nil
	}
	err = h.keep(ctx, requestID, outcome)
	switch {
	case fault.Is(err, fault.NotFound):
		h.log.WarnContext(ctx, UnknownMail, "request", requestID, "eventType", event.Detail.EventType)
		return nil
	case fault.Is(err, fault.Conflict): // it comes twice, or tells less than is known
		h.logNoChange(ctx, requestID, &event)
		return nil
	case err != nil:
		return err
	}
	LogOutcome(ctx, h.log, requestID, outcome)
	return nil
}

func (h *Handler) logNoChange(ctx context.Context, requestID string, event *sesEvent) {
	h.log.InfoContext(ctx, "an event that changes nothing",
		"request", requestID, "eventType", event.Detail.EventType)
}

// keep keeps an outcome. It returns a fault NotFound if there is no such mail, Conflict if it tells no more than is
// known, or DynamoDB's error.
func (h *Handler) keep(ctx context.Context, requestID string, outcome product.Outcome) error {
	if requestID == "" {
		return fault.New(fault.NotFound, "")
	}
	mail, err := h.mails.Get(ctx, requestID)
	if err != nil {
		return err
	}
	return h.mails.SetOutcome(ctx, mail, outcome, h.clock.Now())
}
