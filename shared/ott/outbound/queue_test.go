package outbound_test

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/messagebatch"
	"carillon/shared/ott"
	"carillon/shared/ott/outbound"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// declared is the queue that template.yaml declares, as ott-send and ott-deliver have it, and as Lambda does.
type declared struct {
	*outbound.Queue
	t      *testing.T
	client *sqs.Client
	url    *string
}

func newDeclared(t *testing.T) *declared {
	t.Helper()
	client := emulatortest.SQS()
	created, err := client.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{
		QueueName: aws.String(stackname.OutboundQueue(emulatortest.Deploy(t))),
	})
	require.NoError(t, err)
	return &declared{
		Queue: outbound.NewQueue(
			client,
			*created.QueueUrl,
			clocktest.New(),
		),
		t:      t,
		client: client,
		url:    created.QueueUrl,
	}
}

func (d *declared) enqueue(id, conversation, sending string) {
	d.t.Helper()
	require.NoError(d.t, d.Enqueue(d.t.Context(), job(id, conversation), sending))
}

// receive takes one job, and says which; "" if there is none to have.
func (d *declared) receive() (id string, handle *string) {
	d.t.Helper()
	out, err := d.client.ReceiveMessage(d.t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: d.url, MaxNumberOfMessages: 1,
		MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameAll},
	})
	require.NoError(d.t, err)
	if len(out.Messages) == 0 {
		return "", nil
	}
	got, ok := read(d.t, *out.Messages[0].Body)
	require.True(d.t, ok)
	require.Equal(d.t, job(got.OttRequestID, got.Conversation), got, "whole")
	return got.OttRequestID, out.Messages[0].ReceiptHandle
}

// done takes a job that is worked through out of the queue.
func (d *declared) done(handle *string) {
	d.t.Helper()
	_, err := d.client.DeleteMessage(d.t.Context(), &sqs.DeleteMessageInput{QueueUrl: d.url, ReceiptHandle: handle})
	require.NoError(d.t, err)
}

func job(id, conversation string) ott.Job {
	return ott.Job{
		Tenant: "acme", OttRequestID: id, Platform: ott.LINE, PropertyID: "1", Conversation: conversation,
		CreatedAt: 2, QueuedAt: 3, ValidUntil: 4,
	}
}

// Jobs of a conversation come one after the other, in the order in which they were enqueued; other conversations do not
// wait for them.
func TestQueueIsInOrderPerConversation(t *testing.T) {
	t.Parallel()
	d := newDeclared(t)
	for n := range 3 {
		for _, conversation := range []string{"a", "b"} {
			id := conversation + strconv.Itoa(n)
			d.enqueue(id, conversation, "sending "+id)
		}
	}
	for n := range 3 {
		handles := map[string]*string{}
		for range 2 {
			id, handle := d.receive()
			handles[id] = handle
		}
		a, b := "a"+strconv.Itoa(n), "b"+strconv.Itoa(n)
		require.Contains(t, handles, a)
		require.Contains(t, handles, b)
		id, _ := d.receive()
		assert.Empty(t, id, "each conversation has one under way")
		d.done(handles[a])
		d.done(handles[b])
	}
}

// A job that is held comes again before all others of its conversation, and nothing of the conversation meanwhile.
func TestHoldKeepsTheConversation(t *testing.T) {
	t.Parallel()
	d := newDeclared(t)
	d.enqueue("first", "a", "1")
	d.enqueue("second", "a", "2")
	d.enqueue("other", "b", "3")
	id, handle := d.receive()
	if id == "other" {
		d.done(handle)
		id, handle = d.receive()
	} else {
		other, otherHandle := d.receive()
		require.Equal(t, "other", other)
		d.done(otherHandle)
	}
	require.Equal(t, "first", id)
	require.NoError(t, d.Hold(t.Context(), *handle, 6*time.Hour))
	id, _ = d.receive()
	assert.Empty(t, id, "what is held holds its conversation")
	d.enqueue("third", "b", "4")
	id, otherHandle := d.receive()
	assert.Equal(t, "third", id, "and no other")
	d.done(otherHandle)

	require.NoError(t, d.Hold(t.Context(), *handle, 0))
	for _, want := range []string{"first", "second"} {
		id, handle := d.receive()
		require.Equal(t, want, id)
		d.done(handle)
	}
}

// The SDK, or a client, may repeat a call whose answer was lost: a sending is taken once. Another sending of the same
// message is another job.
func TestASendingIsTakenOnce(t *testing.T) {
	t.Parallel()
	d := newDeclared(t)
	for range 3 {
		d.enqueue("first", "a", "one sending")
	}
	d.enqueue("first", "a", "another")
	d.enqueue("first", "b", "one sending")
	count := 0
	for id, handle := d.receive(); id != ""; id, handle = d.receive() {
		count++
		d.done(handle)
	}
	assert.Equal(t, 3, count, "by conversation and sending")
}

// What the queue declares is what package ott/deliver counts on: see patience there.
func TestAJobOutlastsItsMessage(t *testing.T) {
	t.Parallel()
	d := newDeclared(t)
	out, err := d.client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: d.url, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	require.NoError(t, err)
	assert.Equal(t, "true", out.Attributes["FifoQueue"])
	assert.Equal(t, "90", out.Attributes["VisibilityTimeout"])
	retention, err := strconv.Atoi(out.Attributes["MessageRetentionPeriod"])
	require.NoError(t, err)
	assert.Greater(t, retention, 7*24*60*60, "a message is valid for a week at most")
	assert.Contains(t, out.Attributes["RedrivePolicy"], `-outbound-dead.fifo`)
	assert.Regexp(t, `"maxReceiveCount": ?"?1000"?`, out.Attributes["RedrivePolicy"])
}

func TestWhatIsAJob(t *testing.T) {
	const whole = `{"tenant":"acme","ottRequestId":"id","platform":"line","propertyId":"1","conversation":"a","createdAt":2,"queuedAt":3,` +
		`"validUntil":4}`
	for body, right := range map[string]bool{
		whole: true,
		`{"tenant":"acme","ottRequestId":"id","platform":"line","propertyId":"1","conversation":"a","validUntil":4,"more":7}`: true,
		`{"tenant":"acme","ottRequestId":"id","platform":"line","propertyId":"1","conversation":"a","validUntil":"4"}`:        false,
		`{"tenant":"acme","ottRequestId":"id","platform":"line","propertyId":"1"}`:                                            false,
		`{"tenant":"acme","ottRequestId":"id","platform":"line","propertyId":"1","conversation":"a","validUntil":-1}`:         false,
		`{"tenant":"acme","ottRequestId":"id","platform":"line","validUntil":4}`:                                              false,
		`{"tenant":"acme","ottRequestId":"id","propertyId":"1","conversation":"a","validUntil":4}`:                            false,
		`{"tenant":"acme","platform":"line","propertyId":"1","conversation":"a","validUntil":4}`:                              false,
		`{"ottRequestId":"id","platform":"line","propertyId":"1","conversation":"a","validUntil":4}`:                          false,
		`{"tenant":"acme","ottRequestId":"id","rounds":7}`:                                                                    false,
	} {
		_, ok := read(t, body)
		assert.Equal(t, right, ok, body)
	}
	read, ok := read(t, whole)
	require.True(t, ok)
	assert.Equal(t, job("id", "a"), read)
}

// read is what ott-deliver reads of the body of an SQS message, if it is a job.
func read(t *testing.T, body string) (job ott.Job, ok bool) {
	t.Helper()
	handle := messagebatch.Received(slog.New(slog.DiscardHandler),
		func(_ context.Context, r messagebatch.Receipt[ott.Job]) error {
			job = r.Job
			return nil
		})
	event := events.SQSEvent{Records: []events.SQSMessage{{MessageId: "m", Body: body}}}
	response, err := handle(t.Context(), event)
	require.NoError(t, err)
	return job, len(response.BatchItemFailures) == 0
}

// What is no job of this queue's is refused, never taken for one.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"tenant":"acme","ottRequestId":"id","platform":"line","propertyId":"1","conversation":"a","validUntil":4}`,
		`{"tenant":"acme","ottRequestId":"id","tries":3}`, `{"tenant":"acme"}`, `[]`, ``,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		job, ok := read(t, body)
		if !ok {
			assert.Zero(t, job)
			return
		}
		assert.NotEmpty(t, job.Tenant)
		assert.NotEmpty(t, job.OttRequestID)
		assert.NotEmpty(t, job.Platform)
		assert.NotEmpty(t, job.PropertyID)
		assert.Positive(t, job.ValidUntil)
	})
}
