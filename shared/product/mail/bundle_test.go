package mail_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/product"
	"carillon/shared/product/mail"
	"carillon/shared/product/mailevent"
	"carillon/shared/product/mailqueue"
	"carillon/shared/product/store"
	"carillon/shared/secret"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

const (
	tenant  = "demo-channel"
	request = "JKJaXmPLvHcESHA=" // as API Gateway names one
	link    = "https://activate.example.com/one-time-token?a=1&b=2"
	address = "abc@gmail.com"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// sentMail is what SES is asked to send.
type sentMail struct {
	FromEmailAddress string
	Destination      struct{ ToAddresses, CcAddresses, BccAddresses []string }
	Content          struct {
		Simple struct {
			Subject struct{ Data, Charset string }
			Body    struct {
				Text, HTML struct{ Data, Charset string }
			}
		}
	}
	ConfigurationSetName string
	EmailTags            []struct{ Name, Value string }
	ReplyToAddresses     []string
}

func (m sentMail) subject() string { return m.Content.Simple.Subject.Data }
func (m sentMail) text() string    { return m.Content.Simple.Body.Text.Data }
func (m sentMail) html() string    { return m.Content.Simple.Body.HTML.Data }

// bundle is a deployed stack, and the functions of the mails on it.
type bundle struct {
	t      *testing.T
	name   string
	store  *store.Mails // undisturbed
	mailer *mail.Mailer
	events *mailevent.Handler
	clock  *clocktest.Clock
	log    lockedBuffer

	mu       sync.Mutex
	asked    []sentMail
	messages []message // that were enqueued
	ses      func(http.ResponseWriter, emulatortest.Call) bool
	aws      func(http.ResponseWriter, emulatortest.Call) bool
}

// message is one that was enqueued.
type message struct {
	MessageBody  string
	DelaySeconds int
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func deploy(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, name: emulatortest.Deploy(t), clock: clocktest.At(noon)}
	b.store = b.mails(emulatortest.DynamoDB())
	// They try calls again, for a busy machine loses a connection now and then, but hardly wait for it.
	again := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 10 * time.Millisecond })
	dynamoDBOptions := emulatortest.DynamoDBAt(
		emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), b.disturb)).Options()
	sqsOptions := emulatortest.SQSAt(emulatortest.Between(t, emulatortest.AWSEndpoint(), b.serveSQS)).Options()
	dynamoDBOptions.Retryer, sqsOptions.Retryer = again, again
	mails := b.mails(dynamodb.New(dynamoDBOptions))
	ses := emulatortest.Between(t, emulatortest.AWSEndpoint(), b.serveSES)
	queue := mailqueue.NewQueue(sqs.New(sqsOptions), b.queueURL(), b.clock)
	b.mailer = mail.NewMailer(mails, queue, b.sender(ses, 5*time.Second), b.clock, b.logger())
	b.events = mailevent.NewHandler(mails, b.clock, b.logger())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.log.String())
		}
		require.NotContains(t, b.log.String(), "activate.example.com")
		require.NotContains(t, b.log.String(), address)
	})
	return b
}

// mails are the stack's. Those who meet on one wait for each other in real time.
func (b *bundle) mails(client *dynamodb.Client) *store.Mails {
	return store.NewMails(client, stackname.MailsTable(b.name), stackname.ProductsTable(b.name), clock.System{})
}

func (b *bundle) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(&b.log, nil)) }

func (b *bundle) queueURL() string {
	b.t.Helper()
	url, err := emulatortest.SQS().GetQueueUrl(b.t.Context(), &sqs.GetQueueUrlInput{
		QueueName: aws.String(stackname.MailQueue(b.name)),
	})
	require.NoError(b.t, err)
	return aws.ToString(url.QueueUrl)
}

func (b *bundle) sender(endpoint string, timeout time.Duration) *mail.Sender {
	return mail.NewSender(aws.Config{
		Region: emulatortest.Region, BaseEndpoint: aws.String(endpoint),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	}, emulatortest.MailFrom, stackname.MailConfigurationSet(b.name), timeout)
}

func (b *bundle) disturb(w http.ResponseWriter, call emulatortest.Call) bool {
	b.mu.Lock()
	disturb := b.aws
	b.mu.Unlock()
	return disturb != nil && disturb(w, call)
}

func (b *bundle) serveSQS(w http.ResponseWriter, call emulatortest.Call) bool {
	if b.disturb(w, call) {
		return true
	}
	var batch struct{ Entries []message }
	if call.Operation == "SendMessageBatch" && json.Unmarshal([]byte(call.Body), &batch) == nil {
		b.mu.Lock()
		b.messages = append(b.messages, batch.Entries...)
		b.mu.Unlock()
	}
	return false
}

func (b *bundle) serveSES(w http.ResponseWriter, call emulatortest.Call) bool {
	var m sentMail
	if json.Unmarshal([]byte(call.Body), &m) != nil {
		return false
	}
	b.mu.Lock()
	b.asked = append(b.asked, m)
	ses := b.ses
	b.mu.Unlock()
	return ses != nil && ses(w, call)
}

// play has SES answer so from now on; nil has it take every mail.
func (b *bundle) play(ses func(http.ResponseWriter, emulatortest.Call) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ses = ses
}

// answering is SES with an error of that code.
func answering(status int, code, text string) func(http.ResponseWriter, emulatortest.Call) bool {
	return func(w http.ResponseWriter, _ emulatortest.Call) bool {
		w.Header().Set("X-Amzn-ErrorType", code)
		w.WriteHeader(status)
		body, _ := json.Marshal(map[string]string{"message": text})
		_, _ = w.Write(body)
		return true
	}
}

// sent returns what SES was asked to send.
func (b *bundle) sent() []sentMail {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]sentMail(nil), b.asked...)
}

// enqueued returns what was enqueued since the last time.
func (b *bundle) enqueued() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	messages := b.messages
	b.messages = nil
	return messages
}

// keep keeps a product of its own with a pending mail, as a create does; a change of ProductID makes it another's.
func (b *bundle) keep(requestID string, changes ...func(*product.Mail)) product.Mail {
	b.t.Helper()
	m := product.Mail{
		RequestID: requestID, Tenant: tenant, BusinessID: "TT",
		ProductID: uuid.NewSHA1(uuid.NameSpaceURL, []byte(requestID)).String(), To: address, Service: "Disney+",
		Link: secret.NewText(link), LinkExpires: noon.Add(22 * time.Hour), State: product.MailPending, CreatedAt: noon,
	}
	for _, change := range changes {
		change(&m)
	}
	_, err := b.store.Keep(b.t.Context(), product.Stored{
		Tenant: m.Tenant, BusinessID: m.BusinessID, ID: m.ProductID, OperationID: m.RequestID,
		Product: product.Product{BillingAccount: product.BillingAccount{
			Contacts: []product.Contact{{Emails: []string{m.To}}},
		}},
	}, m)
	require.NoError(b.t, err)
	return m
}

func sqsEvent(bodies ...string) events.SQSEvent {
	var event events.SQSEvent
	for i, body := range bodies {
		event.Records = append(event.Records, events.SQSMessage{MessageId: string(rune('a' + i)), Body: body})
	}
	return event
}

func messageOf(requestID string) string { return `{"requestId":"` + requestID + `"}` }

// deliver hands messages to product-mail and returns the ids of those that come again: a, b, …
func (b *bundle) deliver(bodies ...string) string {
	b.t.Helper()
	response, err := b.mailer.Handle(b.t.Context(), sqsEvent(bodies...))
	require.NoError(b.t, err)
	return failures(response)
}

// tell hands events to product-mail-event, in the same way.
func (b *bundle) tell(bodies ...string) string {
	b.t.Helper()
	response, err := b.events.Handle(b.t.Context(), sqsEvent(bodies...))
	require.NoError(b.t, err)
	return failures(response)
}

func failures(response events.SQSEventResponse) string {
	var ids []string
	for _, failure := range response.BatchItemFailures {
		ids = append(ids, failure.ItemIdentifier)
	}
	return strings.Join(ids, " ")
}

// kept returns a mail as it is kept.
func (b *bundle) kept(requestID string) dynamo.Item {
	b.t.Helper()
	out, err := emulatortest.DynamoDB().GetItem(b.t.Context(), &dynamodb.GetItemInput{
		TableName: aws.String(
			stackname.MailsTable(b.name),
		),
		Key:            dynamo.Item{"id": dynamo.String("request#" + requestID)},
		ConsistentRead: aws.Bool(true),
	})
	require.NoError(b.t, err)
	return out.Item
}

func (b *bundle) state(requestID string) product.MailState {
	b.t.Helper()
	return product.MailState(dynamo.GetString(b.kept(requestID), "state"))
}

// shown returns how a mail fares on its product.
func (b *bundle) shown(m product.Mail) (state product.MailState, reason string, at time.Time) {
	b.t.Helper()
	out, err := emulatortest.DynamoDB().GetItem(b.t.Context(), &dynamodb.GetItemInput{
		TableName: aws.String(stackname.ProductsTable(b.name)),
		Key: dynamo.Item{"owner": dynamo.String(m.Tenant + "#" + m.BusinessID),
			"id": dynamo.String(m.ProductID)},
		ConsistentRead: aws.Bool(true),
	})
	require.NoError(b.t, err)
	return product.MailState(dynamo.GetString(out.Item, "mailState")), dynamo.GetString(out.Item,
		"mailReason"), dynamo.GetTime(out.Item, "mailAt")
}

// crash plays a process that is killed at one of its calls: before that is carried out, or after it was and before its
// answer came. No later call of the process gets anywhere.
type crash struct {
	mu    sync.Mutex
	at    int
	after bool
	calls []string
	dead  bool
}

func (c *crash) meets(call string) (carriedOut, answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return false, false
	}
	c.calls = append(c.calls, call)
	if len(c.calls) != c.at {
		return true, true
	}
	c.dead = true
	return c.after, false
}

// between stands between the process and an endpoint; a call of SES's has no operation's name.
func (c *crash) between(
	carryOut func(http.ResponseWriter, emulatortest.Call) bool) func(http.ResponseWriter, emulatortest.Call,
) bool {
	return func(w http.ResponseWriter, call emulatortest.Call) bool {
		name := call.Operation
		if name == "" {
			name = "SendEmail"
		}
		carriedOut, answered := c.meets(name)
		switch {
		case answered:
			return carryOut != nil && carryOut(w, call)
		case carriedOut && carryOut != nil:
			carryOut(httptest.NewRecorder(), call)
		case carriedOut:
			call.Send(call.Body)
		}
		if call.Operation == "" {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"__type":"InternalServerError"}`)
		return true
	}
}
