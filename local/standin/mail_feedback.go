package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
)

// feedbackTimeout bounds the call that tells of one mail.
const feedbackTimeout = 10 * time.Second

const (
	// simulator is the domain of SES's mailbox simulator:
	// https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html
	simulator = "@simulator.amazonses.com"
	// ownSimulator is that of what SES's does not play.
	ownSimulator = "@simulator.example"
)

// mailEvent is what SES publishes about a mail.
type mailEvent struct {
	detailType string
	detail     object
}

// eventKind is how EventBridge, CloudFormation and the event itself call the same kind of it, and the event's member.
type eventKind struct{ detailType, kind, eventType, member string }

var (
	delivery  = eventKind{"Email Delivered", "delivery", "Delivery", "delivery"}
	delay     = eventKind{"Email Delivery Delayed", "deliveryDelay", "DeliveryDelay", "deliveryDelay"}
	bounce    = eventKind{"Email Bounced", "bounce", "Bounce", "bounce"}
	complaint = eventKind{"Email Complaint Received", "complaint", "Complaint", "complaint"}
	rejection = eventKind{"Email Rejected", "reject", "Reject", "reject"}
)

// happening is something that becomes of a mail to one receiver.
type happening func(to, messageID string, at time.Time) (eventKind, object)

type object = map[string]any

func delivered(to, _ string, _ time.Time) (eventKind, object) {
	return delivery, object{
		"processingTimeMillis": 1000,
		"recipients":           []string{to},
		"smtpResponse":         "250 ok",
		"reportingMTA":         "mta.example.com",
	}
}

// bounced is a bounce; one without a diagnosis came without a report that has one, such as an automatic answer.
func bounced(bounceType, subType, status, diagnosis string) happening {
	return func(to, messageID string, _ time.Time) (eventKind, object) {
		recipient := map[string]string{"emailAddress": to}
		if diagnosis != "" {
			recipient["action"], recipient["status"], recipient["diagnosticCode"] = "failed", status, diagnosis
		}
		return bounce, object{
			"feedbackId":        messageID,
			"bounceType":        bounceType,
			"bounceSubType":     subType,
			"bouncedRecipients": []any{recipient},
			"reportingMTA":      "dns; amazonses.com",
		}
	}
}

func complained(feedbackType string) happening {
	return func(to, messageID string, at time.Time) (eventKind, object) {
		return complaint, object{
			"feedbackId":            messageID,
			"complaintSubType":      nil,
			"complaintFeedbackType": feedbackType,
			"userAgent":             "Amazon SES Mailbox Simulator",
			"complainedRecipients":  []any{map[string]string{"emailAddress": to}},
			"arrivalDate":           timestamp(at.Add(time.Second)),
		}
	}
}

func delayed(to, _ string, at time.Time) (eventKind, object) {
	return delay, object{
		"delayType":      "TransientCommunicationFailure",
		"expirationTime": timestamp(at.Add(14 * time.Hour)),
		"delayedRecipients": []any{map[string]string{
			"emailAddress": to, "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 Unable to connect to remote host",
		}},
	}
}

func rejected(string, string, time.Time) (eventKind, object) {
	return rejection, object{"reason": "Bad content"}
}

// happenings are what becomes of mails to a simulator, by the address. A label behind a plus changes nothing.
var happenings = map[string][]happening{
	"bounce" + simulator: {bounced("Permanent", "General", "5.1.1", "smtp; 550 5.1.1 user unknown")},
	"suppressionlist" + simulator: {
		bounced(
			"Permanent",
			"Suppressed",
			"5.1.1",
			"Amazon SES has suppressed sending to this address because it has a recent history of bouncing as an invalid "+
				"address.",
		),
	},
	"complaint" + simulator: {delivered, complained("abuse")},
	// The automatic answer comes after the delivery, and SES takes it for a bounce.
	"ooto" + simulator: {delivered, bounced("Transient", "General", "", "")},

	"noemail" + ownSimulator:     {bounced("Permanent", "NoEmail", "5.1.1", "smtp; 550 5.1.1 no such mailbox")},
	"accountlist" + ownSimulator: {bounced("Permanent", "OnAccountSuppressionList", "", "")},
	"general" + ownSimulator:     {bounced("Transient", "General", "4.0.0", "smtp; 451 4.0.0 try again later")},
	"mailboxfull" + ownSimulator: {bounced("Transient", "MailboxFull", "4.2.2", "smtp; 452 4.2.2 mailbox full")},
	"messagetoolarge" + ownSimulator: {
		bounced("Transient", "MessageTooLarge", "5.3.4", "smtp; 552 5.3.4 message too large"),
	},
	"contentrejected" + ownSimulator: {
		bounced("Transient", "ContentRejected", "5.6.1", "smtp; 554 5.6.1 content rejected"),
	},
	"attachmentrejected" + ownSimulator: {
		bounced("Transient", "AttachmentRejected", "5.6.1", "smtp; 552 5.6.1 attachment rejected"),
	},
	"undetermined" + ownSimulator: {bounced("Undetermined", "Undetermined", "", "")},
	"late" + ownSimulator:         {delayed, delivered},
	"delayed" + ownSimulator:      {delayed},
	"notspam" + ownSimulator:      {delivered, complained("not-spam")},
	"virus" + ownSimulator:        {rejected},
}

// feedback is what becomes of a mail to each of its receivers, as far as its configuration set wants to know.
func feedback(config MailConfig, request sendEmail, messageID string, at time.Time) []mailEvent {
	about := describe(config, request, messageID, at)
	wanted := config.EventTypes[request.ConfigurationSetName]
	var events []mailEvent
	for _, to := range request.Destination.ToAddresses {
		all := happenings[unlabelled(to)]
		if all == nil {
			all = []happening{delivered}
		}
		for _, happens := range all {
			kind, content := happens(to, messageID, at)
			if !slices.Contains(wanted, kind.kind) {
				continue
			}
			content["timestamp"] = timestamp(at.Add(time.Second))
			detail := object{"eventType": kind.eventType, "mail": about, kind.member: content}
			events = append(events, mailEvent{kind.detailType, detail})
		}
	}
	return events
}

// simulated is which address of SES's simulator it is, without its label; empty for one of somebody's.
func simulated(address string) string {
	if address = unlabelled(address); strings.HasSuffix(address, simulator) {
		return address
	}
	return ""
}

// unlabelled is an address in small letters, without what stands behind a plus in its local part.
func unlabelled(address string) string {
	local, domain, _ := strings.Cut(strings.ToLower(address), "@")
	name, _, _ := strings.Cut(local, "+")
	return name + "@" + domain
}

// describe is the mail itself in an event.
func describe(config MailConfig, request sendEmail, messageID string, at time.Time) map[string]any {
	var domain string
	if from, err := mail.ParseAddress(request.FromEmailAddress); err == nil {
		_, domain, _ = strings.Cut(from.Address, "@")
	}
	tags := map[string][]string{"ses:from-domain": {domain}}
	if request.ConfigurationSetName != "" {
		tags["ses:configuration-set"] = []string{request.ConfigurationSetName}
	}
	for _, tag := range request.EmailTags {
		tags[tag.Name] = append(tags[tag.Name], tag.Value)
	}
	subject := request.Content.Simple.Subject.Data
	return map[string]any{
		"timestamp":        timestamp(at),
		"source":           request.FromEmailAddress,
		"sourceArn":        fmt.Sprintf("arn:aws:ses:%s:%s:identity/%s", config.Region, config.AccountID, domain),
		"sendingAccountId": config.AccountID,
		"messageId":        messageID,
		"destination":      request.Destination.ToAddresses,
		"headersTruncated": false,
		"headers": []any{
			map[string]string{"name": "From", "value": request.FromEmailAddress},
			map[string]string{"name": "To", "value": strings.Join(request.Destination.ToAddresses, ", ")},
			map[string]string{"name": "Subject", "value": subject},
		},
		"commonHeaders": map[string]any{
			"from": []string{
				request.FromEmailAddress,
			},
			"to":        request.Destination.ToAddresses,
			"messageId": messageID,
			"subject":   subject,
		},
		"tags": tags,
	}
}

func timestamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// publish puts the events on the default bus. AWS itself would take none of that
// source from anybody but SES.
func publish(ctx context.Context, config MailConfig, events []mailEvent) error {
	ctx, cancel := context.WithTimeout(ctx, feedbackTimeout)
	defer cancel()
	var errs []error
	for _, event := range events {
		detail, err := json.Marshal(event.detail)
		if err != nil {
			return err
		}
		// One after the other, so that they arrive in this order as long as nothing fails.
		out, err := config.Events.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
			Source: aws.String("aws.ses"), DetailType: aws.String(event.detailType), Detail: aws.String(string(detail)),
		}}})
		if err == nil && out.FailedEntryCount > 0 {
			err = errors.New(aws.ToString(out.Entries[0].ErrorMessage))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
