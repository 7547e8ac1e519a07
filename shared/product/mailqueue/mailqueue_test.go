package mailqueue_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/messagebatch"
	"carillon/shared/product/mailqueue"
	"carillon/shared/rounds"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// jobs returns the jobs of a message: one, or none if it holds none and comes again.
func jobs(t *testing.T, body string) []mailqueue.Job {
	t.Helper()
	var got []mailqueue.Job
	handle := messagebatch.Jobs(slog.New(slog.DiscardHandler), func(_ context.Context, job mailqueue.Job) error {
		got = append(got, job)
		return nil
	})
	event := events.SQSEvent{Records: []events.SQSMessage{{MessageId: "a", Body: body}}}
	response, err := handle(t.Context(), event)
	require.NoError(t, err)
	assert.Equal(t, len(got) == 0, len(response.BatchItemFailures) == 1, body)
	return got
}

func TestQueueDelaysItsMessages(t *testing.T) {
	queued, err := emulatortest.SQS().GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{
		QueueName: aws.String(stackname.MailQueue(emulatortest.Deploy(t))),
	})
	require.NoError(t, err)
	url := aws.ToString(queued.QueueUrl)
	queue := mailqueue.NewQueue(emulatortest.SQS(), url, clocktest.New())
	job := mailqueue.Job{RequestID: "a", Tries: 2}
	for _, wait := range []time.Duration{time.Minute, 15 * time.Minute, time.Hour} {
		require.NoError(t, queue.SendOn(t.Context(), job, wait))
	}
	for _, wait := range []time.Duration{-time.Hour, 0, time.Second - 1} {
		require.NoError(t, queue.SendOn(t.Context(), job, wait))
	}
	out, err := emulatortest.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	require.NoError(t, err)
	assert.Equal(t, "3", out.Attributes["ApproximateNumberOfMessages"])
	assert.Equal(t, "3", out.Attributes["ApproximateNumberOfMessagesDelayed"])
	received, err := emulatortest.SQS().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
	require.NoError(t, err)
	require.NotEmpty(t, received.Messages)
	job.Rounds++
	assert.Equal(t, []mailqueue.Job{job}, jobs(t, aws.ToString(received.Messages[0].Body)))
	job.Rounds = rounds.Max
	require.ErrorIs(t, queue.SendOn(t.Context(), job, 0), rounds.ErrTooMany)
}

func TestAMessageHoldsAJobOrFails(t *testing.T) {
	for body, ok := range map[string]bool{
		`{"requestId":"a"}`: true, `{"requestId":"a","tries":3,"more":1}`: true,
		`{"requestId":"a","rounds":3}`: true,
		``:                             false, `{}`: false, `[]`: false, `{"requestId":""}`: false, `{"requestId":1}`: false,
		`{"requestId":"a","tries":-1}`: false, `{"requestId":"a"}{"requestId":"b"}`: false,
		`{"requestId":"a","tries":1.5}`: false, `{"requestId":"a","rounds":-1}`: false,
	} {
		assert.Equal(t, ok, len(jobs(t, body)) == 1, body)
	}
}

func FuzzJob(f *testing.F) {
	f.Add(`{"requestId":"a","tries":3}`)
	f.Add(`{"requestId":"JKJaXmPLvHcESHA="}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, job := range jobs(t, body) {
			assert.NotEmpty(t, job.RequestID)
			assert.GreaterOrEqual(t, job.Tries, 0)
			assert.GreaterOrEqual(t, int(job.Rounds), 0)
		}
	})
}
