// Package engagetest is what the tests of engage's rooms share: all that delivers a push, on emulators and with a
// device gateway that does as the test says.
package engagetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
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

// Pipeline is what delivers. All of it is on one clock, on which who sleeps does not wait.
type Pipeline struct {
	Gateway   *Gateway
	Pushes    *store.Pushes
	Deliverer *deliver.Deliverer
	Scheduler *schedule.Scheduler
	Signing   *RotatingSecret
	Clock     *clocktest.Clock
	Log       *Log
	Messages  *sqs.Client
	QueueURL  string

	items *dynamodb.Client
	table string
}

// New returns a pipeline with a stack and a queue of its own. options are those of its DynamoDB client.
func New(t testing.TB, options ...func(*dynamodb.Options)) *Pipeline {
	t.Helper()
	clock, log, messages := clocktest.New(), new(Log), emulatortest.SQS()
	stack := emulatortest.Deploy(t)
	created, err := messages.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(stack + "-own")})
	require.NoError(t, err)
	p := &Pipeline{
		Gateway:  newGateway(t, clock),
		Signing:  &RotatingSecret{Kept: NewSecret("1", SigningSecret), Current: NewSecret("1", SigningSecret)},
		Clock:    clock,
		Log:      log,
		Messages: messages,
		QueueURL: *created.QueueUrl,
		items:    dynamodb.New(emulatortest.DynamoDB().Options(), options...),
		table:    stackname.PushesTable(stack),
	}
	gateway, err := deliver.NewGateway(deliver.GatewayOptions{
		URL: p.Gateway.URL, Secrets: p.Signing, SecretName: "gateway", Clock: clock,
	})
	require.NoError(t, err)
	logger := slog.New(slog.NewJSONHandler(log, nil))
	queue := schedule.NewQueue(messages, p.QueueURL, clock)
	p.Pushes = store.NewPushes(p.items, p.table, clock)
	p.Deliverer = deliver.NewDeliverer(p.Pushes, queue, gateway, clock, logger)
	p.Scheduler = &schedule.Scheduler{Pushes: p.Pushes, Queue: queue, Clock: clock, Log: logger}
	return p
}

// Accept makes a push durable and returns it with the number of its chunks.
func (p *Pipeline) Accept(
	t testing.TB, destinations []engage.Destination, notBefore time.Time, ttl int,
) (push *engage.Push, chunks int) {
	t.Helper()
	push = &engage.Push{
		RequestID: uuid.NewString(), Tenant: Tenant, CreatedAt: p.Clock.Now(), NotBefore: notBefore, TTLSeconds: ttl,
		Program:      engage.Program{UUID: uuid.NewString(), Name: "Spring", Content: []byte(`{"headline":"Hello"}`)},
		ANumbers:     []string{"+5014008029", "+5013509988"},
		Destinations: destinations,
	}
	due, _ := engage.FirstDue(push.CreatedAt, notBefore)
	chunks, err := p.Pushes.Put(t.Context(), push, due)
	require.NoError(t, err)
	return push, chunks
}

// Deliver hands a message for each chunk to the deliverer, as SQS would, ten at a time. It returns the failed ones.
func (p *Pipeline) Deliver(t testing.TB, push *engage.Push, chunks int) []string {
	t.Helper()
	var failed []string
	for start := 0; start < chunks; start += 10 {
		var event events.SQSEvent
		for i := start; i < min(start+10, chunks); i++ {
			event.Records = append(event.Records, Message(push, i))
		}
		response, err := p.Deliverer.Handle(t.Context(), event)
		require.NoError(t, err)
		for _, failure := range response.BatchItemFailures {
			failed = append(failed, failure.ItemIdentifier)
		}
	}
	return failed
}

// Message is the message of a chunk, whose number is its id.
func Message(push *engage.Push, chunk int) events.SQSMessage {
	const body = `{"requestId":%q,"chunk":%d,"notBefore":%d}`
	return events.SQSMessage{
		MessageId: fmt.Sprint(chunk),
		Body:      fmt.Sprintf(body, push.RequestID, chunk, push.NotBefore.UnixMilli()),
	}
}

// Set writes an attribute of a push's meta, as time would: a lease that ended, a due time that came.
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

// Queued returns how many messages the queue holds that can be received now, and how many that are delayed.
func (p *Pipeline) Queued(t testing.TB) (visible, delayed string) {
	t.Helper()
	const visibleName, delayedName = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"
	out, err := p.Messages.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: &p.QueueURL, AttributeNames: []sqstypes.QueueAttributeName{visibleName, delayedName},
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
