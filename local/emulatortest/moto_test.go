package emulatortest_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
)

// receive takes a message, for which it waits up to 10 seconds.
func receive(t *testing.T, url *string) *sqs.ReceiveMessageOutput {
	t.Helper()
	out, err := emulatortest.SQS().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: url, WaitTimeSeconds: 10,
	})
	require.NoError(t, err)
	return out
}

// A visibility timeout holds for what is handed out from then on, to a receiver that waits already too.
func TestVisibilityTimeoutChangesWhileAReceiverWaits(t *testing.T) {
	queues := emulatortest.SQS()
	created, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{
		QueueName: aws.String(uuid.NewString()), Attributes: map[string]string{"VisibilityTimeout": "360"},
	})
	require.NoError(t, err)
	url := created.QueueUrl
	received := make(chan *sqs.ReceiveMessageOutput)
	go func() {
		out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, WaitTimeSeconds: 20})
		assert.NoError(t, err)
		received <- out
	}()
	// Nobody is told that a receiver waits. Were it to come later than this, the test would show less, and not fail.
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		_, err := queues.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: url})
		require.NoError(t, err)
	}
	_, err = queues.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
		QueueUrl: url, Attributes: map[string]string{"VisibilityTimeout": "1"},
	})
	require.NoError(t, err)
	sent, err := queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("a")})
	require.NoError(t, err)
	first := <-received
	require.Len(t, first.Messages, 1)
	again := receive(t, url)
	require.Len(t, again.Messages, 1, "it comes back after a second")
	assert.Equal(t, sent.MessageId, again.Messages[0].MessageId)
}

// What a receiver asks for goes before what the queue has.
func TestVisibilityTimeoutOfOneReceiver(t *testing.T) {
	queues := emulatortest.SQS()
	created, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{
		QueueName: aws.String(uuid.NewString()), Attributes: map[string]string{"VisibilityTimeout": "360"},
	})
	require.NoError(t, err)
	url := created.QueueUrl
	_, err = queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("a")})
	require.NoError(t, err)
	out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, VisibilityTimeout: 1})
	require.NoError(t, err)
	require.Len(t, out.Messages, 1)
	assert.Len(t, receive(t, url).Messages, 1, "it comes back after a second")
	out, err = queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, WaitTimeSeconds: 2})
	require.NoError(t, err)
	assert.Empty(t, out.Messages, "the one before asked for nothing: the queue's own holds")
}
