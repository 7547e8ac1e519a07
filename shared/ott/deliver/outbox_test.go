package deliver_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/ott"
	"carillon/shared/ott/deliver"
	"carillon/shared/ott/otttest"
	"carillon/shared/ott/outbound"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) {
	lambdacontext.FunctionName = "ott-deliver" // the dimension of the metrics
	emulatortest.Main(m)
}

// outboundQueue is SQS between a test and the emulator: it keeps what is sent, with its delay.
type outboundQueue struct {
	mu    sync.Mutex
	sent  []string
	fails bool
}

// take returns what was sent since the last time, as the bodies of messages and their delays.
func (q *outboundQueue) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := q.sent
	q.sent = nil
	return sent
}

// outbox is ott-deliver on a stack of its own: its tables, its queue, and the platforms.
type outbox struct {
	t             *testing.T
	clock         *clocktest.Clock
	platforms     *platforms
	log           otttest.Log
	table         string // of messages
	messages      *store.Messages
	registrations *store.Registrations
	queue         *outboundQueue
	deliverer     *deliver.Deliverer
}

func newOutbox(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request, body string)) *outbox {
	t.Helper()
	return newOutboxOn(t, emulatortest.DynamoDB(), answer)
}

func newOutboxOn(
	t *testing.T, items *dynamodb.Client, answer func(n int, w http.ResponseWriter, r *http.Request, body string),
) *outbox {
	t.Helper()
	stack := emulatortest.Deploy(t)
	o := &outbox{t: t, clock: clocktest.New(), platforms: newPlatforms(t, answer), queue: new(outboundQueue)}
	secrets := emulatortest.SecretsManager()
	o.table = stackname.MessagesTable(stack)
	o.messages = store.NewMessages(emulatortest.DynamoDB(), o.table, o.clock)
	o.registrations = store.NewRegistrations(
		emulatortest.DynamoDB(),
		stackname.RegistrationsTable(stack),
		secrets,
		stackname.RegistrationSecretPrefix(stack),
		o.clock,
		o.log.Logger(),
	)
	between := func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "SendMessageBatch" {
			return false
		}
		o.queue.mu.Lock()
		defer o.queue.mu.Unlock()
		if o.queue.fails {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		o.queue.sent = append(o.queue.sent, call.Body)
		return false
	}
	endpoint := emulatortest.Between(t, emulatortest.AWSEndpoint(), between)
	client := sqs.New(emulatortest.SQS().Options(), func(opts *sqs.Options) {
		opts.BaseEndpoint, opts.Retryer = &endpoint, aws.NopRetryer{}
	})
	created, err := client.GetQueueUrl(
		t.Context(),
		&sqs.GetQueueUrlInput{QueueName: aws.String(stackname.OutboundQueue(stack))},
	)
	require.NoError(t, err)
	registrations := store.NewRegistrationReader(items, stackname.RegistrationsTable(stack))
	o.deliverer = &deliver.Deliverer{
		Messages:      store.NewMessages(items, o.table, o.clock),
		Registrations: registrations,
		Credentials:   store.NewCredentials(registrations, secret.NewCache(secretstore.New(secrets))),
		Outbox:        outbound.NewQueue(client, *created.QueueUrl, o.clock),
		Platforms:     deliver.Platforms(o.platforms.transport(t), o.clock),
		Clock:         o.clock,
		Log:           o.log.Logger(),
	}
	return o
}

// register registers a page or channel of acme's, with credentials that no other registering has.
func (o *outbox) register(platform ott.Platform, change func(*ott.Registration)) ott.Credentials {
	o.t.Helper()
	r := ott.Registration{
		Platform: platform, PropertyID: "1732555047025799", EndpointURL: "https://graph.facebook.com/v2.6/me/messages",
		IsActive: true,
	}
	credentials := ott.Credentials{
		PageAccessToken:   secret.NewText("token-" + uuid.NewString()),
		ApplicationSecret: secret.NewText("application-" + uuid.NewString()),
	}
	if platform == ott.LINE {
		r.PropertyID, credentials = "23493453984234345", ott.Credentials{ChannelSecret: secret.NewText(channelSecret)}
	}
	if change != nil {
		change(&r)
	}
	require.NoError(o.t, o.registrations.Put(o.t.Context(), "acme", uuid.NewString(), r, credentials))
	return credentials
}

// accept makes a message durable now and returns its id.
func (o *outbox) accept(body string) string {
	o.t.Helper()
	id := uuid.NewString()
	o.put(id, decoded(o.t, body), body)
	return id
}

// put makes a message durable now, whatever its body is.
func (o *outbox) put(id string, message ott.Message, body string) {
	o.t.Helper()
	message.Key = id
	_, err := o.messages.Put(o.t.Context(), "acme", id, message, ott.SendBody{Kept: []byte(body)}, o.clock.Now())
	require.NoError(o.t, err)
}

func messengerHello() string {
	return messengerRequest(`{"ottId":"1"}`, `{"type":"text","text":"hello"}`, `{"messagingType":"RESPONSE"}`)
}

// deliver gives the function the messages of these ids and returns how many it reports as failed.
func (o *outbox) deliver(ids ...string) int {
	o.t.Helper()
	var bodies []string
	for _, id := range ids {
		bodies = append(bodies, fmt.Sprintf(`{"tenant":"acme","ottRequestId":%q}`, id))
	}
	return o.handle(bodies...)
}

// handle gives the function messages and returns how many it reports as failed.
func (o *outbox) handle(bodies ...string) int {
	o.t.Helper()
	var event events.SQSEvent
	for i, body := range bodies {
		event.Records = append(event.Records, events.SQSMessage{MessageId: strconv.Itoa(i), Body: body})
	}
	response, err := o.deliverer.Handle(o.t.Context(), event)
	require.NoError(o.t, err)
	return len(response.BatchItemFailures)
}

// status is the last event of a message, with its reason.
func (o *outbox) status(id string) string {
	o.t.Helper()
	m, err := o.messages.Get(o.t.Context(), "acme", id)
	require.NoError(o.t, err)
	switch {
	case !m.SentAt.IsZero():
		return "Sent"
	case !m.FailedAt.IsZero():
		return "Error: " + m.Reason
	case !m.QueuedAt.IsZero():
		return "Queued"
	}
	return "Created"
}

// next checks that one message of an id was queued, and returns its delay.
func (o *outbox) next(id string) time.Duration {
	o.t.Helper()
	sent := o.queue.take()
	require.Len(o.t, sent, 1)
	assert.Contains(o.t, sent[0], `{\"tenant\":\"acme\",\"ottRequestId\":\"`+id+`\",\"rounds\":1}`)
	_, rest, found := strings.Cut(sent[0], `"DelaySeconds":`)
	if !found {
		return 0
	}
	seconds, err := strconv.Atoi(rest[:strings.IndexAny(rest, ",}")])
	require.NoError(o.t, err)
	return time.Duration(seconds) * time.Second
}
