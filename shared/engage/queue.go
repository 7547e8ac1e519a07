package engage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"carillon/shared/clock"
)

const (
	messagesPerCall = 10 // what SendMessageBatch takes
	callsAtOnce     = 5
	maxDelay        = 15 * time.Minute // what SQS delays a message at most
	// wakeAhead is how long before its notBefore a chunk's message arrives: time to claim it and to build its body.
	wakeAhead = 2 * time.Second
)

// Message says that a chunk is to be sent. A message that is lost is sent again by engage-schedule, one that comes twice
// finds the chunk claimed.
type Message struct {
	RequestID string `json:"requestId"`
	Chunk     int    `json:"chunk"`
	NotBefore int64  `json:"notBefore"` // epoch ms: not to be sent before
	Tries     int    `json:"tries"`     // POSTs that failed, for the backoff
}

// DeliveryQueue is the SQS queue that engage-deliver works through.
type DeliveryQueue struct {
	client *sqs.Client
	url    string
}

// NewDeliveryQueue returns the queue of that URL.
func NewDeliveryQueue(client *sqs.Client, url string) *DeliveryQueue {
	return &DeliveryQueue{client: client, url: url}
}

// Send enqueues messages, each so that it arrives shortly before it is due, at most 15 minutes from now. It returns an
// error if SQS did not take every one of them; engage-schedule mends that.
func (q *DeliveryQueue) Send(ctx context.Context, now time.Time, messages ...Message) error {
	var group errgroup.Group // a call that fails must not cost the others their messages
	group.SetLimit(callsAtOnce)
	for start := 0; start < len(messages); start += messagesPerCall {
		part := messages[start:min(start+messagesPerCall, len(messages))]
		group.Go(func() error { return q.send(ctx, now, part) })
	}
	return group.Wait()
}

func (q *DeliveryQueue) send(ctx context.Context, now time.Time, messages []Message) error {
	entries := make([]types.SendMessageBatchRequestEntry, len(messages))
	for i, m := range messages {
		body, err := json.Marshal(m)
		if err != nil {
			return err
		}
		entries[i] = types.SendMessageBatchRequestEntry{
			Id:           aws.String(strconv.Itoa(i)),
			MessageBody:  aws.String(string(body)),
			DelaySeconds: delaySeconds(now, time.UnixMilli(m.NotBefore)),
		}
	}
	// SQS may refuse some entries of a batch and take the others.
	for try := 0; ; try++ {
		out, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(q.url), Entries: entries})
		if err != nil {
			return err
		}
		if len(out.Failed) == 0 {
			return nil
		}
		if try == 3 {
			return fmt.Errorf("engage: SQS refused %d of %d messages: %s", len(out.Failed), len(entries), aws.ToString(out.Failed[0].Code))
		}
		entries = refused(entries, out.Failed)
		if err := (clock.System{}).Sleep(ctx, minBackoff<<try); err != nil {
			return err
		}
	}
}

func refused(entries []types.SendMessageBatchRequestEntry, failed []types.BatchResultErrorEntry) []types.SendMessageBatchRequestEntry {
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

// delaySeconds is in whole seconds, rounded down: early is made up by sleeping, late by nothing.
func delaySeconds(now, notBefore time.Time) int32 {
	delay := max(0, min(notBefore.Sub(now)-wakeAhead, maxDelay))
	return int32(delay / time.Second)
}

var errMessage = errors.New("engage: a message is not what a delivery queue holds")

func decodeMessage(body string) (Message, error) {
	var m Message
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.RequestID == "" || m.Chunk < 0 {
		return Message{}, errMessage
	}
	return m, nil
}
