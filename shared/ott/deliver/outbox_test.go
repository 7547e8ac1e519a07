package deliver_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/fault"
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

// The ids that are registered.
const (
	pageID    = "1732555047025799"
	channelID = "23493453984234345"
)

// holds is SQS as the Deliverer knows it: it keeps what is held back, by the receipt, and for how long, or fails.
type holds struct {
	mu    sync.Mutex
	held  map[string][]time.Duration
	fails bool
}

func (h *holds) serve(t *testing.T, w http.ResponseWriter, call emulatortest.Call) bool {
	var body struct {
		ReceiptHandle     string
		VisibilityTimeout *int
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !assert.Equal(t, "ChangeMessageVisibility", call.Operation, "it does nothing else"):
	case h.fails:
		w.WriteHeader(http.StatusInternalServerError)
	case assert.NoError(t, json.Unmarshal([]byte(call.Body), &body)) && assert.NotNil(t, body.VisibilityTimeout):
		h.held[body.ReceiptHandle] = append(h.held[body.ReceiptHandle],
			time.Duration(*body.VisibilityTimeout)*time.Second)
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = w.Write([]byte("{}"))
	}
	return true
}

// news is the bus: it keeps what it is told of credentials, or fails.
type news struct {
	mu    sync.Mutex
	told  []ott.CredentialState
	fails bool
	first func() // what happens before it is told, once
}

// PutCredentials implements deliver.Events.
func (n *news) PutCredentials(_ context.Context, r ott.StoredRegistration, state ott.CredentialState) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if do := n.first; do != nil {
		n.first = nil
		do()
	}
	if n.fails {
		return errors.New("EventBridge is down")
	}
	if r.Tenant == "acme" {
		n.told = append(n.told, state)
	}
	return nil
}

// outbox is ott-deliver on a stack of its own: its tables, its queue, and the platforms.
type outbox struct {
	t             *testing.T
	ctx           context.Context //nolint:containedctx // of the invocations, which a test may end
	clock         *clocktest.Clock
	platforms     *platforms
	log           otttest.Log
	table         string // of messages
	messages      *store.Messages
	registrations *store.Registrations
	holds         holds
	news          news
	count         int // how often a job was received, by its queue
	deliverer     *deliver.Deliverer
}

func newOutbox(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request, body string)) *outbox {
	t.Helper()
	return newOutboxOn(t, emulatortest.DynamoDB(), answer)
}

// newOutboxOn is newOutbox with the Deliverer's DynamoDB by way of another client.
func newOutboxOn(
	t *testing.T, items *dynamodb.Client, answer func(n int, w http.ResponseWriter, r *http.Request, body string),
) *outbox {
	t.Helper()
	stack := emulatortest.Deploy(t)
	o := &outbox{
		t: t, ctx: t.Context(), clock: clocktest.New(), platforms: newPlatforms(t, answer), count: 1,
		holds: holds{held: map[string][]time.Duration{}},
	}
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
	endpoint := emulatortest.Between(t, emulatortest.AWSEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool { return o.holds.serve(t, w, call) })
	registrations := store.NewRegistrationReader(items, stackname.RegistrationsTable(stack))
	o.deliverer = &deliver.Deliverer{
		Messages:      store.NewMessages(items, o.table, o.clock),
		Registrations: registrations,
		Credentials: store.NewCredentials(
			registrations, secret.NewCache(secretstore.New(secrets))).WithClock(o.clock),
		States:     store.NewCredentialStates(items, stackname.RegistrationsTable(stack)),
		Properties: store.NewProperties(items, o.table, 50),
		Outbox: outbound.NewQueue(
			emulatortest.SQSAt(endpoint),
			"https://sqs.example.com/1/outbound.fifo",
			o.clock,
		),
		Events:    &o.news,
		Platforms: deliver.Platforms(o.platforms.transport(t), o.clock),
		Clock:     o.clock,
		Log:       o.log.Logger(),
	}
	return o
}

// register registers a page or channel of acme's, with credentials that no other registering has.
func (o *outbox) register(platform ott.Platform, change func(*ott.Registration)) ott.Credentials {
	o.t.Helper()
	r := ott.Registration{
		Platform:    platform,
		PropertyID:  pageID,
		EndpointURL: "https://graph.facebook.com/v2.6/me/messages",
		IsActive:    true,
	}
	credentials := ott.Credentials{
		PageAccessToken:   secret.NewText("token-" + uuid.NewString()),
		ApplicationSecret: secret.NewText("application-" + uuid.NewString()),
	}
	if platform == ott.LINE {
		r.PropertyID, credentials = channelID, ott.Credentials{ChannelSecret: secret.NewText(channelSecret)}
	}
	if change != nil {
		change(&r)
	}
	require.NoError(o.t, o.registrations.Put(o.t.Context(), "acme", uuid.NewString(), r, credentials))
	return credentials
}

// credentials are what is known of a registration's.
func (o *outbox) credentials(platform ott.Platform, propertyID string) ott.CredentialState {
	o.t.Helper()
	r, err := o.registrations.Get(o.t.Context(), platform, propertyID)
	require.NoError(o.t, err)
	return r.Credentials
}

// accept makes a message durable now and returns its id.
func (o *outbox) accept(body string) string {
	o.t.Helper()
	return o.put(decoded(o.t, body), body)
}

// put makes a message durable now, whatever its body is.
func (o *outbox) put(message ott.Message, body string) (id string) {
	o.t.Helper()
	message.Key = uuid.NewString()
	kept, now := ott.SendBody{Kept: []byte(body)}, o.clock.Now()
	_, place, err := o.messages.Find(o.t.Context(), "acme", message.Key, kept, now)
	require.True(o.t, fault.Is(err, fault.NotFound), "%v", err)
	accepted, err := o.messages.Put(o.t.Context(), "acme", place, message, kept, now, now)
	require.NoError(o.t, err)
	return accepted.OttRequestID
}

func messengerHello() string {
	return messengerRequest(`{"ottId":"1"}`, `{"type":"text","text":"hello"}`, `{"messagingType":"RESPONSE"}`)
}

func lineHello() string { return lineRequest(`{"ottId":"U1"}`, `{"type":"text","text":"t"}`, ``) }

// job is the body of a message's job.
func (o *outbox) job(id string) string {
	o.t.Helper()
	m := o.message(id)
	return encoded(o.t, ott.NewJob("acme", id, m.Message, m.CreatedAt, m.QueuedAt, m.ValidUntil))
}

func encoded(t *testing.T, job ott.Job) string {
	t.Helper()
	text, err := json.Marshal(job)
	require.NoError(t, err)
	return string(text)
}

// came is what became of a job in one invocation.
type came struct {
	failed bool            // it stays in the queue
	held   []time.Duration // for how long, each time that the queue was told
}

// handle gives the function jobs, each with a receipt of its own, and returns what became of them.
func (o *outbox) handle(bodies ...string) []came {
	o.t.Helper()
	var event events.SQSEvent
	ids := make([]string, len(bodies))
	for i, body := range bodies {
		ids[i] = uuid.NewString()
		event.Records = append(event.Records, events.SQSMessage{
			MessageId: ids[i], ReceiptHandle: "receipt of " + ids[i], Body: body,
			Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(o.count)},
		})
	}
	response, err := o.deliverer.Handle(o.ctx, event)
	assert.NoError(o.t, err)
	failed := map[string]bool{}
	for _, failure := range response.BatchItemFailures {
		failed[failure.ItemIdentifier] = true
	}
	o.holds.mu.Lock()
	defer o.holds.mu.Unlock()
	all := make([]came, len(bodies))
	for i, id := range ids {
		all[i] = came{failed[id], o.holds.held["receipt of "+id]}
	}
	return all
}

// done gives the function jobs that are not needed any more afterwards.
func (o *outbox) done(ids ...string) {
	o.t.Helper()
	bodies := make([]string, len(ids))
	for i, id := range ids {
		bodies[i] = o.job(id)
	}
	for i, became := range o.handle(bodies...) {
		require.Equal(o.t, came{}, became, "%s: %s", ids[i], o.status(ids[i]))
	}
}

// held gives the function a job that is held back, and returns for how long.
func (o *outbox) held(id string) time.Duration {
	o.t.Helper()
	return o.heldJob(o.job(id))
}

func (o *outbox) heldJob(body string) time.Duration {
	o.t.Helper()
	logged := strings.Count(o.log.String(), "a message could not be handled")
	became := o.handle(body)[0]
	require.True(o.t, became.failed, "it stays in the queue")
	require.Len(o.t, became.held, 1)
	require.Equal(o.t, logged, strings.Count(o.log.String(), "a message could not be handled"), "it has not failed")
	return became.held[0]
}

// message is a message as it is shown.
func (o *outbox) message(id string) *ott.StoredMessage {
	o.t.Helper()
	m, err := o.messages.Get(o.t.Context(), "acme", id)
	require.NoError(o.t, err)
	return m
}

// status is the last event of a message, with its reason.
func (o *outbox) status(id string) string {
	o.t.Helper()
	p := o.message(id).Progress
	switch {
	case !p.SentAt.IsZero():
		return "Sent"
	case !p.FailedAt.IsZero():
		return "Error: " + p.Reason
	case p.Reason != "":
		return "Queued: " + p.Reason
	}
	return "Queued"
}
