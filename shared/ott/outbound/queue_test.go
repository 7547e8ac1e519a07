package outbound_test

import (
	"context"
	"log/slog"
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
	"carillon/shared/ott/outbound"
	"carillon/shared/rounds"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// The queue that template.yaml declares takes what Enqueue writes, and messagebatch.Jobs reads it.
func TestQueue(t *testing.T) {
	stack := emulatortest.Deploy(t)
	client := emulatortest.SQS()
	created, err := client.GetQueueUrl(
		t.Context(),
		&sqs.GetQueueUrlInput{QueueName: aws.String(stackname.OutboundQueue(stack))},
	)
	require.NoError(t, err)
	queue := outbound.NewQueue(client, *created.QueueUrl, clocktest.New())
	require.NoError(t, queue.Enqueue(t.Context(), "acme", "id-1", -time.Second))
	require.NoError(t, queue.Enqueue(t.Context(), "acme", "id-2", time.Hour))
	out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: created.QueueUrl, MaxNumberOfMessages: 10,
	})
	require.NoError(t, err)
	require.Len(t, out.Messages, 1, "the other one is delayed")
	job, ok := read(t, *out.Messages[0].Body)
	require.True(t, ok)
	assert.Equal(t, outbound.Job{Tenant: "acme", OttRequestID: "id-1"}, job)
	_, err = client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{
		QueueUrl: created.QueueUrl, ReceiptHandle: out.Messages[0].ReceiptHandle,
	})
	require.NoError(t, err)
	attributes, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl:       created.QueueUrl,
		AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed},
	})
	require.NoError(t, err)
	assert.Equal(t, "1", attributes.Attributes["ApproximateNumberOfMessagesDelayed"])

	require.NoError(t, queue.SendOn(t.Context(), job, 0))
	out, err = client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: created.QueueUrl})
	require.NoError(t, err)
	require.Len(t, out.Messages, 1)
	job, ok = read(t, *out.Messages[0].Body)
	require.True(t, ok)
	assert.Equal(t, outbound.Job{Tenant: "acme", OttRequestID: "id-1", Rounds: 1}, job)
	job.Rounds = rounds.Max
	require.ErrorIs(t, queue.SendOn(t.Context(), job, 0), rounds.ErrTooMany)
}

func TestWhatIsAJob(t *testing.T) {
	for body, right := range map[string]bool{
		`{"tenant":"acme","ottRequestId":"id"}`:             true, // of a former release, or a job's first round
		`{"tenant":"acme","ottRequestId":"id","rounds":7}`:  true,
		`{"tenant":"acme","ottRequestId":"id","more":7}`:    true,
		`{"tenant":"acme","ottRequestId":"id","rounds":-1}`: false,
		`{"tenant":"acme","ottRequestId":"id","rounds":""}`: false,
		`{"tenant":"acme"}`:     false,
		`{"ottRequestId":"id"}`: false,
	} {
		_, ok := read(t, body)
		assert.Equal(t, right, ok, body)
	}
}

// read is what ott-deliver reads of the body of an SQS message, if it is a job.
func read(t *testing.T, body string) (job outbound.Job, ok bool) {
	t.Helper()
	handle := messagebatch.Jobs(slog.New(slog.DiscardHandler), func(_ context.Context, j outbound.Job) error {
		job = j
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
		`{"tenant":"acme","ottRequestId":"id"}`, `{"tenant":"acme","ottRequestId":"id","tries":3}`, `{"tenant":"acme"}`,
		`[]`, ``,
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
		assert.GreaterOrEqual(t, int(job.Rounds), 0)
	})
}
