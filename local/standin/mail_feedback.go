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

// simulator is the domain of SES's mailbox simulator.
const simulator = "@simulator.amazonses.com"

// mailEvent is what SES publishes about a mail: an event's detail, and how EventBridge and CloudFormation call it.
type mailEvent struct {
	detailType, kind string
	detail           map[string]any
}

// feedback is what becomes of a mail to each of its receivers, as far as its configuration set wants to know.
func feedback(config MailConfig, request sendEmail, messageID string, at time.Time) []mailEvent {
	about := describe(config, request, messageID, at)
	event := func(detailType, kind, eventType, member string, content map[string]any) mailEvent {
		content["timestamp"] = timestamp(at.Add(time.Second))
		return mailEvent{detailType, kind, map[string]any{"eventType": eventType, "mail": about, member: content}}
	}
	var events []mailEvent
	for _, to := range request.Destination.ToAddresses {
		recipients := []string{to}
		delivered := event("Email Delivered", "delivery", "Delivery", "delivery", map[string]any{
			"processingTimeMillis": 1000,
			"recipients":           recipients,
			"smtpResponse":         "250 ok",
			"reportingMTA":         "mta.example.com",
		})
		bounced := func(subType, diagnosis string) mailEvent {
			return event("Email Bounced", "bounce", "Bounce", "bounce", map[string]any{
				"feedbackId":    messageID,
				"bounceType":    "Permanent",
				"bounceSubType": subType,
				"bouncedRecipients": []any{
					map[string]string{
						"emailAddress":   to,
						"action":         "failed",
						"status":         "5.1.1",
						"diagnosticCode": diagnosis,
					},
				},
				"reportingMTA": "dns; amazonses.com",
			})
		}
		switch simulated(to) {
		case "bounce":
			events = append(events, bounced("General", "smtp; 550 5.1.1 user unknown"))
		case "suppressionlist":
			events = append(events, bounced(
				"Suppressed",
				"Amazon SES has suppressed sending to this address because it has a recent history of bouncing as an invalid address.",
			))
		case "complaint":
			events = append(
				events,
				delivered,
				event("Email Complaint Received", "complaint", "Complaint", "complaint", map[string]any{
					"feedbackId":            messageID,
					"complaintFeedbackType": "abuse",
					"userAgent":             "Amazon SES Mailbox Simulator",
					"complainedRecipients": []any{
						map[string]string{"emailAddress": to},
					},
					"arrivalDate": timestamp(at.Add(time.Second)),
				}),
			)
		default:
			events = append(events, delivered)
		}
	}
	wanted := config.EventTypes[request.ConfigurationSetName]
	return slices.DeleteFunc(events, func(e mailEvent) bool { return !slices.Contains(wanted, e.kind) })
}

// simulated is which of the simulator's addresses it is, without its label; empty for an address of somebody's.
func simulated(address string) string {
	local, is := strings.CutSuffix(strings.ToLower(address), simulator)
	if !is {
		return ""
	}
	name, _, _ := strings.Cut(local, "+")
	return name
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
