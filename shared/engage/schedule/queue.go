package schedule

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/queue"
)

// This does not compile if engage, which does not link SQS, has another idea of how long a job can be delayed.
var _ [queue.MaxDelay - engage.EnqueueWithin]struct{} = [0]struct{}{}

// Queue is the SQS queue that engage-deliver works through.
type Queue struct {
	jobs  *queue.Sender[engage.Job]
	clock clock.Clock
}

// NewQueue returns the queue of that URL.
func NewQueue(client *sqs.Client, url string, clock clock.Clock) *Queue {
	return &Queue{jobs: queue.NewSender[engage.Job](client, url, clock), clock: clock}
}

// OpenQueue returns the queue that DELIVERY_QUEUE_URL names.
func OpenQueue(env *environment.Variables, config aws.Config) *Queue {
	return NewQueue(sqs.NewFromConfig(config), env.String("DELIVERY_QUEUE_URL"), clock.System{})
}

// Send enqueues jobs, each so that it arrives shortly before it is due, at most 15 minutes from now: early is made up
// by sleeping, late by nothing. It returns an error if SQS did not take every one of them; engage-schedule mends that.
func (q *Queue) Send(ctx context.Context, jobs ...engage.Job) error {
	now := q.clock.Now()
	entries := make([]queue.Entry[engage.Job], len(jobs))
	for i, job := range jobs {
		entries[i] = queue.Entry[engage.Job]{
			Job:   job,
			Delay: queue.NoLongerThan(job.DueAt().Sub(now) - engage.WakeAhead),
		}
	}
	return q.jobs.Send(ctx, entries...)
}
