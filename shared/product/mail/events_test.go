package mail_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
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
		"a bounce without a code": {"Bounce", bounce("Undetermined", "Undetermined",
			`{"emailAddress":"abc@gmail.com","status":"5.0.0"}`), product.MailBounced,
			"Undetermined/Undetermined: 5.0.0", 1},
		"a bounce of nobody": {"Bounce", bounce("Permanent", "NoEmail", ``), product.MailBounced,
			"Permanent/NoEmail", 1},
		"a bounce of few words": {"Bounce", bounce("Permanent", "General", `{"emailAddress":"abc@gmail.com"}`),
			product.MailBounced, "Permanent/General", 1},
		"a full mailbox": {"Bounce", bounce("Transient", "MailboxFull", recipient), product.MailBounced,
			"Transient/MailboxFull: smtp; 550 5.1.1 user unknown", 1},
		"suppressed by SES": {"Bounce", bounce("Permanent", "Suppressed", `{"emailAddress":"abc@gmail.com"}`),
			product.MailSuppressed, "Permanent/Suppressed", 1},
		"suppressed by us": {"Bounce", bounce("Permanent", "OnAccountSuppressionList",
			`{"emailAddress":"abc@gmail.com"}`), product.MailSuppressed, "Permanent/OnAccountSuppressionList", 1},
		"spam": {"Complaint",
			`"complaint":{"complaintSubType":null,"complaintFeedbackType":"abuse"}`, product.MailComplained, "abuse",
			0},
		"spam without a type": {"Complaint", `"complaint":{"complainedRecipients":[]}`, product.MailComplained, "",
			0},
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
			log := b.log.String()
			last := log[strings.LastIndex(strings.TrimSpace(log), "\n")+1:]
			assert.Contains(t, last, fmt.Sprintf(`"mailsRefused":%d`, test.refused))
		})
	}
}

// An event that says nothing, or nothing of ours, is done with.
func TestAnEventThatSaysNothingIsDoneWith(t *testing.T) {
	b := deploy(t)
	m := b.keep(request)
	for name, body := range map[string]string{
		"a type that is not recorded": event("Send", `"send":{}`, tagOf(request)),
		"a delay":                     event("DeliveryDelay", `"deliveryDelay":{}`, tagOf(request)),
		"a type of tomorrow":          event("Something", `"something":{}`, tagOf(request)),
		"a request that is unknown":   event("Delivery", `"delivery":{}`, tagOf("nobody's")),
		"a tag of another's":          event("Delivery", `"delivery":{}`, "not base64!"),
		"an empty tag":                event("Delivery", `"delivery":{}`, ""),
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

// Events come in any order and more than once: what is recorded in the end does not depend on that.
func TestTheOrderOfEventsDoesNotMatter(t *testing.T) {
	b := deploy(t)
	kinds := map[string]string{
		"Delivery": `"delivery":{}`, "Bounce": bounce("Permanent", "General", recipient),
		"Complaint": `"complaint":{"complaintFeedbackType":"abuse"}`,
	}
	progress := []string{"", "Delivery", "Bounce", "Complaint"}
	states := []product.MailState{product.MailSent, product.MailDelivered, product.MailBounced, product.MailComplained}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		name := fmt.Sprint("request ", n)
		m := b.keep(name)
		sentAfter := rapid.IntRange(0, 4).Draw(rt, "sent after so many events")
		told := rapid.SliceOfN(rapid.SampledFrom(progress[1:]), 0, 4).Draw(rt, "events")
		furthest := 0
		for i := range 5 {
			if i == sentAfter {
				require.Empty(rt, b.deliver(messageOf(name)))
			}
			if i < len(told) {
				require.Empty(rt, b.tell(event(told[i], kinds[told[i]], tagOf(name))))
				furthest = max(furthest, slices.Index(progress, told[i]))
			}
		}
		state, _, _ := b.shown(m)
		require.Equal(rt, states[furthest], state)
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
