// Package outbound is the queue of OTT messages between ott-send and ott-deliver. It is a package of its own so that
// the functions that have no queue do not link SQS.
package outbound

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/clock"
	"carillon/shared/environment"
	"carillon/shared/ott"
	"carillon/shared/queue"
)

// Queue is the FIFO queue that ott-deliver works through: one message of a conversation after the other, in the order
// in which they were put into it.
//
// A wait is the job's own time out of sight (Hold): SQS hands out nothing else of the conversation meanwhile. A FIFO
// queue has no delay of single messages.
type Queue struct{ sender *queue.Sender[ott.Job] }

// NewQueue returns the queue of that URL.
func NewQueue(client *sqs.Client, url string, clock clock.Clock) *Queue {
	return &Queue{sender: queue.NewSender[ott.Job](client, url, clock)}
}

// OpenQueue returns the queue that OUTBOUND_QUEUE_URL names.
func OpenQueue(env *environment.Variables, config aws.Config) *Queue {
	return NewQueue(sqs.NewFromConfig(config), env.String("OUTBOUND_QUEUE_URL"), clock.System{})
}

// Enqueue puts a job behind those of its conversation. sending tells this sending from others: the queue takes it once,
// however often the SDK repeats the call. It returns SQS's error.
func (q *Queue) Enqueue(ctx context.Context, job ott.Job, sending string) error {
	return q.sender.Send(ctx, queue.Entry[ott.Job]{Job: job, Group: job.Conversation, DeduplicationID: sending})
}

// Hold keeps a job that was received out of sight for d, in whole seconds, rounded up: then it is received again,
// before all others of its conversation. It returns SQS's error.
func (q *Queue) Hold(ctx context.Context, receiptHandle string, d time.Duration) error {
	return q.sender.Hold(ctx, receiptHandle, d)
}
