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
	"carillon/shared/queue"
	"carillon/shared/rounds"
)

// Job says that a message is to be sent. One that comes twice finds the message leased or final. The tries so far are
// counted with the message, so a repeat does not start the backoff anew. It is a messagebatch.Job.
type Job struct {
	Tenant       string       `json:"tenant"`
	OttRequestID string       `json:"ottRequestId"`
	Rounds       rounds.Count `json:"rounds,omitzero"`
}

// Complete reports whether the job names a message.
func (j Job) Complete() bool { return j.Tenant != "" && j.OttRequestID != "" && j.Rounds >= 0 }

// Queue is the SQS queue that ott-deliver works through.
type Queue struct{ sender *queue.Sender[Job] }

// NewQueue returns the queue of that URL.
func NewQueue(client *sqs.Client, url string, clock clock.Clock) *Queue {
	return &Queue{sender: queue.NewSender[Job](client, url, clock)}
}

// OpenQueue returns the queue that OUTBOUND_QUEUE_URL names.
func OpenQueue(env *environment.Variables, config aws.Config) *Queue {
	return NewQueue(sqs.NewFromConfig(config), env.String("OUTBOUND_QUEUE_URL"), clock.System{})
}

// Enqueue says that a message is to be sent once delay has passed, or at queue.MaxDelay if that is sooner: a job that
// comes early goes round the queue once more. It returns SQS's error.
func (q *Queue) Enqueue(ctx context.Context, tenant, ottRequestID string, delay time.Duration) error {
	return q.send(ctx, Job{Tenant: tenant, OttRequestID: ottRequestID}, delay)
}

// SendOn sends a job of this queue round once more, with a delay as Enqueue's. It returns rounds.ErrTooMany for one
// that may not go round again, or SQS's error.
func (q *Queue) SendOn(ctx context.Context, job Job, delay time.Duration) (err error) {
	if job.Rounds, err = job.Rounds.Next(); err != nil {
		return err
	}
	return q.send(ctx, job, delay)
}

func (q *Queue) send(ctx context.Context, job Job, delay time.Duration) error {
	return q.sender.Send(ctx, queue.Entry[Job]{Job: job, Delay: queue.NoShorterThan(delay)})
}
