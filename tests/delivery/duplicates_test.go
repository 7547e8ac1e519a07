package delivery_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/local/trace"
	"carillon/tests/harness"
)

// A queue may deliver any job twice. Here it does so with each, and no destination is told twice.
func TestEveryJobComesTwice(t *testing.T) {
	shared := bundle
	t.Cleanup(func() { bundle = shared })
	bundle = harness.StartFor(t, local.Options{Stack: "carillon-duplicates", Duplicates: 1})
	const size, chunks = 600, 2
	bearer := token(t)
	sent := map[string]int{}
	for i := range 3 {
		sent[accept(t, bearer, batch(i*size, size, time.Now()))] = size
	}
	for id := range sent {
		waitFor(t, id)
	}
	// Only when no job is left has each come twice.
	harness.Eventually(t, "the delivery queue is empty", func() (map[string]string, bool) {
		out, err := bundle.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: aws.String(bundle.QueueURL("DeliveryQueue")), AttributeNames: []types.QueueAttributeName{
				types.QueueAttributeNameApproximateNumberOfMessages,
				types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
				types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
			},
		})
		require.NoError(t, err)
		for _, n := range out.Attributes {
			if n != "0" {
				return out.Attributes, false
			}
		}
		return out.Attributes, true
	})
	again := slices.DeleteFunc(bundle.LogOf("EngageDeliverFunction"), func(line string) bool {
		return !strings.HasSuffix(line, "is delivered once more")
	})
	assert.GreaterOrEqual(t, len(again), len(sent)*chunks, "every job came twice")
	arrivals(t, sent)
}

// Lambda counts the rounds of a loop by a header that the SDK sends and SQS keeps: our functions' do.
func TestJobsSayWhoseTheyAre(t *testing.T) {
	const queue = "DeliveryQueue"
	bundle.PauseQueues(queue)
	defer bundle.ResumeQueues(queue)
	id := accept(t, token(t), batch(0, 1, time.Now()))
	out, err := bundle.SQS().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(bundle.QueueURL(queue)), WaitTimeSeconds: 10, VisibilityTimeout: 1,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAWSTraceHeader},
	})
	require.NoError(t, err)
	require.Len(t, out.Messages, 1)
	header := trace.Parse(out.Messages[0].Attributes["AWSTraceHeader"])
	assert.Equal(t, 1, header.Invocations(bundle.Function("EngageBatchFunction").Name()))
	assert.Zero(t, header.Invocations(bundle.Function("EngageDeliverFunction").Name()))
	bundle.ResumeQueues(queue)
	waitFor(t, id)
}
