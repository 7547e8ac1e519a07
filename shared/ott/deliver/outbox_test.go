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
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/ott"
	"carillon/shared/ott/deliver"
	"carillon/shared/ott/outbound"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// queue is SQS between a test and the emulator: it keeps what is sent, with its delay.
type queue struct {
	mu    sync.Mutex
	sent  []string
	fails bool
}

// take returns what was sent since the last time, as the bodies of messages and their delays.
func (q *queue) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := q.sent
	q.sent = nil
	return sent
}

// outbox is ott-deliver on a stack of its own: its tables, its queue, and the platforms.
type outbox struct {
	t             *testing.T
	clock         *clock
	platforms     *platforms
	messages      *ott.MessageStore
	registrations *ott.RegistrationStore
	queue         *queue
	deliverer     *deliver.Deliverer
}

func newOutbox(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request, body string)) *outbox {
	t.Helper()
	return newOutboxOn(t, emulatortest.DynamoDB(), answer)
}

func newOutboxOn(t *testing.T, items *dynamodb.Client, answer func(n int, w http.ResponseWriter, r *http.Request, body string)) *outbox {
	t.Helper()
	stack := emulatortest.Deploy(t)
	o := &outbox{t: t, clock: newClock(), platforms: newPlatforms(t, answer), queue: new(queue)}
	secrets := emulatortest.SecretsManager()
	o.messages = ott.NewMessageStore(emulatortest.DynamoDB(), stack+"-messages")
	o.registrations = ott.NewRegistrationStore(emulatortest.DynamoDB(), stack+"-registrations", secrets, stack+"/ott/")
	endpoint := emulatortest.Between(t, emulatortest.AWSEndpoint(), func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "SendMessage" {
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
	})
	client := sqs.New(emulatortest.SQS().Options(), func(opts *sqs.Options) { opts.BaseEndpoint, opts.Retryer = &endpoint, aws.NopRetryer{} })
	created, err := client.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(stack + "-outbound")})
	require.NoError(t, err)
	o.deliverer = deliver.New(ott.NewMessageStore(items, stack+"-messages"), ott.NewRegistrationReader(items, stack+"-registrations"),
		ott.NewCredentialsReader(secret.NewCache(secretstore.New(secrets))), outbound.NewQueue(client, *created.QueueUrl), o.platforms.transport(t), o.clock)
	return o
}

// register registers a page or channel of acme's, with credentials that no other registering has.
func (o *outbox) register(platform ott.Platform, change func(*ott.Registration)) ott.Credentials {
	o.t.Helper()
	r := ott.Registration{Platform: platform, PropertyID: "1732555047025799", EndpointURL: "https://graph.facebook.com/v2.6/me/messages", IsActive: true}
	credentials := ott.Credentials{PageAccessToken: secret.NewText("token-" + uuid.NewString()), ApplicationSecret: secret.NewText("application-" + uuid.NewString())}
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
	_, err := o.messages.Put(o.t.Context(), "acme", id, ott.Message{Key: id}, ott.SendBody{Kept: []byte(body)}, o.clock.Now())
	require.NoError(o.t, err)
	return id
}

func messengerHello() string {
	return messengerRequest(`{"ottId":"1"}`, `{"type":"text","text":"hello"}`, `{"messagingType":"RESPONSE"}`)
}

// deliver gives the function the messages of these ids and returns how many it reports as failed.
func (o *outbox) deliver(ids ...string) int {
	o.t.Helper()
	var event events.SQSEvent
	for _, id := range ids {
		event.Records = append(event.Records, events.SQSMessage{MessageId: id, Body: fmt.Sprintf(`{"tenant":"acme","ottRequestId":%q}`, id)})
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
	assert.Contains(o.t, sent[0], `{\"tenant\":\"acme\",\"ottRequestId\":\"`+id+`\"}`)
	_, rest, found := strings.Cut(sent[0], `"DelaySeconds":`)
	if !found {
		return 0
	}
	seconds, err := strconv.Atoi(rest[:strings.IndexAny(rest, ",}")])
	require.NoError(o.t, err)
	return time.Duration(seconds) * time.Second
}
