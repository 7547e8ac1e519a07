// Package deliver sends the chunks of pushes to the operator's device gateway.
package deliver

import (
	"context"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"carillon/shared/cache"
	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
	"carillon/shared/messagebatch"
)

const (
	// sleepAhead is how early a job may come and be slept out; an earlier one goes back to the queue.
	sleepAhead = 5 * time.Second
	// presentations is how many pushes' presentations are kept: the chunks of one push follow each other.
	presentations    = 50
	presentationsTTL = 10 * time.Minute
)

// Queue is the delivery queue; schedule.Queue is one.
type Queue interface {
	// Send enqueues jobs, so that they arrive shortly before they are due.
	Send(ctx context.Context, jobs ...engage.Job) error
}

// Deliverer serves the delivery queue: it sends chunks to the device gateway.
type Deliverer struct {
	pushes        *store.Pushes
	queue         Queue
	gateway       *Gateway
	clock         clock.Clock
	log           *slog.Logger
	presentations *cache.Cache[*engage.Presentation]
}

// NewDeliverer returns a Deliverer.
func NewDeliverer(
	pushes *store.Pushes, queue Queue, gateway *Gateway, clock clock.Clock, log *slog.Logger,
) *Deliverer {
	kept := cache.Options[*engage.Presentation]{Limit: presentations, TTL: presentationsTTL, Clock: clock}
	return &Deliverer{
		pushes: pushes, queue: queue, gateway: gateway, clock: clock, log: log, presentations: cache.New(kept),
	}
}

// Handle delivers the chunks of a batch of jobs, all at the same time, since they may all be due at the same time. It
// reports those that failed for a reason that a repeat may mend, AWS's mostly; SQS brings these back.
func (d *Deliverer) Handle(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Jobs(d.log, d.deliver)(ctx, batch)
}

func (d *Deliverer) deliver(ctx context.Context, job engage.Job) error {
	now := d.clock.Now()
	if early := job.DueAt().Sub(now); early > engage.WakeAhead+sleepAhead {
		return d.queue.Send(ctx, job)
	}
	lease, meta, first, err := d.pushes.Claim(ctx, job.RequestID, job.Chunk, now, now.Add(engage.LeaseTime))
	switch {
	case fault.Is(err, fault.Conflict):
		return d.closeIfFinished(ctx, meta)
	case fault.Is(err, fault.NotFound):
		d.log.WarnContext(ctx, "unknown push", "pushId", job.RequestID)
		return nil
	case err != nil:
		return err
	}
	delivery := &delivery{Deliverer: d, job: job, lease: lease, meta: meta}
	if err := delivery.load(ctx, first); err != nil {
		return delivery.giveUp(ctx, err)
	}
	return fault.Ignore(delivery.run(ctx), fault.Conflict) // who lost a lease has nothing more to do
}

// closeIfFinished mends a crash between the last chunk's end and the push's.
func (d *Deliverer) closeIfFinished(ctx context.Context, meta *engage.Meta) error {
	if meta == nil || meta.DueAt.IsZero() || !meta.Finished() {
		return nil
	}
	return d.pushes.Close(ctx, meta.RequestID)
}
