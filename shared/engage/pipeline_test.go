package engage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/engage"
	"carillon/shared/secret"
)

// signingSecret is what pushes are signed with here.
const signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// rotatingSecret is a secret that is kept for a while, as secret.Cache keeps it.
type rotatingSecret struct{ kept, current secret.Version }

func newSecret(id, value string) secret.Version {
	return secret.Version{ID: id, Value: secret.NewText(value)}
}

func (s *rotatingSecret) Get(_ context.Context, _ string, _ secret.Stage, maxAge time.Duration) (secret.Version, error) {
	if maxAge == 0 {
		s.kept = s.current
	}
	return s.kept, nil
}

// posted is a POST as the gateway received it.
type posted struct {
	id   string
	at   time.Time
	body pushedBody
	raw  string
}

type pushedBody struct {
	Type, RequestID string
	Chunk           int
	Program         struct {
		UUID, Name string
		Content    json.RawMessage
	}
	ANumbers                 []string
	TTLSeconds               int
	KeepAfterCall            bool
	NotBefore, DeliverBefore string
	Destinations             []struct {
		BNumber          string
		Personalization  map[string]string
		CustomTrackingID *string
	}
}

// gateway is a device gateway that checks every signature, keeps every POST, and answers as a test says.
type gateway struct {
	*httptest.Server

	now func() time.Time // the deliverer's clock

	mu     sync.Mutex
	posts  []posted
	answer func(n int, p posted, w http.ResponseWriter, r *http.Request) // n counts from 0; nil: all delivered
}

func newGateway(t testing.TB) *gateway {
	t.Helper()
	g := &gateway{now: time.Now}
	verifier, err := standardwebhooks.NewWebhook(signingSecret)
	require.NoError(t, err)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := g.now()
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if err := verifier.VerifyIgnoringTimestamp(raw, r.Header); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		p := posted{id: r.Header.Get("webhook-id"), at: at, raw: string(raw)}
		if err := json.Unmarshal(raw, &p.body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		g.mu.Lock()
		n := len(g.posts)
		g.posts = append(g.posts, p)
		answer := g.answer
		g.mu.Unlock()
		if answer != nil {
			answer(n, p, w, r)
			return
		}
		results(w, p, func(int, string) string { return `"delivered"` })
	}))
	t.Cleanup(g.Close)
	return g
}

// results answers a status for each destination, "" for none.
func results(w io.Writer, p posted, status func(i int, bNumber string) string) {
	var parts []string
	for i, d := range p.body.Destinations {
		if s := status(i, d.BNumber); s != "" {
			parts = append(parts, fmt.Sprintf(`{"bNumber":%q,"status":%s}`, d.BNumber, s))
		}
	}
	_, _ = fmt.Fprintf(w, `{"results":[%s]}`, strings.Join(parts, ","))
}

func (g *gateway) received() []posted {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]posted(nil), g.posts...)
}

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	emulatortest.Main(m)
}

// pipeline is what delivers, on emulators, with a gateway.
type pipeline struct {
	gateway   *gateway
	pushes    *engage.PushStore
	queue     *engage.DeliveryQueue
	deliverer *engage.Deliverer
	scheduler *engage.Scheduler
	items     *dynamodb.Client
	table     string
	messages  *sqs.Client
	queueURL  string
	clock     clock
	signing   *rotatingSecret
}

// clock is the deliverer's: who sleeps on it does not wait, the time has passed.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) Sleep(_ context.Context, d time.Duration) error {
	c.ahead.Add(int64(max(d, 0)))
	return nil
}

func newPipeline(t testing.TB, options ...func(*dynamodb.Options)) *pipeline {
	t.Helper()
	p := &pipeline{gateway: newGateway(t), messages: emulatortest.SQS()}
	stack := emulatortest.Deploy(t)
	p.table = stack + "-pushes"
	p.items = dynamodb.New(emulatortest.DynamoDB().Options(), options...)
	queue, err := p.messages.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(stack + "-own")})
	require.NoError(t, err)
	p.queueURL = *queue.QueueUrl
	p.signing = &rotatingSecret{kept: newSecret("1", signingSecret), current: newSecret("1", signingSecret)}
	gateway, err := engage.NewGateway(p.gateway.URL, p.signing, "gateway")
	require.NoError(t, err)
	p.pushes = engage.NewPushStore(p.items, p.table)
	p.queue = engage.NewDeliveryQueue(p.messages, p.queueURL)
	p.gateway.now = p.clock.Now
	p.deliverer = engage.NewDeliverer(p.pushes, p.queue, gateway, &p.clock)
	p.scheduler = &engage.Scheduler{Pushes: p.pushes, Queue: p.queue}
	return p
}

// accept makes a push durable and returns it with the number of its chunks.
func (p *pipeline) accept(t testing.TB, destinations []engage.Destination, notBefore time.Time, ttl int) (*engage.Push, int) {
	t.Helper()
	push := &engage.Push{
		RequestID: uuid.NewString(), Tenant: "acme", CreatedAt: time.Now(), NotBefore: notBefore, TTLSeconds: ttl,
		Program:      engage.Program{UUID: uuid.NewString(), Name: "Spring", Content: []byte(`{"headline":"Hello"}`)},
		ANumbers:     []string{"+5014008029", "+5013509988"},
		Destinations: destinations,
	}
	due, _ := engage.FirstDue(push.CreatedAt, notBefore)
	chunks, err := p.pushes.Put(t.Context(), push, due)
	require.NoError(t, err)
	return push, chunks
}

// deliver hands a message for each chunk to the deliverer, as SQS would, ten at a time.
func (p *pipeline) deliver(t testing.TB, push *engage.Push, chunks int) []string {
	t.Helper()
	var failed []string
	for start := 0; start < chunks; start += 10 {
		var event events.SQSEvent
		for i := start; i < min(start+10, chunks); i++ {
			event.Records = append(event.Records, message(push, i))
		}
		response, err := p.deliverer.Handle(t.Context(), event)
		require.NoError(t, err)
		for _, failure := range response.BatchItemFailures {
			failed = append(failed, failure.ItemIdentifier)
		}
	}
	return failed
}

func message(push *engage.Push, chunk int) events.SQSMessage {
	return events.SQSMessage{
		MessageId: fmt.Sprint(chunk),
		Body:      fmt.Sprintf(`{"requestId":%q,"chunk":%d,"notBefore":%d}`, push.RequestID, chunk, push.NotBefore.UnixMilli()),
	}
}
