package eventsource_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulator"
	"carillon/local/emulatortest"
	"carillon/local/eventsource"
)

// startFIFO makes a FIFO queue and a mapping of it, which is paused.
func startFIFO(t *testing.T, change func(*eventsource.Config)) (function, *eventsource.Mapping, string) {
	t.Helper()
	name := uuid.NewString() + ".fifo"
	out, err := emulatortest.SQS().CreateQueue(t.Context(), &sqs.CreateQueueInput{
		QueueName: aws.String(name),
		Attributes: map[string]string{
			"FifoQueue": "true", "DeduplicationScope": "messageGroup", "VisibilityTimeout": "600",
		},
	})
	require.NoError(t, err)
	url := aws.ToString(out.QueueUrl)
	f := make(function)
	config := eventsource.Config{
		Client: emulatortest.SQS(), URL: url, Function: f,
		ARN:       "arn:aws:sqs:" + emulatortest.Region + ":" + emulator.AccountID + ":" + name,
		BatchSize: 1, Concurrency: 10, ReportBatchItemFailures: true, Paused: true,
		Log: func(line string) { t.Log(line) },
	}
	if change != nil {
		change(&config)
	}
	m := eventsource.Start(config)
	t.Cleanup(m.Close)
	return f, m, url
}

func sendTo(t *testing.T, url, group string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		_, err := emulatortest.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
			QueueUrl: aws.String(url), MessageBody: aws.String(body),
			MessageGroupId: aws.String(group), MessageDeduplicationId: aws.String(body),
		})
		require.NoError(t, err)
	}
}

// hide has a message come again after so many seconds.
func hide(ctx context.Context, t *testing.T, url string, r record, seconds int32) {
	t.Helper()
	_, err := emulatortest.SQS().ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: aws.String(url), ReceiptHandle: aws.String(r.ReceiptHandle), VisibilityTimeout: seconds,
	})
	require.NoError(t, err)
}

// The function sees a FIFO queue's own attributes, and a batch in the order in which it was sent.
func TestFIFOBatch(t *testing.T) {
	f, m, url := startFIFO(t, func(c *eventsource.Config) { c.BatchSize = 10 })
	sendTo(t, url, "a", numbered(12)...)
	m.Resume()
	inv := f.next(t)
	require.Len(t, inv.Records, 10)
	last := ""
	for i, r := range inv.Records {
		assert.Equal(t, strconv.Itoa(i), r.Body)
		assert.Equal(t, "a", r.Attributes["MessageGroupId"])
		assert.Equal(t, r.Body, r.Attributes["MessageDeduplicationId"])
		assert.Greater(t, r.Attributes["SequenceNumber"], last)
		last = r.Attributes["SequenceNumber"]
	}
	// What failed stays in flight, and all else of the group behind it. It comes again by itself, and then the rest.
	hide(t.Context(), t, url, inv.Records[9], 1)
	inv.answer <- answer{response: failures(inv.Records[9].MessageID)}
	inv = f.next(t)
	var bodies []string
	for _, r := range inv.Records {
		bodies = append(bodies, r.Body)
	}
	assert.Equal(t, []string{"9", "10", "11"}, bodies)
	assert.Equal(t, "2", inv.Records[0].Attributes["ApproximateReceiveCount"])
	inv.answer <- answer{}
	emptied(t, url)
}

// No more invocations at the same time than groups; a group that is held up holds up no other.
func TestFIFOGroups(t *testing.T) {
	f, m, url := startFIFO(t, nil)
	for _, group := range []string{"a", "b", "c"} {
		sendTo(t, url, group, group+"0", group+"1", group+"2")
	}
	m.Resume()
	open := map[string]*invocation{}
	for range 3 {
		inv := f.next(t)
		open[inv.Records[0].Attributes["MessageGroupId"]] = inv
	}
	require.Len(t, open, 3, "each has one")
	for _, group := range []string{"b", "c"} {
		inv := open[group]
		for i := range 3 {
			assert.Equal(t, group+strconv.Itoa(i), inv.Records[0].Body)
			inv.answer <- answer{}
			if i < 2 {
				inv = f.next(t)
			}
		}
	}
	assert.Equal(t, "a0", open["a"].Records[0].Body)
	require.Eventually(t, func() bool { return left(t, url) == 3 }, 20*time.Second, 20*time.Millisecond)
	open["a"].answer <- answer{}
	for _, want := range []string{"a1", "a2"} {
		inv := f.next(t)
		assert.Equal(t, want, inv.Records[0].Body)
		inv.answer <- answer{}
	}
	emptied(t, url)
}

// With tries that fail and messages that come once more after they were handled, each message is first seen in the
// order of its group.
func TestFIFOOrderHoldsOverRetries(t *testing.T) {
	f, m, url := startFIFO(t, func(c *eventsource.Config) { c.Duplicates = 3 })
	const groups, messages = 5, 6
	for i := range messages {
		for g := range groups {
			sendTo(t, url, strconv.Itoa(g), strconv.Itoa(g)+" "+strconv.Itoa(i))
		}
	}
	m.Resume()
	seen := map[string][]string{} // by group, in the order in which each was first seen
	for first := 0; first < groups*messages; {
		inv := f.next(t)
		require.Len(t, inv.Records, 1)
		r := inv.Records[0]
		group := r.Attributes["MessageGroupId"]
		before := len(seen[group])
		if before == 0 || seen[group][before-1] != r.Body {
			seen[group] = append(seen[group], r.Body)
			first++
		}
		if r.Attributes["ApproximateReceiveCount"] == "1" && before%2 == 0 {
			hide(t.Context(), t, url, r, int32(before%4/2))
			inv.answer <- answer{response: failures(r.MessageID)}
			continue
		}
		inv.answer <- answer{}
	}
	for group, bodies := range seen {
		for i, body := range bodies {
			assert.Equal(t, group+" "+strconv.Itoa(i), body)
		}
	}
}

// A recursive loop's message goes to the dead-letter queue, which wants a deduplication id.
func TestFIFORecursiveLoop(t *testing.T) {
	dead, err := emulatortest.SQS().CreateQueue(t.Context(), &sqs.CreateQueueInput{
		QueueName: aws.String(uuid.NewString() + ".fifo"), Attributes: map[string]string{"FifoQueue": "true"},
	})
	require.NoError(t, err)
	_, m, url := startFIFO(t, func(c *eventsource.Config) { c.DeadLetterURL = aws.ToString(dead.QueueUrl) })
	_, err = emulatortest.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(url), MessageBody: aws.String("looping"),
		MessageGroupId: aws.String("group"), MessageDeduplicationId: aws.String("id"),
		MessageSystemAttributes: map[string]types.MessageSystemAttributeValue{
			"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String(traced("stack-test", 16))},
		},
	})
	require.NoError(t, err)
	m.Resume()
	emptied(t, url)
	assert.Equal(t, 1, left(t, aws.ToString(dead.QueueUrl)))
}
