package emulatortest_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/local/emulatortest"
)

// fifo is a FIFO queue of a test, which ends at the first call that fails.
type fifo struct {
	t   require.TestingT
	url *string
}

func newFIFO(t testing.TB, rt require.TestingT, attributes map[string]string) fifo {
	t.Helper()
	all := map[string]string{"FifoQueue": "true"}
	for name, value := range attributes {
		all[name] = value
	}
	created, err := emulatortest.SQS().CreateQueue(t.Context(), &sqs.CreateQueueInput{
		QueueName: aws.String(uuid.NewString() + ".fifo"), Attributes: all,
	})
	require.NoError(rt, err)
	return fifo{rt, created.QueueUrl}
}

func (q fifo) send(t testing.TB, group, body, deduplicationID string) *sqs.SendMessageOutput {
	t.Helper()
	out, err := emulatortest.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: q.url, MessageBody: aws.String(body),
		MessageGroupId: aws.String(group), MessageDeduplicationId: aws.String(deduplicationID),
	})
	require.NoError(q.t, err)
	return out
}

// receive takes up to most messages and waits so many seconds for the first.
func (q fifo) receive(t testing.TB, most, wait int32) []types.Message {
	t.Helper()
	out, err := emulatortest.SQS().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: q.url, MaxNumberOfMessages: most, WaitTimeSeconds: wait,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	require.NoError(q.t, err)
	return out.Messages
}

func (q fifo) remove(t testing.TB, handle *string) error {
	t.Helper()
	_, err := emulatortest.SQS().DeleteMessage(
		t.Context(), &sqs.DeleteMessageInput{QueueUrl: q.url, ReceiptHandle: handle},
	)
	return err
}

func (q fifo) hide(t testing.TB, handle *string, seconds int32) error {
	t.Helper()
	_, err := emulatortest.SQS().ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
		QueueUrl: q.url, ReceiptHandle: handle, VisibilityTimeout: seconds,
	})
	return err
}

func bodies(messages []types.Message) []string {
	all := []string{}
	for _, m := range messages {
		all = append(all, aws.ToString(m.Body))
	}
	return all
}

// Whatever is sent, received, deleted and let go: a group's messages come in the order in which they were sent, none
// while one of them is in flight, and a receive has all that it may have.
func TestFIFO(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		queue := newFIFO(t, rt, map[string]string{"VisibilityTimeout": "600"})
		waiting := map[string][]string{} // bodies by group, those in flight too
		inFlight := map[string]map[string]*string{}
		received := map[string]int{}
		sent, last := 0, map[string]string{}
		group := rapid.SampledFrom([]string{"a", "b", "c"})
		steps := map[string]func(){
			"send": func() {
				g, body := group.Draw(rt, "group"), strconv.Itoa(sent)
				sent++
				number := aws.ToString(queue.send(t, g, body, body).SequenceNumber)
				require.Len(rt, number, 20)
				require.Greater(rt, number, last[g])
				last[g] = number
				waiting[g] = append(waiting[g], body)
			},
			"receive": func() {
				most, free := rapid.Int32Range(1, 4).Draw(rt, "most"), 0
				for g, all := range waiting {
					if len(inFlight[g]) == 0 {
						free += len(all)
					}
				}
				got := map[string][]types.Message{}
				messages := queue.receive(t, most, 0)
				require.Len(rt, messages, min(int(most), free))
				for _, m := range messages {
					got[m.Attributes["MessageGroupId"]] = append(got[m.Attributes["MessageGroupId"]], m)
				}
				for g, messages := range got {
					require.Empty(rt, inFlight[g], "nothing comes while a message of the group is in flight")
					require.Equal(rt, waiting[g][:len(messages)], bodies(messages))
					inFlight[g] = map[string]*string{}
					for _, m := range messages {
						body := aws.ToString(m.Body)
						received[body]++
						inFlight[g][body] = m.ReceiptHandle
						require.Equal(rt, strconv.Itoa(received[body]), m.Attributes["ApproximateReceiveCount"])
						require.Equal(rt, body, m.Attributes["MessageDeduplicationId"])
						require.NotEmpty(rt, m.Attributes["SentTimestamp"])
						require.NotEmpty(rt, m.Attributes["SequenceNumber"])
					}
				}
			},
			"delete": func() {
				g := group.Draw(rt, "group")
				for i, body := range waiting[g] {
					if handle := inFlight[g][body]; handle != nil && rapid.Bool().Draw(rt, "this one") {
						require.NoError(rt, queue.remove(t, handle))
						delete(inFlight[g], body)
						waiting[g] = append(waiting[g][:i:i], waiting[g][i+1:]...)
						return
					}
				}
			},
			"let go": func() {
				g := group.Draw(rt, "group")
				for _, body := range waiting[g] {
					if handle := inFlight[g][body]; handle != nil && rapid.Bool().Draw(rt, "this one") {
						require.NoError(rt, queue.hide(t, handle, 0))
						delete(inFlight[g], body)
						return
					}
				}
			},
		}
		names := rapid.SampledFrom([]string{"send", "send", "receive", "delete", "let go"})
		for _, step := range rapid.SliceOfN(names, 4, 14).Draw(rt, "steps") { // each is a call or two: no more than it takes
			steps[step]()
		}
	})
}

// A receiver that waits is given a message as soon as the one of its group that is in flight is deleted, let go, or its
// time is over; everything else is served meanwhile.
func TestFIFOFreesAGroupWhileAReceiverWaits(t *testing.T) {
	for name, c := range map[string]struct {
		timeout int32 // of the first one
		free    func(t *testing.T, queue fifo, handle *string)
		want    string
	}{
		"deleted":  {600, func(t *testing.T, q fifo, handle *string) { require.NoError(t, q.remove(t, handle)) }, "2"},
		"let go":   {600, func(t *testing.T, q fifo, handle *string) { require.NoError(t, q.hide(t, handle, 0)) }, "1"},
		"shorter":  {600, func(t *testing.T, q fifo, handle *string) { require.NoError(t, q.hide(t, handle, 1)) }, "1"},
		"time-out": {1, func(*testing.T, fifo, *string) {}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue := newFIFO(t, t, map[string]string{"VisibilityTimeout": "600"})
			queue.send(t, "g", "1", "1")
			queue.send(t, "g", "2", "2")
			out, err := emulatortest.SQS().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
				QueueUrl: queue.url, VisibilityTimeout: c.timeout,
			})
			require.NoError(t, err)
			first := out.Messages
			require.Equal(t, []string{"1"}, bodies(first))
			received := make(chan []types.Message)
			go func() {
				out, err := emulatortest.SQS().ReceiveMessage(
					t.Context(), &sqs.ReceiveMessageInput{QueueUrl: queue.url, WaitTimeSeconds: 20},
				)
				assert.NoError(t, err)
				received <- out.Messages
			}()
			// Nobody is told that a receiver waits. Were it to come later than this, the test would show less, and not fail.
			for range 20 {
				_, err := emulatortest.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
					QueueUrl:       queue.url,
					AttributeNames: []types.QueueAttributeName{"ApproximateNumberOfMessagesNotVisible"},
				})
				require.NoError(t, err)
			}
			c.free(t, queue, first[0].ReceiptHandle)
			assert.Equal(t, []string{c.want}, bodies(<-received))
			assert.Empty(t, queue.receive(t, 1, 0), "the group is worked on")
		})
	}
}

// A deduplication id counts after its message is deleted too, for the queue or for the group.
func TestFIFODeduplication(t *testing.T) {
	for scope, again := range map[string][]string{"queue": {}, "messageGroup": {"other group"}} {
		t.Run(scope, func(t *testing.T) {
			queue := newFIFO(t, t, map[string]string{"DeduplicationScope": scope})
			sent := queue.send(t, "a", "first", "id")
			twice := queue.send(t, "a", "twice", "id")
			assert.Equal(t, sent.MessageId, twice.MessageId)
			assert.Equal(t, sent.SequenceNumber, twice.SequenceNumber)
			messages := queue.receive(t, 10, 0)
			require.Equal(t, []string{"first"}, bodies(messages))
			require.NoError(t, queue.remove(t, messages[0].ReceiptHandle))
			queue.send(t, "a", "after it is deleted", "id")
			queue.send(t, "b", "other group", "id")
			assert.Equal(t, again, bodies(queue.receive(t, 10, 0)))
		})
	}
	t.Run("by content", func(t *testing.T) {
		queue := newFIFO(t, t, map[string]string{"ContentBasedDeduplication": "true"})
		for range 2 {
			out, err := emulatortest.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
				QueueUrl: queue.url, MessageBody: aws.String("same"), MessageGroupId: aws.String("a"),
			})
			require.NoError(t, err)
			assert.NotEmpty(t, out.SequenceNumber)
		}
		assert.Equal(t, []string{"same"}, bodies(queue.receive(t, 10, 0)))
	})
}

// After so many receives a message is in the dead-letter queue, where its deduplication id is its message's id, so that
// none is taken for another's copy; its group goes on.
func TestFIFODeadLetters(t *testing.T) {
	dead := newFIFO(t, t, nil)
	out, err := emulatortest.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: dead.url, AttributeNames: []types.QueueAttributeName{"QueueArn"},
	})
	require.NoError(t, err)
	queue := newFIFO(t, t, map[string]string{
		"DeduplicationScope": "messageGroup",
		"RedrivePolicy":      fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":2}`, out.Attributes["QueueArn"]),
	})
	ids := map[string]*string{}
	for _, group := range []string{"a", "b"} {
		ids[group] = queue.send(t, group, group+" poison", "same").MessageId
		queue.send(t, group, group+" next", "next")
	}
	for range 2 {
		messages := queue.receive(t, 10, 0)
		require.Equal(t, []string{"a poison", "a next", "b poison", "b next"}, bodies(messages))
		for _, m := range messages[1:2] {
			require.NoError(t, queue.hide(t, m.ReceiptHandle, 0))
		}
		for _, i := range []int{0, 2, 3} {
			require.NoError(t, queue.hide(t, messages[i].ReceiptHandle, 0))
		}
	}
	assert.Empty(t, queue.receive(t, 10, 0))
	letters := dead.receive(t, 10, 0)
	assert.Equal(t, []string{"a poison", "a next", "b poison", "b next"}, bodies(letters))
	for _, m := range letters {
		assert.Equal(t, aws.ToString(m.MessageId), m.Attributes["MessageDeduplicationId"])
	}
	assert.Equal(t, ids["a"], letters[0].MessageId)
	assert.Equal(t, "a", letters[0].Attributes["MessageGroupId"])
}

// Who was too late deletes nothing and hides nothing: the message comes again, or is with another receiver.
func TestFIFORefusesAReceiptHandleThatExpired(t *testing.T) {
	for name, again := range map[string]bool{"visible": false, "received again": true} {
		t.Run(name, func(t *testing.T) {
			queue := newFIFO(t, t, nil)
			queue.send(t, "g", "1", "1")
			first := queue.receive(t, 1, 0)[0]
			require.NoError(t, queue.hide(t, first.ReceiptHandle, 0))
			if again {
				require.Len(t, queue.receive(t, 1, 0), 1)
			}
			require.ErrorContains(t, queue.remove(t, first.ReceiptHandle), "The receipt handle has expired")
			err := queue.hide(t, first.ReceiptHandle, 0)
			require.ErrorContains(t, err, "not available for visibility timeout change")
			out, err := emulatortest.SQS().DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{
				QueueUrl: queue.url,
				Entries: []types.DeleteMessageBatchRequestEntry{
					{Id: aws.String("0"), ReceiptHandle: first.ReceiptHandle},
				},
			})
			require.NoError(t, err)
			require.Len(t, out.Failed, 1)
			assert.Equal(t, "ReceiptHandleIsInvalid", aws.ToString(out.Failed[0].Code))
		})
	}
}

// Nothing is left of a queue that was purged, and it goes on.
func TestFIFOPurge(t *testing.T) {
	queue := newFIFO(t, t, nil)
	for i := range 3 {
		queue.send(t, "g", strconv.Itoa(i), strconv.Itoa(i))
	}
	require.Len(t, queue.receive(t, 1, 0), 1)
	_, err := emulatortest.SQS().PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: queue.url})
	require.NoError(t, err)
	assert.Empty(t, queue.receive(t, 10, 0))
	queue.send(t, "g", "after", "after")
	assert.Equal(t, []string{"after"}, bodies(queue.receive(t, 10, 0)))
}

// BenchmarkFIFO takes a message, deletes it and sends another, while so many of many groups wait.
func BenchmarkFIFO(b *testing.B) {
	for _, waiting := range []int{1, 1000, 5000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			queue := newFIFO(b, b, nil)
			sent := 0
			send := func() {
				sent++
				queue.send(b, "group "+strconv.Itoa(sent%500), "body", strconv.Itoa(sent))
			}
			for range waiting {
				send()
			}
			for b.Loop() {
				messages := queue.receive(b, 1, 0)
				require.Len(b, messages, 1)
				require.NoError(b, queue.remove(b, messages[0].ReceiptHandle))
				send()
			}
		})
	}
}
