// Package engagetest is what the tests of engage's rooms share: all that delivers a push, on emulators and with a
// device gateway that does as the test says.
package engagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/deliver"
	"carillon/shared/engage/schedule"
	"carillon/shared/engage/store"
	"carillon/shared/stackname"
)

// Tenant is whose the pushes are.
const Tenant = "acme"

// Timeout is that of a POST to the gateway: a time-out of the network's is not on the pipeline's clock.
const Timeout = 2 * time.Second

// Pipeline is what delivers. All of it is on one clock, on which who sleeps does not wait.
type Pipeline struct {
	Gateway   *Gateway
	Jobs      *Jobs // that the deliverer has sent on
	Pushes    *store.Pushes
	Deliverer *deliver.Deliverer
	Scheduler *schedule.Scheduler
	Signing   *RotatingSecret
	Clock     *clocktest.Clock
	Log       *Log
	Messages  *sqs.Client
	URLs      schedule.URLs

	items     *dynamodb.Client
	table     string
	failReads atomic.Int64
}

// New returns a pipeline with a stack and a queue of its own. options are those of its DynamoDB client.
func New(t testing.TB, options ...func(*dynamodb.Options)) *Pipeline {
	t.Helper()
	clock, log, messages := clocktest.New(), new(Log), emulatortest.SQS()
	stack := emulatortest.Deploy(t)
	queueURL := func(name string) string {
		created, err := messages.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(stack + name)})
		require.NoError(t, err)
		return *created.QueueUrl
	}
	p := &Pipeline{
		Gateway:  newGateway(t, clock),
		Jobs:     new(Jobs),
		Signing:  &RotatingSecret{Kept: NewSecret("1", SigningSecret), Current: NewSecret("1", SigningSecret)},
		Clock:    clock,
		Log:      log,
		Messages: messages,
		URLs:     schedule.URLs{Delivery: queueURL("-own"), Retry: queueURL("-own-retry")},
		table:    stackname.PushesTable(stack),
	}
	p.items = dynamodb.New(emulatortest.DynamoDB().Options(), append(options, p.failing)...)
	gateway, err := deliver.NewGateway(deliver.GatewayOptions{
		URL: p.Gateway.URL, Secrets: p.Signing, SecretName: "gateway", Clock: clock, Timeout: Timeout,
	})
	require.NoError(t, err)
	logger := slog.New(slog.NewJSONHandler(log, nil))
	p.Pushes = store.NewPushes(p.items, p.table, clock)
	p.Deliverer = deliver.NewDeliverer(deliver.Options{
		Pushes:  p.Pushes,
		Queue:   p.Jobs,
		Permits: deliver.NewLanes(p.Pushes, deliver.Concurrency{First: 100, Again: 30}),
		Gateway: gateway,
		Clock:   clock,
		Log:     logger,
	})
	queue := schedule.NewQueue(messages, p.URLs, clock)
	p.Scheduler = &schedule.Scheduler{Pushes: p.Pushes, Queue: queue, Clock: clock, Log: logger}
	return p
}

// Accept makes a push durable and returns it with the number of its chunks.
func (p *Pipeline) Accept(
	t testing.TB, destinations []engage.Destination, notBefore time.Time, ttl int,
) (push *engage.Push, chunks int) {
	t.Helper()
	push = &engage.Push{
		RequestID: uuid.NewString(), Tenant: Tenant, CreatedAt: p.Clock.Now(),
		Terms:        engage.Terms{NotBefore: notBefore, TTLSeconds: ttl},
		Program:      engage.Program{UUID: uuid.NewString(), Name: "Spring", Content: []byte(`{"headline":"Hello"}`)},
		ANumbers:     []string{"+5014008029", "+5013509988"},
		Destinations: destinations,
	}
	chunks, err := p.Pushes.Put(t.Context(), push, engage.FirstDue(push.CreatedAt, notBefore))
	require.NoError(t, err)
	return push, chunks
}

// Deliver hands a job for each chunk to the deliverer, as SQS would, ten at a time, and then every job that it sends
// on, when it is due. It returns the ids of the messages that failed.
func (p *Pipeline) Deliver(t testing.TB, push *engage.Push, chunks int) []string {
	t.Helper()
	var failed []string
	for start := 0; start < chunks; start += 10 {
		var records []events.SQSMessage
		for i := start; i < min(start+10, chunks); i++ {
			records = append(records, Message(push, i))
		}
		failed = append(failed, p.Handle(t, records...)...)
	}
	return append(failed, p.Drain(t)...)
}

// Handle hands messages to the deliverer. It returns the ids of those that failed.
func (p *Pipeline) Handle(t testing.TB, messages ...events.SQSMessage) []string {
	t.Helper()
	response, err := p.Deliverer.Handle(t.Context(), events.SQSEvent{Records: messages})
	require.NoError(t, err)
	var failed []string
	for _, failure := range response.BatchItemFailures {
		failed = append(failed, failure.ItemIdentifier)
	}
	return failed
}

// Drain hands the jobs that the deliverer has sent on to it, each when it is due, until there are no more. It returns
// the ids of the messages that failed.
func (p *Pipeline) Drain(t testing.TB) []string {
	t.Helper()
	var failed []string
	for {
		job, ok := p.Jobs.take()
		if !ok {
			return failed
		}
		if early := job.DueAt().Sub(p.Clock.Now()); early > 0 {
			p.Clock.Advance(early)
		}
		failed = append(failed, p.Handle(t, MessageOf(t, job))...)
	}
}

// Message is the message of a chunk that was never claimed, whose number is its id.
func Message(push *engage.Push, chunk int) events.SQSMessage {
	const body = `{"requestId":%q,"chunk":%d,"tenant":%q,"notBefore":%d}`
	return events.SQSMessage{
		MessageId: fmt.Sprint(chunk),
		Body:      fmt.Sprintf(body, push.RequestID, chunk, push.Tenant, push.NotBefore.UnixMilli()),
	}
}

// MessageOf is the message of a job.
func MessageOf(t testing.TB, job engage.Job) events.SQSMessage {
	t.Helper()
	body, err := json.Marshal(job)
	require.NoError(t, err)
	return events.SQSMessage{MessageId: fmt.Sprintf("%s.%d", job.RequestID, job.Chunk), Body: string(body)}
}

// FailReads makes the next n reads of an item of the deliverer's, and of the test's, fail.
func (p *Pipeline) FailReads(n int64) { p.failReads.Store(n) }

var errRead = errors.New("engagetest: this read was to fail")

func (p *Pipeline) failing(o *dynamodb.Options) {
	o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("FailReads", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			if _, reads := in.Parameters.(*dynamodb.GetItemInput); reads && p.failReads.Add(-1) >= 0 {
				return middleware.InitializeOutput{}, middleware.Metadata{}, errRead
			}
			return next.HandleInitialize(ctx, in)
		}), middleware.Before)
	})
}

// Spoil makes a part of a push unreadable, or removes it.
func (p *Pipeline) Spoil(t testing.TB, requestID, part string, remove bool) {
	t.Helper()
	key := dynamo.Item{"requestId": dynamo.String(requestID), "part": dynamo.String(part)}
	if remove {
		_, err := p.items.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String(p.table), Key: key})
		require.NoError(t, err)
		return
	}
	_, err := p.items.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: aws.String(p.table), Key: key, UpdateExpression: aws.String("SET destinations = :x, aNumbers = :x"),
		ExpressionAttributeValues: dynamo.Item{":x": dynamo.Bytes([]byte("spoiled"))},
	})
	require.NoError(t, err)
}

// SetText writes a text into a part of a push.
func (p *Pipeline) SetText(t testing.TB, requestID, part, name, text string) {
	t.Helper()
	_, err := p.items.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 aws.String(p.table),
		Key:                       dynamo.Item{"requestId": dynamo.String(requestID), "part": dynamo.String(part)},
		UpdateExpression:          aws.String("SET #name = :text"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: dynamo.Item{":text": dynamo.String(text)},
	})
	require.NoError(t, err)
}

// Set writes a time into a push's meta, as time would: a due time that came.
func (p *Pipeline) Set(t testing.TB, requestID, name string, at time.Time) {
	t.Helper()
	_, err := p.items.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 aws.String(p.table),
		Key:                       dynamo.Item{"requestId": dynamo.String(requestID), "part": dynamo.String("meta")},
		UpdateExpression:          aws.String("SET #name = :at"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: dynamo.Item{":at": dynamo.Int(at.UnixMilli())},
	})
	require.NoError(t, err)
}

// Meta returns a push's meta.
func (p *Pipeline) Meta(t testing.TB, push *engage.Push) *engage.Meta {
	t.Helper()
	meta, err := p.Pushes.Meta(t.Context(), Tenant, push.RequestID)
	require.NoError(t, err)
	return meta
}

// States returns the state of each of the first destinations of a push, with its reason behind it if it has one.
func (p *Pipeline) States(t testing.TB, push *engage.Push) []string {
	t.Helper()
	page, err := p.Pushes.Page(t.Context(), Tenant, push.RequestID, engage.MaxPage, "")
	require.NoError(t, err)
	var states []string
	for _, row := range page.Rows {
		state := string(row.State)
		if row.Reason != "" {
			state += ": " + row.Reason
		}
		assert.Equal(t, row.State != engage.StateDelivered, row.DeliveredAt.IsZero())
		states = append(states, state)
	}
	return states
}

// Queued returns how many messages a queue holds that can be received now, and how many that are delayed.
func (p *Pipeline) Queued(t testing.TB, url string) (visible, delayed string) {
	t.Helper()
	const visibleName, delayedName = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"
	out, err := p.Messages.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{visibleName, delayedName},
	})
	require.NoError(t, err)
	return out.Attributes[visibleName], out.Attributes[delayedName]
}

// Log is what was logged, a JSON object a line. It is safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends a line.
func (l *Log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// Lines returns the lines with that message, decoded.
func (l *Log) Lines(t testing.TB, message string) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []map[string]any
	for text := range strings.Lines(l.text.String()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		if line[slog.MessageKey] == message {
			lines = append(lines, line)
		}
	}
	return lines
}
