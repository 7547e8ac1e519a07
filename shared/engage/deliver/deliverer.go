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
	"carillon/shared/permits"
)

const (
	// presentations is how many pushes' presentations are kept: the chunks of one push follow each other.
	presentations    = 50
	presentationsTTL = 10 * time.Minute
	// maxFailures is after how many faults of AWS's or ours in a row a job is left to SQS, and in the end to the dead
	// letters: what so long a wait does not mend, a person has to look at. engage-schedule sends the chunk again.
	maxFailures = 8
)

// Queue has the two queues of engage-deliver; schedule.Queue is one.
type Queue interface {
	// Send enqueues jobs of chunks that were never claimed, so that they arrive shortly before they are due.
	Send(ctx context.Context, jobs ...engage.Job) error
	// SendAgain enqueues jobs of chunks that wait for another try, so that they arrive when they are due.
	SendAgain(ctx context.Context, jobs ...engage.Job) error
}

// Permits bound the POSTs of a tenant that are under way; store.Permits is one.
type Permits interface {
	// Take returns a permit, or a fault TooManyRequests if the tenant can have none now.
	Take(ctx context.Context, tenant string, now time.Time) (permits.Permit, error)
	// Return gives it back, and says what came of the POST.
	Return(ctx context.Context, permit permits.Permit, said engage.GatewayAnswer) error
}

// Lanes are the permits of the two queues.
type Lanes struct{ First, Again Permits }

// Concurrency is how many invocations there can be at the same time for each of the two queues: DeliveryConcurrency and
// RetryConcurrency of template.yaml.
type Concurrency struct{ First, Again int }

// NewLanes returns the permits that are kept with pushes. A tenant has no more POSTs under way in a lane than 60 % of
// the invocations that there can be, so that some of each lane are left to others, even if every one of its POSTs is
// slow and in an invocation of its own.
func NewLanes(pushes *store.Pushes, c Concurrency) Lanes {
	return Lanes{
		First: store.NewPermits(pushes, "first", permits.Share(c.First)),
		Again: store.NewPermits(pushes, "again", permits.Share(c.Again)),
	}
}

// Options are what a Deliverer is made of.
type Options struct {
	Pushes  *store.Pushes
	Queue   Queue
	Permits Lanes
	Gateway *Gateway
	Clock   clock.Clock
	Log     *slog.Logger
}

// Deliverer serves the two queues of engage-deliver: it sends chunks to the device gateway. One job is one POST at
// most; what is to be sent again comes back by another.
type Deliverer struct {
	Options

	presentations *cache.Cache[*engage.Presentation]
}

// NewDeliverer returns a Deliverer.
func NewDeliverer(o Options) *Deliverer {
	kept := cache.Options[*engage.Presentation]{Limit: presentations, TTL: presentationsTTL, Clock: o.Clock}
	return &Deliverer{Options: o, presentations: cache.New(kept)}
}

// Handle delivers the chunks of a batch of jobs, all at the same time, since they may all be due at the same time. A
// job that meets a fault of AWS's comes back by another, after a wait; it fails only if that cannot be sent, or after
// maxFailures in a row. SQS brings these back.
func (d *Deliverer) Handle(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Jobs(d.Log, d.deliver)(ctx, batch)
}

func (d *Deliverer) deliver(ctx context.Context, job engage.Job) error {
	if job.DueAt().Sub(d.Clock.Now()) > engage.MaxEarly {
		return d.sendOn(ctx, job)
	}
	delivery := &delivery{Deliverer: d, job: job}
	err := delivery.run(ctx)
	switch {
	case err == nil, fault.Is(err, fault.Conflict): // who lost a lease has nothing more to do
		return nil
	case fault.Is(err, fault.NotFound):
		d.Log.WarnContext(ctx, "unknown push", "pushId", job.RequestID)
		return nil
	}
	return delivery.comeBack(ctx, err)
}

// sendOn sends a job to its queue that follows the one that was received. One that went round too often ends:
// engage-schedule begins anew.
func (d *Deliverer) sendOn(ctx context.Context, job engage.Job) error {
	next, err := job.Next()
	switch {
	case err != nil:
		d.Log.WarnContext(ctx, "a chunk is left to engage-schedule",
			"pushId", job.RequestID, "chunk", job.Chunk, "error", err)
		return nil
	case next.Again:
		return d.Queue.SendAgain(ctx, next)
	default:
		return d.Queue.Send(ctx, next)
	}
}

// close mends a crash between the last chunk's end and the push's.
func (d *Deliverer) close(ctx context.Context, meta *engage.Meta) error {
	if meta == nil || meta.DueAt.IsZero() || !meta.Finished() {
		return nil
	}
	return d.Pushes.Close(ctx, meta.RequestID)
}
