package emulatortest_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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

// The header that the SDK sends on Lambda is kept with every message of the call, decoded; a sender's own goes before
// it.
func TestTraceHeaderIsKept(t *testing.T) {
	const function, header = "f", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=3995c3f42cd8ad8;Sampled=0;Lineage=a:1|b:2"
	t.Setenv("AWS_LAMBDA_FUNCTION_NAME", function)
	queues := emulatortest.SQS()
	created, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(uuid.NewString())})
	require.NoError(t, err)
	url := created.QueueUrl
	kept := func() string {
		t.Helper()
		out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: url, MaxNumberOfMessages: 1,
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		require.NoError(t, err)
		require.Len(t, out.Messages, 1)
		return out.Messages[0].Attributes["AWSTraceHeader"]
	}
	_, err = queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("a")})
	require.NoError(t, err)
	assert.Empty(t, kept(), "without one")

	t.Setenv("_X_AMZN_TRACE_ID", header)
	_, err = queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("a")})
	require.NoError(t, err)
	assert.Equal(t, header, kept())
	_, err = queues.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{
		QueueUrl: url, Entries: []types.SendMessageBatchRequestEntry{
			{Id: aws.String("a"), MessageBody: aws.String("a")}, {Id: aws.String("b"), MessageBody: aws.String("b")},
		},
	})
	require.NoError(t, err)
	assert.Equal(t, header, kept())
	assert.Equal(t, header, kept())
	_, err = queues.SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: url, MessageBody: aws.String("a"),
		MessageSystemAttributes: map[string]types.MessageSystemAttributeValue{
			"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String("Root=1-own")},
		},
	})
	require.NoError(t, err)
	assert.Equal(t, "Root=1-own", kept())
}

// Whatever groups wait and are in flight, the next message is one of those whose group has the fewest in flight, and
// the oldest of its group.
func TestQueuesAreFair(t *testing.T) {
	queues := emulatortest.SQS()
	rapid.Check(t, func(rt *rapid.T) {
		created, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(uuid.NewString())})
		require.NoError(rt, err)
		url := created.QueueUrl
		waiting := map[string][]string{} // bodies by group; one without a group is a group of its own
		inFlight := map[string]int{}
		handles := map[string][]*string{}
		sent := 0
		steps := map[string]func(*rapid.T){
			"send": func(rt *rapid.T) {
				group, body := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "group"), strconv.Itoa(sent)
				sent++
				in := &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String(body)}
				if group != "" {
					in.MessageGroupId = aws.String(group)
				} else {
					group = "alone " + body
				}
				_, err := queues.SendMessage(t.Context(), in)
				require.NoError(rt, err)
				waiting[group] = append(waiting[group], body)
			},
			"receive": func(rt *rapid.T) {
				out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
					QueueUrl:            url,
					MaxNumberOfMessages: rapid.Int32Range(1, 3).Draw(rt, "most"),
					MessageSystemAttributeNames: []types.MessageSystemAttributeName{
						types.MessageSystemAttributeNameAll,
					},
				})
				require.NoError(rt, err)
				for _, m := range out.Messages {
					group := m.Attributes["MessageGroupId"]
					if group == "" {
						group = "alone " + aws.ToString(m.Body)
					}
					require.NotEmpty(rt, waiting[group])
					require.Equal(rt, waiting[group][0], aws.ToString(m.Body), "the oldest of its group")
					for other := range waiting {
						require.LessOrEqual(rt, inFlight[group], inFlight[other], "%s before %s", group, other)
					}
					if waiting[group] = waiting[group][1:]; len(waiting[group]) == 0 {
						delete(waiting, group)
					}
					inFlight[group]++
					handles[group] = append(handles[group], m.ReceiptHandle)
				}
			},
			"delete": func(rt *rapid.T) {
				group := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "group")
				if inFlight[group] == 0 {
					return
				}
				_, err := queues.DeleteMessage(
					t.Context(),
					&sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: handles[group][0]},
				)
				require.NoError(rt, err)
				handles[group] = handles[group][1:]
				inFlight[group]--
			},
		}
		names := rapid.SampledFrom([]string{"send", "send", "receive", "delete"})
		for _, step := range rapid.SliceOfN(names, 4, 14).Draw(rt, "steps") { // each is a call or two: no more than it takes
			steps[step](rt)
		}
	})
}
