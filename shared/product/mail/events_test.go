package mail_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/product"
	"carillon/shared/product/mailevent"
	"carillon/shared/product/store"
	"carillon/shared/stackname"
)

func tagOf(requestID string) string { return base64.RawURLEncoding.EncodeToString([]byte(requestID)) }

// event is one of SES as EventBridge delivers it.
func event(eventType, member, tag string) string {
	return `{"version":"0","id":"12345678-1234-1234-1234-111122223333","detail-type":"Email ` + eventType + `",
		"source":"aws.ses","account":"123456789012","time":"2026-11-22T12:01:00Z","region":"us-east-1",
		"resources":["arn:aws:ses:us-east-1:123456789012:configuration-set/carillon-mail"],
		"detail":{"eventType":"` + eventType + `",` + member + `,"mail":{"timestamp":"2026-11-22T12:00:00.000Z",
			"source":"activation@mail.example.com","messageId":"m-1","destination":["abc@gmail.com"],
			"headersTruncated":false,"headers":[{"name":"Subject","value":"x"}],"commonHeaders":{"subject":"x"},
			"tags":{"ses:configuration-set":["carillon-mail"],"request":["` + tag + `"]}}}}`
}

func bounce(kind, subtype, recipients string) string {
	return `"bounce":{"feedbackId":"f","bounceType":"` + kind + `","bounceSubType":"` + subtype + `",
		"bouncedRecipients":[` + recipients + `],
		"timestamp":"2026-11-22T12:01:00.000Z","reportingMTA":"dsn; b.example"}`
}

const recipient = `{"emailAddress":"abc@gmail.com","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550 ` +
	`5.1.1 user unknown"}`

// docs/contract.md §3: a bounce, a refusal or a suppressed address is recorded on the product.
func TestAnEventsOutcomeIsShownOnTheProduct(t *testing.T) {
	tests := map[string]struct {
		eventType, member string
		state             product.MailState
		reason            string
		refused           int
	}{
		"delivered": {"Delivery", `"delivery":{"recipients":["abc@gmail.com"],"smtpResponse":"250 ok"}`,
			product.MailDelivered, "", 0},
		"no such mailbox": {"Bounce", bounce("Permanent", "General", recipient), product.MailBounced,
			"Permanent/General: smtp; 550 5.1.1 user unknown", 1},
		"a bounce without a code": {"Bounce", bounce("Permanent", "General",
			`{"emailAddress":"abc@gmail.com","status":"5.0.0"}`), product.MailBounced,
			"Permanent/General: 5.0.0", 1},
		"a bounce of nobody": {"Bounce", bounce("Permanent", "NoEmail", ``), product.MailBounced,
			"Permanent/NoEmail", 1},
		"a bounce of few words": {"Bounce", bounce("Permanent", "General", `{"emailAddress":"abc@gmail.com"}`),
			product.MailBounced, "Permanent/General", 1},
		"a bounce of another subtype": {"Bounce", bounce("Permanent", "OfTomorrow", ``), product.MailBounced,
			"Permanent/OfTomorrow", 1},
		"a full mailbox": {"Bounce", bounce("Transient", "MailboxFull", recipient), product.MailDelayed,
			"Transient/MailboxFull: smtp; 550 5.1.1 user unknown", 0},
		"a transient trouble": {"Bounce", bounce("Transient", "General", recipient), product.MailDelayed,
			"Transient/General: smtp; 550 5.1.1 user unknown", 0},
		"an out-of-office answer": {"Bounce", bounce("Transient", "General", `{"emailAddress":"abc@gmail.com"}`),
			product.MailDelayed, "Transient/General", 0},
		"a mail that is too large": {"Bounce", bounce("Transient", "MessageTooLarge", ``), product.MailDelayed,
			"Transient/MessageTooLarge", 1},
		"a content that is refused": {"Bounce", bounce("Transient", "ContentRejected", ``), product.MailDelayed,
			"Transient/ContentRejected", 1},
		"an attachment that is refused": {"Bounce", bounce("Transient", "AttachmentRejected", ``),
			product.MailDelayed, "Transient/AttachmentRejected", 1},
		"a bounce for no known reason": {"Bounce", bounce("Undetermined", "Undetermined", ``), product.MailDelayed,
			"Undetermined/Undetermined", 0},
		"a bounce of tomorrow": {"Bounce", bounce("Something", "General", ``), product.MailDelayed,
			"Something/General", 0},
		"a delay": {"DeliveryDelay", `"deliveryDelay":{"delayType":"MailboxFull","expirationTime":
			"2026-11-23T02:00:00.000Z","delayedRecipients":[{"emailAddress":"abc@gmail.com","status":"4.2.2",
			"diagnosticCode":"smtp; 452 4.2.2 full"}]}`, product.MailDelayed,
			"DeliveryDelay/MailboxFull: smtp; 452 4.2.2 full", 0},
		"a delay of few words": {"DeliveryDelay", `"deliveryDelay":{}`, product.MailDelayed, "DeliveryDelay/", 0},
		"suppressed by SES": {"Bounce", bounce("Permanent", "Suppressed", `{"emailAddress":"abc@gmail.com"}`),
			product.MailSuppressed, "Permanent/Suppressed", 1},
		"suppressed by us": {"Bounce", bounce("Permanent", "OnAccountSuppressionList",
			`{"emailAddress":"abc@gmail.com"}`), product.MailSuppressed, "Permanent/OnAccountSuppressionList", 1},
		"spam": {"Complaint",
			`"complaint":{"complaintSubType":null,"complaintFeedbackType":"abuse"}`, product.MailComplained, "abuse",
			0},
		"spam without a type": {"Complaint", `"complaint":{"complainedRecipients":[]}`, product.MailComplained, "",
			0},
		"a failed authentication": {"Complaint",
			`"complaint":{"complaintFeedbackType":"auth-failure"}`, product.MailComplained, "auth-failure", 0},
		"a complaint kept by us": {"Complaint", `"complaint":{"complaintSubType":"OnAccountSuppressionList"}`,
			product.MailSuppressed, "Complaint/OnAccountSuppressionList", 1},
		"a virus": {"Reject", `"reject":{"reason":"Bad content"}`, product.MailRefused, "Bad content",
			1},
		"a rendering failure": {"Rendering Failure",
			`"failure":{"errorMessage":"Attribute is missing","templateName":"x"}`, product.MailRefused,
			"Attribute is missing", 1},
		"a server's long answer": {"Bounce", bounce("Permanent", "General",
			`{"diagnosticCode":"550\r\n\u0000`+strings.Repeat("x", 5000)+`"}`), product.MailBounced,
			"Permanent/General: 550 " + strings.Repeat("x", 255-len("Permanent/General: 550 ")) + "…", 1},
		"a server's odd bytes": {"Bounce", bounce("Permanent", "General", "{\"diagnosticCode\":\"550 \xff\"}"),
			product.MailBounced, "Permanent/General: 550", 1},
	}
	b := deploy(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := b.keep(name)
			require.Empty(t, b.deliver(messageOf(name)))
			b.clock.Advance(time.Minute)
			for range 2 { // SQS delivers at least once
				assert.Empty(t, b.tell(event(test.eventType, test.member, tagOf(name))))
			}
			state, reason, at := b.shown(m)
			assert.Equal(t, test.state, state)
			assert.Equal(t, test.reason, reason)
			assert.Equal(t, b.clock.Now(), at)
			assert.Equal(t, test.state, b.state(name))
			assert.Equal(t, "m-1", dynamo.GetString(b.kept(name), "sesMessageId"))
			lines := b.lines("mail")
			assert.EqualValues(t, test.refused, lines[len(lines)-1]["mailsRefused"])
			assert.Equal(t, test.refused == 1, lines[len(lines)-1]["level"] == "WARN")
		})
	}
}

// An event that says nothing, or nothing of ours, is done with.
func TestAnEventThatSaysNothingIsDoneWith(t *testing.T) {
	b := deploy(t)
	m := b.keep(request)
	for name, body := range map[string]string{
		"a type that is not recorded": event("Send", `"send":{}`, tagOf(request)),
		"a complaint that is none": event("Complaint", `"complaint":{"complaintFeedbackType":"not-spam"}`,
			tagOf(request)),
		"the same in other letters": event("Complaint", `"complaint":{"complaintFeedbackType":"Not-Spam"}`,
			tagOf(request)),
		"a type of tomorrow":        event("Something", `"something":{}`, tagOf(request)),
		"a request that is unknown": event("Delivery", `"delivery":{}`, tagOf("nobody's")),
		"a tag of another's":        event("Delivery", `"delivery":{}`, "not base64!"),
		"an empty tag":              event("Delivery", `"delivery":{}`, ""),
		"no tag": strings.Replace(event("Delivery", `"delivery":{}`, ""), `"request":[""]`,
			`"request":[]`, 1),
		"an empty object":             `{}`,
		"an event of another service": `{"source":"aws.s3","detail":{"eventType":"Delivery"}}`,
	} {
		assert.Empty(t, b.tell(body), name)
	}
	state, _, _ := b.shown(m)
	assert.Equal(t, product.MailPending, state)
}

func TestWhatIsNoEventComesAgainAndEndsInTheDeadLetters(t *testing.T) {
	b := deploy(t)
	b.keep(request)
	good := event("Delivery", `"delivery":{}`, tagOf(request))
	assert.Equal(t, "a b d", b.tell(`not JSON`, `[]`, good, event("Bounce", `"bounce":[]`, tagOf(request))))
	assert.Equal(t, product.MailDelivered, b.state(request))
}

func TestAnEventComesAgainWhenAWSFails(t *testing.T) {
	b := deploy(t)
	b.keep(request)
	b.aws = func(w http.ResponseWriter, _ emulatortest.Call) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	body := event("Delivery", `"delivery":{}`, tagOf(request))
	assert.Equal(t, "a", b.tell(body))
	b.aws = nil
	assert.Empty(t, b.tell(body))
	assert.Equal(t, product.MailDelivered, b.state(request))
}

// What SES tells of a mail that was delivered: an automatic answer, a full mailbox behind a forwarding and a report
// that it is no spam leave it so; what is final does not.
func TestWhatComesAfterADelivery(t *testing.T) {
	b := deploy(t)
	for name, test := range map[string]struct {
		eventType, member string
		state             product.MailState
	}{
		"an out-of-office answer": {"Bounce", bounce("Transient", "General", ``), product.MailDelivered},
		"the same, undetermined":  {"Bounce", bounce("Undetermined", "Undetermined", ``), product.MailDelivered},
		"a full mailbox":          {"Bounce", bounce("Transient", "MailboxFull", ``), product.MailDelivered},
		"a refused content":       {"Bounce", bounce("Transient", "ContentRejected", ``), product.MailDelivered},
		"an old delay":            {"DeliveryDelay", `"deliveryDelay":{"delayType":"General"}`, product.MailDelivered},
		"no spam": {"Complaint", `"complaint":{"complaintFeedbackType":"not-spam"}`,
			product.MailDelivered},
		"no such mailbox": {"Bounce", bounce("Permanent", "General", recipient), product.MailBounced},
		"spam": {"Complaint", `"complaint":{"complaintFeedbackType":"abuse"}`,
			product.MailComplained},
	} {
		t.Run(name, func(t *testing.T) {
			m := b.keep(name)
			require.Empty(t, b.deliver(messageOf(name)))
			require.Empty(t, b.tell(event("Delivery", `"delivery":{}`, tagOf(name))))
			require.Empty(t, b.tell(event(test.eventType, test.member, tagOf(name))))
			state, reason, _ := b.shown(m)
			assert.Equal(t, test.state, state)
			assert.Equal(t, test.state == product.MailDelivered, reason == "")
		})
	}
	t.Run("a delay before it", func(t *testing.T) {
		m := b.keep("delayed")
		require.Empty(t, b.deliver(messageOf("delayed")))
		require.Empty(t, b.tell(event("DeliveryDelay", `"deliveryDelay":{"delayType":"General"}`, tagOf("delayed"))))
		state, reason, _ := b.shown(m)
		assert.Equal(t, product.MailDelayed, state)
		assert.Equal(t, "DeliveryDelay/General", reason)
		require.Empty(t, b.tell(event("Delivery", `"delivery":{}`, tagOf("delayed"))))
		state, reason, _ = b.shown(m)
		assert.Equal(t, product.MailDelivered, state)
		assert.Empty(t, reason)
	})
}

// told is what SES may tell of a mail, each by how much it tells: the state of a mail is that of the furthest.
var told = []struct {
	state             product.MailState
	eventType, member string
}{
	{product.MailSent, "Send", `"send":{}`},
	{product.MailSent, "Complaint", `"complaint":{"complaintFeedbackType":"not-spam"}`},
	{product.MailDelayed, "DeliveryDelay", `"deliveryDelay":{"delayType":"General"}`},
	{product.MailDelayed, "Bounce", bounce("Transient", "MailboxFull", ``)},
	{product.MailDelayed, "Bounce", bounce("Undetermined", "Undetermined", ``)},
	{product.MailDelivered, "Delivery", `"delivery":{}`},
	{product.MailRefused, "Reject", `"reject":{"reason":"Bad content"}`},
	{product.MailSuppressed, "Bounce", bounce("Permanent", "OnAccountSuppressionList", ``)},
	{product.MailSuppressed, "Complaint", `"complaint":{"complaintSubType":"OnAccountSuppressionList"}`},
	{product.MailBounced, "Bounce", bounce("Permanent", "General", recipient)},
	{product.MailComplained, "Complaint", `"complaint":{"complaintFeedbackType":"abuse"}`},
}

// Events come in any order and more than once, and before or after what SES answered was recorded: the same events end
// in the same state, on the mail and on its product.
func TestTheOrderOfEventsDoesNotMatter(t *testing.T) {
	b := deploy(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		name := fmt.Sprint("request ", n)
		m := b.keep(name)
		events := rapid.SliceOfN(rapid.IntRange(0, len(told)-1), 0, 5).Draw(rt, "events")
		sentAfter := rapid.IntRange(0, len(events)).Draw(rt, "sent after so many of them")
		furthest := 0
		for i := range len(events) + 1 {
			if i == sentAfter {
				require.Empty(rt, b.deliver(messageOf(name)))
			}
			if i < len(events) {
				next := told[events[i]]
				require.Empty(rt, b.tell(event(next.eventType, next.member, tagOf(name))))
				furthest = max(furthest, events[i])
			}
		}
		state, _, _ := b.shown(m)
		require.Equal(rt, told[furthest].state, state)
		require.Equal(rt, state, b.state(name))
	})
}

// FuzzEventHandler tells of a mail that is not there whatever comes.
func FuzzEventHandler(f *testing.F) {
	f.Add(event("Bounce", bounce("Permanent", "General", recipient), tagOf("nobody's")))
	f.Add(event("Complaint", `"complaint":{"complaintFeedbackType":"abuse"}`, tagOf("nobody's")))
	f.Add(`{"detail":{"eventType":"Delivery","mail":{"tags":{"request":["bm9ib2R5"]}}}}`)
	f.Add(`{"detail":{"mail":{"tags":{"request":null}}}}`)
	name := emulatortest.Deploy(f)
	mails := store.NewMails(
		emulatortest.DynamoDB(),
		stackname.MailsTable(name),
		stackname.ProductsTable(name),
		clock.System{},
	)
	handler := mailevent.NewHandler(mails, clock.System{}, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, body string) {
		response, err := handler.Handle(t.Context(), sqsEvent(body))
		require.NoError(t, err)
		if !json.Valid([]byte(body)) {
			assert.Equal(t, "a", failures(response))
		}
	})
}
