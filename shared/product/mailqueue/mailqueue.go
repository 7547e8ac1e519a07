// Package mailqueue is the queue of activation mails between product-create and product-mail. It is a package of its
// own so that the functions that put nothing into it do not link SQS.
package mailqueue

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

// Job says that a mail is to be sent. One that comes twice finds the mail claimed or sent.
type Job struct {
	RequestID string       `json:"requestId"`
	Tries     int          `json:"tries,omitzero"` // how often SES did not take it, for the backoff
	Rounds    rounds.Count `json:"rounds,omitzero"`
}

// Complete reports whether the job names its mail.
func (j Job) Complete() bool { return j.RequestID != "" && j.Tries >= 0 && j.Rounds >= 0 }

// Queue is the SQS queue that product-mail works through.
type Queue struct{ sender *queue.Sender[Job] }

// NewQueue returns the queue of that URL.
func NewQueue(client *sqs.Client, url string, clock clock.Clock) *Queue {
	return &Queue{sender: queue.NewSender[Job](client, url, clock)}
}

// OpenQueue returns the queue that MAIL_QUEUE_URL names.
func OpenQueue(env *environment.Variables, config aws.Config) *Queue {
	return NewQueue(sqs.NewFromConfig(config), env.String("MAIL_QUEUE_URL"), clock.System{})
}

// Enqueue says that a request's mail is to be sent. It returns the error of queue.Sender.
func (q *Queue) Enqueue(ctx context.Context, requestID string) error {
	return q.send(ctx, Job{RequestID: requestID}, 0)
}

// SendOn sends a job of this queue round once more, to be done about wait from now, 15 minutes at most: up to a second
// early, never late, for a mail that comes early is simply sent, and one that comes late may find its link over. It
// returns rounds.ErrTooMany for one that may not go round again, or the error of queue.Sender.
func (q *Queue) SendOn(ctx context.Context, job Job, wait time.Duration) (err error) {
	if job.Rounds, err = job.Rounds.Next(); err != nil {
		return err
	}
	return q.send(ctx, job, wait)
}

func (q *Queue) send(ctx context.Context, job Job, wait time.Duration) error {
	return q.sender.Send(ctx, queue.Entry[Job]{Job: job, Delay: queue.NoLongerThan(wait)})
}
