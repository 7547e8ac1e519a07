package mailqueue_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/product/mailqueue"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

func TestQueueDelaysItsMessages(t *testing.T) {
	queued, err := emulatortest.SQS().GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(emulatortest.Deploy(t) + "-mail")})
	require.NoError(t, err)
	url := aws.ToString(queued.QueueUrl)
	queue := mailqueue.NewQueue(emulatortest.SQS(), url)
	message := mailqueue.Message{RequestID: "a", Tries: 2}
	for _, delay := range []time.Duration{time.Minute, 15 * time.Minute, time.Hour} {
		require.NoError(t, queue.Send(t.Context(), message, delay))
	}
	for _, delay := range []time.Duration{-time.Hour, 0, time.Second - 1} {
		require.NoError(t, queue.Send(t.Context(), message, delay))
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
	decoded, err := mailqueue.Decode(aws.ToString(received.Messages[0].Body))
	require.NoError(t, err)
	assert.Equal(t, message, decoded)
}

func TestDecode(t *testing.T) {
	for body, ok := range map[string]bool{
		`{"requestId":"a"}`: true, `{"requestId":"a","tries":3,"more":1}`: true,
		``: false, `{}`: false, `[]`: false, `{"requestId":""}`: false, `{"requestId":1}`: false, `{"requestId":"a","tries":-1}`: false,
		`{"requestId":"a"}{"requestId":"b"}`: false, `{"requestId":"a","tries":1.5}`: false,
	} {
		_, err := mailqueue.Decode(body)
		assert.Equal(t, ok, err == nil, body)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"requestId":"a","tries":3}`)
	f.Add(`{"requestId":"JKJaXmPLvHcESHA="}`)
	f.Fuzz(func(t *testing.T, body string) {
		message, err := mailqueue.Decode(body)
		if err != nil {
			assert.Zero(t, message)
			return
		}
		assert.NotEmpty(t, message.RequestID)
		assert.GreaterOrEqual(t, message.Tries, 0)
	})
}
