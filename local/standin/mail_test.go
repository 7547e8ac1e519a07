package standin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	sestypes "github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/local/standin"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// mailbox is a stack's, with its configuration set and the rule behind it.
type mailbox struct {
	partners
	mail  *standin.Mail
	ses   *sesv2.Client
	stack string
}

func startMailbox(t *testing.T, eventTypes ...string) mailbox {
	t.Helper()
	m := mailbox{mail: standin.NewMail(), stack: emulatortest.Deploy(t)}
	server, err := standin.Start(m.mail)
	require.NoError(t, err)
	control := httptest.NewServer(server.Control())
	t.Cleanup(func() { control.Close(); server.Close(); m.mail.Close() })
	m.partners = partners{Server: server, control: control.URL + "/_local/"}
	m.ses = emulatortest.SESv2At(server.URL("mail"))
	require.NoError(t, m.mail.Connect(standin.MailConfig{
		Endpoint: emulatortest.AWSEndpoint(), Events: emulatortest.EventBridge(),
		EventTypes: map[string][]string{stackname.MailConfigurationSet(m.stack): eventTypes},
		AccountID:  "000000000000", Region: emulatortest.Region, Log: func(line string) { t.Error(line) },
	}))
	return m
}

// send sends a mail, changed as the test wants it.
func (m mailbox) send(ctx context.Context, to string, change func(*sesv2.SendEmailInput)) error {
	in := &sesv2.SendEmailInput{
		FromEmailAddress:     aws.String(emulatortest.MailFrom),
		ConfigurationSetName: aws.String(stackname.MailConfigurationSet(m.stack)),
		Destination:          &sestypes.Destination{ToAddresses: []string{to}},
		EmailTags:            []sestypes.MessageTag{{Name: aws.String("request"), Value: aws.String("op-1")}},
		Content: &sestypes.EmailContent{Simple: &sestypes.Message{
			Subject: &sestypes.Content{Data: aws.String("Your <service>")},
			Body: &sestypes.Body{
				Text: &sestypes.Content{Data: aws.String("Open the link")},
				Html: &sestypes.Content{
					Data: aws.String(`<p>Open the link</p><img src="https://example.com/"></iframe>`),
				},
			},
		}},
	}
	if change != nil {
		change(in)
	}
	_, err := m.ses.SendEmail(ctx, in)
	return err
}

func TestMailboxKeepsWhatSESAccepts(t *testing.T) {
	m := startMailbox(t)
	require.NoError(t, m.send(t.Context(), "ann@example.com", nil))
	got := m.received(t, "mail")
	require.Len(t, got, 1)
	assert.NotEmpty(t, got[0]["at"])
	delete(got[0], "at")
	assert.Equal(t, map[string]any{
		"from": emulatortest.MailFrom, "to": "ann@example.com", "subject": "Your <service>", "text": "Open the link",
		"html": `<p>Open the link</p><img src="https://example.com/"></iframe>`,
	}, got[0])

	do(t, http.MethodDelete, m.control+"mail", "", nil)
	assert.Empty(t, m.received(t, "mail"))
}

func TestMailboxKeepsNothingElse(t *testing.T) {
	m := startMailbox(t)
	throttled := standin.Answer{
		Status:  429,
		Headers: map[string]string{"X-Amzn-ErrorType": "TooManyRequestsException"},
		Body:    `{"message":"slow"}`,
	}
	for _, c := range []struct {
		name   string
		script []standin.Answer
		change func(*sesv2.SendEmailInput)
		want   any
	}{
		{name: "scripted refusal", script: []standin.Answer{throttled}, want: new(*sestypes.TooManyRequestsException)},
		{
			name: "sender that is not verified", want: new(*sestypes.MessageRejected),
			change: func(in *sesv2.SendEmailInput) { in.FromEmailAddress = aws.String("ann@elsewhere.example") },
		},
		{
			name: "unknown configuration set", want: new(*sestypes.NotFoundException),
			change: func(in *sesv2.SendEmailInput) { in.ConfigurationSetName = aws.String("other") },
		},
		{
			name: "tag that SES does not take", want: new(*sestypes.BadRequestException),
			change: func(in *sesv2.SendEmailInput) { in.EmailTags[0].Value = aws.String("JKJaXmPLvHcESHA=") },
		},
		{
			name: "content that the page could not show", want: new(*sestypes.BadRequestException),
			change: func(in *sesv2.SendEmailInput) {
				in.Content = &sestypes.EmailContent{Raw: &sestypes.RawMessage{Data: []byte("To: ann")}}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, m.Script("mail", c.script...))
			require.ErrorAs(t, m.send(t.Context(), "ann@example.com", c.change), c.want)
			assert.Empty(t, m.mail.Messages())
		})
	}
	_, err := m.ses.GetEmailIdentity(
		t.Context(),
		&sesv2.GetEmailIdentityInput{EmailIdentity: aws.String("mail.example.com")},
	)
	require.NoError(t, err, "every other call goes through")
	assert.Empty(t, m.mail.Messages())
}

func TestMailIsKeptThoughItsAnswerIsLost(t *testing.T) {
	m := startMailbox(t)
	require.NoError(t, m.Script("mail", standin.Answer{Cut: true}))
	require.Error(t, m.send(t.Context(), "ann@example.com", nil))
	assert.Len(t, m.mail.Messages(), 1)
}

func TestMailboxWithoutEmulator(t *testing.T) {
	mail := standin.NewMail()
	recorder := httptest.NewRecorder()
	mail.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/v2/email/account", nil))
	assert.Equal(t, http.StatusServiceUnavailable, recorder.Code)
}

// sesEvent is what the functions read of an event.
type sesEvent struct {
	Source     string
	DetailType string `json:"detail-type"`
	Detail     struct {
		EventType string
		Mail      struct {
			MessageID   string
			Destination []string
			Tags        map[string][]string
		}
		Bounce struct {
			BounceType, BounceSubType string
			BouncedRecipients         []struct{ EmailAddress, Status string }
		}
		Complaint     struct{ ComplaintFeedbackType string }
		DeliveryDelay struct{ DelayType string }
		Reject        struct{ Reason string }
	}
}

// told is what the rule brought to the stack's queue, once the mailbox has told all.
func (m mailbox) told(t *testing.T) []sesEvent {
	t.Helper()
	m.mail.Close()
	client := emulatortest.SQS()
	queue, err := client.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{
		QueueName: aws.String(stackname.MailEventQueue(m.stack)),
	})
	require.NoError(t, err)
	var events []sesEvent
	for {
		out, err := client.ReceiveMessage(
			t.Context(),
			&sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, MaxNumberOfMessages: 10},
		)
		require.NoError(t, err)
		if len(out.Messages) == 0 {
			return events
		}
		for _, message := range out.Messages {
			var event sesEvent
			require.NoError(t, json.Unmarshal([]byte(aws.ToString(message.Body)), &event))
			events = append(events, event)
		}
	}
}

func TestMailboxTellsWhatBecameOfMails(t *testing.T) {
	for _, c := range []struct {
		to   string
		want []string // each event's type, and what it says
	}{
		{"ann@example.com", []string{"Email Delivered"}},
		{"bounce@example.com", []string{"Email Delivered"}},
		{"success@simulator.amazonses.com", []string{"Email Delivered"}},
		{"bounce@simulator.amazonses.com", []string{"Email Bounced Permanent/General"}},
		{"bounce+label@simulator.amazonses.com", []string{"Email Bounced Permanent/General"}},
		{"Suppressionlist@simulator.amazonses.com", []string{"Email Bounced Permanent/Suppressed"}},
		{"complaint@simulator.amazonses.com", []string{"Email Complaint Received abuse", "Email Delivered"}},
		{"ooto@simulator.amazonses.com", []string{"Email Bounced Transient/General", "Email Delivered"}},
		{"noemail@simulator.example", []string{"Email Bounced Permanent/NoEmail"}},
		{"accountlist@simulator.example", []string{"Email Bounced Permanent/OnAccountSuppressionList"}},
		{"general@simulator.example", []string{"Email Bounced Transient/General"}},
		{"mailboxfull+1@simulator.example", []string{"Email Bounced Transient/MailboxFull"}},
		{"messagetoolarge@simulator.example", []string{"Email Bounced Transient/MessageTooLarge"}},
		{"contentrejected@simulator.example", []string{"Email Bounced Transient/ContentRejected"}},
		{"attachmentrejected@simulator.example", []string{"Email Bounced Transient/AttachmentRejected"}},
		{"undetermined@simulator.example", []string{"Email Bounced Undetermined/Undetermined"}},
		{"late@simulator.example", []string{"Email Delivered", "Email Delivery Delayed TransientCommunicationFailure"}},
		{"delayed@simulator.example", []string{"Email Delivery Delayed TransientCommunicationFailure"}},
		{"notspam@simulator.example", []string{"Email Complaint Received not-spam", "Email Delivered"}},
		{"virus@simulator.example", []string{"Email Rejected Bad content"}},
	} {
		t.Run(c.to, func(t *testing.T) {
			m := startMailbox(t, "delivery", "deliveryDelay", "bounce", "complaint", "reject")
			require.NoError(t, m.send(t.Context(), c.to, nil))
			var said []string
			for _, event := range m.told(t) {
				text, bounce := event.DetailType, event.Detail.Bounce
				if bounce.BounceType != "" {
					text += " " + bounce.BounceType + "/" + bounce.BounceSubType
					assert.Equal(t, c.to, bounce.BouncedRecipients[0].EmailAddress)
				}
				what := event.Detail.Complaint.ComplaintFeedbackType + event.Detail.DeliveryDelay.DelayType +
					event.Detail.Reject.Reason
				said = append(said, strings.TrimSpace(text+" "+what))
				assert.Equal(t, "aws.ses", event.Source)
				assert.Equal(t, []string{c.to}, event.Detail.Mail.Destination)
				assert.NotEmpty(t, event.Detail.Mail.MessageID)
				assert.Equal(t, []string{"op-1"}, event.Detail.Mail.Tags["request"])
			}
			slices.Sort(said)
			assert.Equal(t, c.want, said)
		})
	}
}

// SES refuses every mail for a fault of the account, until that is mended. In the sandbox its simulator is reached.
func TestMailboxOfAFaultyAccount(t *testing.T) {
	m := startMailbox(t)
	const simulated = "success@simulator.amazonses.com"
	for fault, test := range map[string]struct {
		want      any
		message   string // part of it
		simulated bool   // SES's simulator is reached
	}{
		"paused":     {want: new(*sestypes.SendingPausedException)},
		"suspended":  {want: new(*sestypes.AccountSuspendedException)},
		"mailFrom":   {want: new(*sestypes.MailFromDomainNotVerifiedException)},
		"unverified": {want: new(*sestypes.MessageRejected), message: "not verified. The following identities failed"},
		"sandbox":    {want: new(*sestypes.MessageRejected), message: "US-EAST-1: ann@example.com", simulated: true},
		"quota":      {want: new(*sestypes.LimitExceededException), message: "Daily message quota exceeded."},
	} {
		t.Run(fault, func(t *testing.T) {
			res, body := do(t, http.MethodPost, m.control+"mail", `{"account":"`+fault+`"}`, nil)
			require.Equal(t, http.StatusNoContent, res.StatusCode, body)
			for range 2 {
				err := m.send(t.Context(), "ann@example.com", nil)
				require.ErrorAs(t, err, test.want)
				require.ErrorContains(t, err, test.message)
			}
			assert.Equal(t, test.simulated, m.send(t.Context(), simulated, nil) == nil)
			do(t, http.MethodPost, m.control+"mail", `{"account":""}`, nil)
			require.NoError(t, m.send(t.Context(), "ann@example.com", nil))
		})
	}
	res, body := do(t, http.MethodPost, m.control+"mail", `{"account":"bankrupt"}`, nil)
	assert.Equal(t, http.StatusBadRequest, res.StatusCode)
	assert.Contains(t, body, "mailFrom, paused, quota, sandbox, suspended, unverified")

	require.NoError(t, m.mail.SetAccount("paused"))
	do(t, http.MethodPost, m.control+"mail", `{"next":[]}`, nil)
	require.Error(t, m.send(t.Context(), "ann@example.com", nil), "a script says nothing of the account")
	do(t, http.MethodDelete, m.control+"mail", "", nil)
	require.NoError(t, m.send(t.Context(), "ann@example.com", nil))
}

func TestMailboxTellsWhatTheConfigurationSetWants(t *testing.T) {
	m := startMailbox(t, "bounce")
	require.NoError(t, m.send(t.Context(), "ann@example.com", nil))
	require.NoError(
		t,
		m.send(
			t.Context(),
			"bounce@simulator.amazonses.com",
			func(in *sesv2.SendEmailInput) { in.ConfigurationSetName = nil },
		),
	)
	assert.Empty(t, m.told(t))
}

func TestPageShowsMailsAsTheirReadersSeeThem(t *testing.T) {
	m := startMailbox(t)
	require.NoError(t, m.send(t.Context(), "ann@example.com", nil))
	res, page := do(t, http.MethodGet, m.control, "", nil)
	assert.Equal(t, "default-src 'none'; style-src 'unsafe-inline'", res.Header.Get("Content-Security-Policy"))
	assert.Contains(t, page, `<dd>Your &lt;service&gt;</dd>`)
	assert.Contains(
		t,
		page,
		`<iframe sandbox srcdoc="&lt;p&gt;Open the link&lt;/p&gt;&lt;img src=&#34;https://example.com/&#34;&gt;&lt;/iframe&gt;"`,
		"the mail is all within the attribute",
	)
	assert.Equal(t, 1, strings.Count(page, "</iframe>"))
	assert.NotContains(t, page, "<img")
}
