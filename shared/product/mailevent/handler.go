// Package mailevent keeps what SES tells of activation mails after it took them (docs/contract.md §3). It is apart from
// package mail so that its function carries neither templates, SES nor SQS.
package mailevent

import (
	"context"
	"errors"
	"log/slog"

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
			Type       string `json:"bounceType"`
			SubType    string `json:"bounceSubType"`
			Recipients []struct {
				Status         string `json:"status"`
				DiagnosticCode string `json:"diagnosticCode"`
			} `json:"bouncedRecipients"`
		} `json:"bounce"`
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

// suppressed are the subtypes of a bounce or a complaint that SES makes up itself, without sending the mail: the
// address is on its own list or on the account's.
var suppressed = map[string]bool{"Suppressed": true, "OnAccountSuppressionList": true}

// outcome returns what an event says of its mail; ok is false for one that says nothing.
func (e *sesEvent) outcome() (outcome product.Outcome, ok bool) {
	detail := &e.Detail
	outcome.MessageID = detail.Mail.MessageID
	switch detail.EventType {
	case "Delivery":
		outcome.State = product.MailDelivered
	case "Bounce":
		outcome.State, outcome.Reason = product.MailBounced, e.bounceReason()
		if suppressed[detail.Bounce.SubType] {
			outcome.State = product.MailSuppressed
		}
	case "Complaint":
		outcome.State, outcome.Reason = product.MailComplained, detail.Complaint.FeedbackType
		if suppressed[detail.Complaint.SubType] {
			outcome.State, outcome.Reason = product.MailSuppressed, "Complaint/"+detail.Complaint.SubType
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

// bounceReason is the bounce's type, and what the receiver's server said: a mail of ours has one receiver.
func (e *sesEvent) bounceReason() string {
	bounce := &e.Detail.Bounce
	reason := bounce.Type + "/" + bounce.SubType
	if len(bounce.Recipients) == 0 {
		return reason
	}
	said := bounce.Recipients[0].DiagnosticCode
	if said == "" {
		said = bounce.Recipients[0].Status
	}
	if said == "" {
		return reason
	}
	return reason + ": " + said
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
	err = h.keep(ctx, requestID, outcome)
	switch {
	case fault.Is(err, fault.NotFound):
		h.log.WarnContext(ctx, UnknownMail, "request", requestID, "eventType", event.Detail.EventType)
		return nil
	case fault.Is(err, fault.Conflict):
		return nil // it comes twice, or tells less than is known
	case err != nil:
		return err
	}
	LogOutcome(ctx, h.log, requestID, outcome)
	return nil
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
