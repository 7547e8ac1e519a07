// Package queue puts jobs onto SQS queues. Package messagebatch takes them off again; it is apart so that a function
// that only receives does not link SQS.
package queue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"carillon/shared/backoff"
	"carillon/shared/clock"
)

// MaxDelay is how long SQS delays a message at most.
const MaxDelay = 15 * time.Minute

// maxHold is less than the twelve hours that SQS keeps a message from receivers at most, from its receipt on.
const maxHold = 11 * time.Hour

const (
	entriesPerCall = 10 // what SendMessageBatch takes
	callsAtOnce    = 5
	maxTries       = 4 // of entries that SQS refused while it took others
)

var refusals = backoff.Policy{Min: 50 * time.Millisecond, Max: time.Second}

// Delay is how long SQS keeps a message back, in whole seconds from 0 to MaxDelay. The zero value is no delay.
type Delay struct{ seconds int32 }

// NoLongerThan returns the delay that ends by d at the latest: early is what its receiver makes up for.
func NoLongerThan(d time.Duration) Delay { return wholeSeconds(d) }

// NoShorterThan returns the delay that ends after d at the earliest: a message that comes early would only go round
// again.
func NoShorterThan(d time.Duration) Delay {
	return wholeSeconds(d + time.Second - 1)
}

func wholeSeconds(d time.Duration) Delay {
	return Delay{int32(max(0, min(d, MaxDelay)) / time.Second)}
}

// Entry is a job on its way into the queue.
type Entry[J any] struct {
	Job   J // becomes JSON
	Delay Delay
	// Group is whose the job is: a standard queue hands out messages of groups that have few in flight before those of
	// one that has many (SQS fair queues); a FIFO queue, which needs one, the messages of a group one after the other.
	// "" is none.
	Group string
	// DeduplicationID is what a FIFO queue tells a repeat of a call by, within its group and five minutes. "" is none.
	DeduplicationID string
}

// Sender puts jobs of one type onto a queue. It is safe for concurrent use.
type Sender[J any] struct {
	client *sqs.Client
	url    string
	clock  clock.Clock
}

// NewSender returns a sender to the queue of that URL.
func NewSender[J any](client *sqs.Client, url string, clock clock.Clock) *Sender[J] {
	return &Sender[J]{client: client, url: url, clock: clock}
}

// Send enqueues jobs, ten a call, five calls at once. It returns an error if SQS did not take every one of them, a
// fault Unavailable if that may succeed later; a call that fails costs no other its jobs.
func (s *Sender[J]) Send(ctx context.Context, entries ...Entry[J]) error {
	var group errgroup.Group
	group.SetLimit(callsAtOnce)
	for start := 0; start < len(entries); start += entriesPerCall {
		part := entries[start:min(start+entriesPerCall, len(entries))]
		group.Go(func() error { return s.send(ctx, part) })
	}
	return group.Wait()
}

func (s *Sender[J]) send(ctx context.Context, jobs []Entry[J]) error {
	entries := make([]types.SendMessageBatchRequestEntry, len(jobs))
	for i, entry := range jobs {
		body, err := json.Marshal(entry.Job)
		if err != nil {
			return err
		}
		entries[i] = types.SendMessageBatchRequestEntry{
			Id:           aws.String(strconv.Itoa(i)),
			MessageBody:  aws.String(string(body)),
			DelaySeconds: entry.Delay.seconds,
		}
		if entry.Group != "" {
			entries[i].MessageGroupId = aws.String(entry.Group)
		}
		if entry.DeduplicationID != "" {
			entries[i].MessageDeduplicationId = aws.String(entry.DeduplicationID)
		}
	}
	// SQS may refuse some entries of a batch and take the others.
	for tries := 1; ; tries++ {
		input := &sqs.SendMessageBatchInput{QueueUrl: aws.String(s.url), Entries: entries}
		out, err := s.client.SendMessageBatch(ctx, input)
		switch {
		case err != nil:
			return err
		case len(out.Failed) == 0:
			return nil
		case tries == maxTries:
			return fmt.Errorf("queue: SQS refused %d of %d messages: %s",
				len(out.Failed), len(entries), aws.ToString(out.Failed[0].Code))
		}
		entries = refused(entries, out.Failed)
		if err := refusals.Sleep(ctx, s.clock, tries); err != nil {
			return err
		}
	}
}

// Hold keeps a message that was received, by its receipt handle, from being received again until d has passed, which is
// rounded up to whole seconds, and may be longer than MaxDelay. A FIFO queue hands out nothing else of its group
// meanwhile. It returns SQS's error.
func (s *Sender[J]) Hold(ctx context.Context, receiptHandle string, d time.Duration) error {
	seconds := max(0, min((d+time.Second-1)/time.Second, maxHold/time.Second))
	_, err := s.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: aws.String(s.url), ReceiptHandle: aws.String(receiptHandle), VisibilityTimeout: int32(seconds),
	})
	return err
}

// Waiting returns how many messages could be received now, about. It returns SQS's error.
func (s *Sender[J]) Waiting(ctx context.Context) (int, error) {
	const visible = types.QueueAttributeNameApproximateNumberOfMessages
	out, err := s.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(s.url), AttributeNames: []types.QueueAttributeName{visible},
	})
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out.Attributes[string(visible)])
}

func refused(
	entries []types.SendMessageBatchRequestEntry, failed []types.BatchResultErrorEntry,
) []types.SendMessageBatchRequestEntry {
	var again []types.SendMessageBatchRequestEntry
	for _, f := range failed {
		for _, entry := range entries {
			if aws.ToString(entry.Id) == aws.ToString(f.Id) {
				again = append(again, entry)
			}
		}
	}
	return again
}
