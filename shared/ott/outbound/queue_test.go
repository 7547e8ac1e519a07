package outbound_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/ott/outbound"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// The queue that template.yaml declares takes what Enqueue writes, and Decode reads it.
func TestQueue(t *testing.T) {
	stack := emulatortest.Deploy(t)
	client := emulatortest.SQS()
	created, err := client.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(stack + "-outbound")})
	require.NoError(t, err)
	queue := outbound.NewQueue(client, *created.QueueUrl)
	require.NoError(t, queue.Enqueue(t.Context(), "acme", "id-1", -time.Second))
	require.NoError(t, queue.Enqueue(t.Context(), "acme", "id-2", time.Hour))
	out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: created.QueueUrl, MaxNumberOfMessages: 10})
	require.NoError(t, err)
	require.Len(t, out.Messages, 1, "the other one is delayed")
	message, err := outbound.Decode(*out.Messages[0].Body)
	require.NoError(t, err)
	assert.Equal(t, outbound.Message{Tenant: "acme", OttRequestID: "id-1"}, message)
	attributes, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: created.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed},
	})
	require.NoError(t, err)
	assert.Equal(t, "1", attributes.Attributes["ApproximateNumberOfMessagesDelayed"])
}

// What is no message of this queue's is refused, never taken for one.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"tenant":"acme","ottRequestId":"id"}`, `{"tenant":"acme","ottRequestId":"id","tries":3}`, `{"tenant":"acme"}`, `[]`, ``} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		message, err := outbound.Decode(body)
		if err != nil {
			assert.Zero(t, message)
			return
		}
		assert.NotEmpty(t, message.Tenant)
		assert.NotEmpty(t, message.OttRequestID)
	})
}
