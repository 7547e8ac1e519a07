package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"carillon/provision"
	"carillon/shared/stackname"
)

const (
	// receiveAtMost is how many messages SQS hands out at once.
	receiveAtMost = 10
	// receiveWait, in seconds, makes SQS ask all of its servers: a receive without it can miss messages that are there.
	receiveWait = 1
	// peekVisibility, in seconds, is how long a message that is looked at stays out of sight if it cannot be put back.
	// It cannot be 0: the SDK leaves that out of the request, and the queue's own 30 seconds would hold.
	peekVisibility = 20
	// moveVisibility, in seconds, is how long a message that is being moved by hand stays out of sight.
	moveVisibility = 60
	// pairTimeout bounds a send with the delete that belongs to it; both end although Ctrl-C is pressed in between.
	pairTimeout = 30 * time.Second
	// taskPoll is how often SQS is asked how far its task has come.
	taskPoll = 500 * time.Millisecond
	// shownBody is how much of a foreign message is shown.
	shownBody = 80
)

// queue is a queue of the stack.
type queue struct{ name, url, arn string }

// queues are the delivery queue and where its messages go that cannot be delivered.
type queues struct {
	client     *sqs.Client
	live, dead queue
}

// findQueues finds both queues by their names. The error is provision.ErrNoStack where there are none.
func findQueues(ctx context.Context, b bundle) (*queues, error) {
	q := &queues{
		client: b.sqs,
		live:   queue{name: stackname.DeliveryQueue(b.stack)},
		dead:   queue{name: stackname.DeliveryDeadLetterQueue(b.stack)},
	}
	for _, one := range []*queue{&q.dead, &q.live} {
		found, err := q.client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &one.name})
		if missing, ok := errors.AsType[*types.QueueDoesNotExist](err); ok && missing != nil {
			return nil, fmt.Errorf("queue %s: %w", one.name, provision.ErrNoStack)
		}
		if err != nil {
			return nil, err
		}
		one.url = aws.ToString(found.QueueUrl)
		attributes, err := q.attributes(ctx, *one, types.QueueAttributeNameQueueArn)
		if err != nil {
			return nil, err
		}
		one.arn = attributes[string(types.QueueAttributeNameQueueArn)]
	}
	return q, nil
}

func (q *queues) attributes(
	ctx context.Context,
	of queue,
	names ...types.QueueAttributeName,
) (map[string]string, error) {
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &of.url, AttributeNames: names})
	if err != nil {
		return nil, err
	}
	return out.Attributes, nil
}

// look counts the dead letters and returns up to n of them. They stay in the queue.
func (q *queues) look(ctx context.Context, n int) (int, []deadLetter, error) {
	attributes, err := q.attributes(
		ctx,
		q.dead,
		types.QueueAttributeNameApproximateNumberOfMessages,
		types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
	)
	if err != nil {
		return 0, nil, err
	}
	count := 0
	for _, text := range attributes {
		value, err := strconv.Atoi(text)
		if err != nil {
			return 0, nil, fmt.Errorf("SQS counts %q messages in %s", text, q.dead.name)
		}
		count += value
	}
	messages, err := q.peek(ctx, n)
	if err != nil {
		return 0, nil, err
	}
	sample := make([]deadLetter, len(messages))
	for i, m := range messages {
		sample[i] = readDeadLetter(m)
	}
	slices.SortFunc(sample, func(a, b deadLetter) int {
		return cmp.Or(
			a.QueuedAt.Compare(b.QueuedAt),
			cmp.Compare(a.RequestID, b.RequestID),
			cmp.Compare(a.Chunk, b.Chunk),
		)
	})
	return max(count, len(sample)), sample, nil
}

// peek receives up to n dead letters and puts all of them back in sight.
func (q *queues) peek(ctx context.Context, n int) (messages []types.Message, err error) {
	defer func() { err = errors.Join(err, q.putBack(ctx, messages)) }()
	for len(messages) < n {
		out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl:            &q.dead.url,
			MaxNumberOfMessages: int32(min(n-len(messages), receiveAtMost)), //nolint:gosec // at most 10
			VisibilityTimeout:   peekVisibility,
			WaitTimeSeconds:     receiveWait,
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{
				types.MessageSystemAttributeNameSentTimestamp,
				types.MessageSystemAttributeNameApproximateReceiveCount,
			},
		})
		if err != nil {
			return messages, err
		}
		if len(out.Messages) == 0 {
			break
		}
		messages = append(messages, out.Messages...)
	}
	return messages, nil
}

// putBack brings received messages back in sight at once. Should it not come to that, they come back by themselves.
func (q *queues) putBack(ctx context.Context, messages []types.Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pairTimeout)
	defer cancel()
	for part := range slices.Chunk(messages, receiveAtMost) {
		entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(part))
		for i, m := range part {
			entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{
				Id:                aws.String(strconv.Itoa(i)),
				ReceiptHandle:     m.ReceiptHandle,
				VisibilityTimeout: 0,
			}
		}
		if _, err := q.client.ChangeMessageVisibilityBatch(
			ctx,
			&sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.dead.url, Entries: entries},
		); err != nil {
			return err
		}
	}
	return nil
}

func readDeadLetter(m types.Message) deadLetter {
	d := deadLetter{MessageID: aws.ToString(m.MessageId)}
	if ms, err := strconv.ParseInt(
		m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)],
		10,
		64,
	); err == nil {
		d.QueuedAt = time.UnixMilli(ms).UTC()
	}
	d.Received, _ = strconv.Atoi(
		m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)],
	) // absent: 0
	var body struct {
		RequestID string `json:"requestId"`
		Chunk     int    `json:"chunk"`
		NotBefore int64  `json:"notBefore"` // epoch milliseconds
	}
	text := aws.ToString(m.Body)
	if err := json.Unmarshal([]byte(text), &body); err != nil || body.RequestID == "" {
		d.Body = text[:min(len(text), shownBody)]
		return d
	}
	d.RequestID, d.Chunk = body.RequestID, body.Chunk
	if body.NotBefore != 0 {
		d.NotBefore = time.UnixMilli(body.NotBefore).UTC()
	}
	return d
}

// report tells how far a move has come: messages moved, refused (they stay dead letters), and the total as far as
// known.
type report func(moved, refused, total int)

// move puts every dead letter back into the delivery queue. SQS does it itself where it can; a task that it has not
// ended yet is followed to its end, and only where there is none is one started, if start says that there is something
// to move.
func (q *queues) move(ctx context.Context, start bool, report report) error {
	tasks, err := q.tasks(ctx)
	switch {
	case lacksTasks(err) && start:
		return q.moveByHand(ctx, report)
	case lacksTasks(err):
		return nil
	case err != nil:
		return err
	case len(tasks) > 0 && !taskEnded(tasks[0]):
		return q.follow(ctx, 0, report)
	case !start:
		return nil
	}
	_, err = q.client.StartMessageMoveTask(
		ctx,
		&sqs.StartMessageMoveTaskInput{SourceArn: &q.dead.arn, DestinationArn: &q.live.arn},
	)
	if err != nil {
		return err
	}
	var before int64
	if len(tasks) > 0 {
		before = tasks[0].StartedTimestamp
	}
	return q.follow(ctx, before, report)
}

// tasks returns the tasks of the dead-letter queue, the newest first.
func (q *queues) tasks(ctx context.Context) ([]types.ListMessageMoveTasksResultEntry, error) {
	out, err := q.client.ListMessageMoveTasks(
		ctx,
		&sqs.ListMessageMoveTasksInput{SourceArn: &q.dead.arn, MaxResults: aws.Int32(receiveAtMost)},
		func(o *sqs.Options) { o.RetryMaxAttempts = 1 },
	)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out.Results, func(a, b types.ListMessageMoveTasksResultEntry) int {
		return cmp.Compare(b.StartedTimestamp, a.StartedTimestamp)
	})
	return out.Results, nil
}

// lacksTasks reports whether what answers does not know tasks: an emulator. To move by hand is right in any case, so
// every failure that is not about permission or parameters may count as that.
func lacksTasks(err error) bool {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		switch api.ErrorCode() {
		case "UnknownOperationException",
			"InvalidAction",
			"UnsupportedOperation",
			"AWS.SimpleQueueService.UnsupportedOperation":
			return true
		}
	}
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return ok && response.HTTPStatusCode() >= http.StatusInternalServerError
}

func taskEnded(task types.ListMessageMoveTasksResultEntry) bool {
	status := aws.ToString(task.Status)
	return status != "RUNNING" && status != "CANCELLING"
}

// follow waits for the newest task to end that was started after a time in epoch milliseconds: the list may still lack
// it for a moment.
func (q *queues) follow(ctx context.Context, after int64, report report) error {
	for {
		tasks, err := q.tasks(ctx)
		if err != nil {
			return err
		}
		if len(tasks) > 0 && tasks[0].StartedTimestamp > after {
			task := tasks[0]
			report(
				int(task.ApproximateNumberOfMessagesMoved),
				0,
				int(aws.ToInt64(task.ApproximateNumberOfMessagesToMove)),
			)
			if taskEnded(task) {
				return taskError(task)
			}
		}
		if !sleep(ctx, taskPoll) {
			return ctx.Err()
		}
	}
}

func taskError(task types.ListMessageMoveTasksResultEntry) error {
	switch status := aws.ToString(task.Status); status {
	case "COMPLETED":
		return nil
	case "CANCELLED":
		return errors.New("somebody has cancelled the move; `carillon push redrive` again moves the rest")
	default:
		return fmt.Errorf(
			"SQS says %s: %s; `carillon push redrive` again moves the rest",
			status,
			cmp.Or(aws.ToString(task.FailureReason), "no reason"),
		)
	}
}

// moveByHand receives, sends, and only then deletes: whatever happens in between, a message is there once or twice and
// never lost, and twice is harmless, because a chunk is claimed once. It ends with an empty queue. What it moves cannot
// come back meanwhile: to be a dead letter again takes five receives.
func (q *queues) moveByHand(ctx context.Context, report report) error {
	var moved, refused int
	for {
		out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl:              &q.dead.url,
			MaxNumberOfMessages:   receiveAtMost,
			VisibilityTimeout:     moveVisibility,
			WaitTimeSeconds:       receiveWait,
			MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			return err
		}
		if len(out.Messages) == 0 {
			report(moved, refused, moved+refused)
			return nil
		}
		done, err := q.movePair(ctx, out.Messages)
		if err != nil {
			return err
		}
		moved += done
		refused += len(out.Messages) - done
		report(moved, refused, 0)
		if done == 0 {
			return nil // whatever refuses all of these would refuse the next ones, too
		}
	}
}

// movePair sends messages and deletes those that were taken. It returns how many are moved.
func (q *queues) movePair(ctx context.Context, messages []types.Message) (int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pairTimeout)
	defer cancel()
	entries := make([]types.SendMessageBatchRequestEntry, len(messages))
	for i, m := range messages {
		entries[i] = types.SendMessageBatchRequestEntry{
			Id:                aws.String(strconv.Itoa(i)),
			MessageBody:       m.Body,
			MessageAttributes: m.MessageAttributes,
		}
	}
	sent, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.live.url, Entries: entries})
	if err != nil || len(sent.Successful) == 0 {
		return 0, err
	}
	var deletes []types.DeleteMessageBatchRequestEntry
	for _, entry := range sent.Successful {
		i, err := strconv.Atoi(aws.ToString(entry.Id))
		if err != nil || i < 0 || i >= len(messages) {
			return 0, fmt.Errorf("SQS answers for an entry %q that it was not sent", aws.ToString(entry.Id))
		}
		deletes = append(
			deletes,
			types.DeleteMessageBatchRequestEntry{Id: entry.Id, ReceiptHandle: messages[i].ReceiptHandle},
		)
	}
	deleted, err := q.client.DeleteMessageBatch(
		ctx,
		&sqs.DeleteMessageBatchInput{QueueUrl: &q.dead.url, Entries: deletes},
	)
	if err != nil {
		return 0, err
	}
	return len(deleted.Successful), nil
}
