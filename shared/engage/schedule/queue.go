package schedule

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/queue"
)

// This does not compile if engage, which does not link SQS, has another idea of how long a job can be delayed.
var _ [queue.MaxDelay - engage.EnqueueWithin]struct{} = [0]struct{}{}

// URLs name the two queues that engage-deliver works through.
type URLs struct {
	Delivery string // of chunks that were never claimed
	Retry    string // of chunks that wait for another try
}

// DeliveryQueue is the queue of chunks that were never claimed. It is fair by tenant.
type DeliveryQueue struct {
	jobs  *queue.Sender[engage.Job]
	clock clock.Clock
}

// NewDeliveryQueue returns the queue of that URL.
func NewDeliveryQueue(client *sqs.Client, url string, clock clock.Clock) *DeliveryQueue {
	return &DeliveryQueue{jobs: queue.NewSender[engage.Job](client, url, clock), clock: clock}
}

// OpenDeliveryQueue returns the queue that DELIVERY_QUEUE_URL names.
func OpenDeliveryQueue(env *environment.Variables, config aws.Config) *DeliveryQueue {
	return NewDeliveryQueue(sqs.NewFromConfig(config), env.String("DELIVERY_QUEUE_URL"), clock.System{})
}

// Send enqueues jobs of chunks that were never claimed, each so that it arrives shortly before it is due, at most 15
// minutes from now: early is made up by sleeping, late by nothing. It returns an error if SQS did not take every one of
// them; engage-schedule mends that.
func (q *DeliveryQueue) Send(ctx context.Context, jobs ...engage.Job) error {
	return send(ctx, q.jobs, q.clock.Now().Add(engage.WakeAhead), jobs)
}

// Queue is the two queues that engage-deliver works through. They have pollers of their own, so that first POSTs never
// wait for repeated ones.
type Queue struct {
	*DeliveryQueue

	again *queue.Sender[engage.Job]
}

// NewQueue returns the queues of those URLs.
func NewQueue(client *sqs.Client, urls URLs, clock clock.Clock) *Queue {
	return &Queue{
		DeliveryQueue: NewDeliveryQueue(client, urls.Delivery, clock),
		again:         queue.NewSender[engage.Job](client, urls.Retry, clock),
	}
}

// OpenQueue returns the queues that DELIVERY_QUEUE_URL and RETRY_QUEUE_URL name.
func OpenQueue(env *environment.Variables, config aws.Config) *Queue {
	urls := URLs{Delivery: env.String("DELIVERY_QUEUE_URL"), Retry: env.String("RETRY_QUEUE_URL")}
	return NewQueue(sqs.NewFromConfig(config), urls, clock.System{})
}

// SendAgain enqueues jobs of chunks that wait for another try, each so that it arrives up to a second before it is due,
// at most 15 minutes from now. It returns an error as Send does.
func (q *Queue) SendAgain(ctx context.Context, jobs ...engage.Job) error {
	for i := range jobs {
		jobs[i].Again = true
	}
	return send(ctx, q.again, q.clock.Now(), jobs)
}

// backlogFrom is how many jobs wait in a queue before that is a backlog: a few are between a poll and the next whenever
// something is sent.
const backlogFrom = 100

// HasBacklog reports whether many jobs wait in one of the queues for a function that has time for them: more than 100.
// It returns SQS's error.
func (q *Queue) HasBacklog(ctx context.Context) (bool, error) {
	for _, sender := range []*queue.Sender[engage.Job]{q.jobs, q.again} {
		if waiting, err := sender.Waiting(ctx); err != nil || waiting > backlogFrom {
			return err == nil, err
		}
	}
	return false, nil
}

// send enqueues jobs so that each arrives no later than it is due after now.
func send(ctx context.Context, sender *queue.Sender[engage.Job], now time.Time, jobs []engage.Job) error {
	entries := make([]queue.Entry[engage.Job], len(jobs))
	for i, job := range jobs {
		entries[i] = queue.Entry[engage.Job]{
			Job: job, Group: job.Tenant, Delay: queue.NoLongerThan(job.DueAt().Sub(now)),
		}
	}
	return sender.Send(ctx, entries...)
}
