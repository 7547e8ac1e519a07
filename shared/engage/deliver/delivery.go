package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon/shared/backoff"
	"carillon/shared/cache"
	"carillon/shared/engage"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
)

// retries is the wait before a chunk's next POST.
var retries = backoff.Policy{Min: 250 * time.Millisecond, Max: time.Minute}

// delivery is the sending of one chunk under one lease.
type delivery struct {
	*Deliverer
	job          engage.Job
	lease        store.Lease
	meta         *engage.Meta
	presentation *engage.Presentation
	destinations []engage.Destination
	progress     store.Progress
}

func (d *delivery) load(ctx context.Context, first bool) (err error) {
	id, chunk := d.meta.RequestID, d.lease.Chunk
	read := func(ctx context.Context) (*engage.Presentation, error) { return d.pushes.Presentation(ctx, id) }
	if d.presentation, err = d.presentations.Get(ctx, id, cache.AnyAge, read); err != nil {
		return err
	}
	if d.destinations, err = d.pushes.Destinations(ctx, id, chunk); err != nil {
		return err
	}
	known := false
	if !first {
		if d.progress, known, err = d.pushes.Progress(ctx, id, chunk); err != nil {
			return err
		}
	}
	if !known {
		d.progress = store.Progress{Results: make([]engage.Result, len(d.destinations))}
	}
	if len(d.progress.Results) != len(d.destinations) {
		return engage.ErrChunk
	}
	return nil
}

// run sends until every destination has its result, or until the lease is nearly over: then the chunk is released and a
// job brings it back. Before the next POST of what the gateway wants again, what is known is kept, so whoever goes on
// after a crash sends the same POST under the same webhook-id.
func (d *delivery) run(ctx context.Context) error {
	if d.pending() == 0 {
		return d.finish(ctx) // who held the lease before died just before this
	}
	body, err := d.body()
	if err != nil {
		return err
	}
	// Signed before the time comes, as of then: what is left to do at notBefore is to send.
	at := d.clock.Now()
	if d.meta.NotBefore.After(at) {
		at = d.meta.NotBefore
	}
	post, err := d.gateway.prepare(ctx, d.webhookID(), at, body)
	if err != nil {
		return d.giveUp(ctx, err)
	}
	if err := d.clock.Sleep(ctx, d.meta.NotBefore.Sub(d.clock.Now())); err != nil {
		return err
	}
	for {
		if !d.clock.Now().Before(d.meta.DeliverBefore()) {
			return d.expire(ctx)
		}
		if !d.isTimeForPost(ctx) {
			return d.leave(ctx, d.clock.Now())
		}
		lateness := d.clock.Now().Sub(d.meta.NotBefore)
		said, err := d.gateway.send(post)
		d.logPost(ctx, lateness, said, err)
		var wait time.Duration
		if again, ok := errors.AsType[*retryable](err); ok {
			d.job.Tries++
			wait = max(again.after, retries.Wait(d.job.Tries))
		} else {
			d.apply(said)
			if d.pending() == 0 {
				return d.finish(ctx)
			}
			d.progress.Attempt++
			if err := d.pushes.SaveProgress(ctx, d.lease, d.progress, d.meta.DeliverBefore()); err != nil {
				return err
			}
			if body, err = d.body(); err != nil {
				return err
			}
			wait = retries.Wait(d.progress.Attempt)
		}
		at := d.clock.Now().Add(wait)
		if at.Add(gatewayTimeout).After(d.lease.Until) {
			return d.leave(ctx, at)
		}
		if err := d.clock.Sleep(ctx, wait); err != nil {
			return err
		}
		if post, err = d.gateway.prepare(ctx, d.webhookID(), d.clock.Now(), body); err != nil {
			return d.giveUp(ctx, err)
		}
	}
}

// isTimeForPost reports whether a POST begun now would end within the lease and the function's time. So two processes
// never send a chunk at the same time.
func (d *delivery) isTimeForPost(ctx context.Context) bool {
	end := d.clock.Now().Add(gatewayTimeout)
	deadline, bounded := ctx.Deadline()
	return !end.After(d.lease.Until) && (!bounded || !end.After(deadline))
}

func (d *delivery) webhookID() string {
	if d.progress.Attempt == 0 {
		return fmt.Sprintf("%s.%d", d.meta.RequestID, d.lease.Chunk)
	}
	return fmt.Sprintf("%s.%d.%d", d.meta.RequestID, d.lease.Chunk, d.progress.Attempt)
}

// body is of the destinations that have no result yet.
func (d *delivery) body() ([]byte, error) {
	var pending []engage.Destination
	for i, destination := range d.destinations {
		if d.progress.Results[i].IsPending() {
			pending = append(pending, destination)
		}
	}
	return encodeBody(d.meta, d.lease.Chunk, d.presentation, pending)
}

// pending is how many destinations have no result yet.
func (d *delivery) pending() int { return engage.Count(d.progress.Results).Pending }

func (d *delivery) apply(a answer) {
	for i, destination := range d.destinations {
		if !d.progress.Results[i].IsPending() {
			continue
		}
		switch result, told := a.results[destination.BNumber]; {
		case a.allDelivered:
			d.progress.Results[i] = engage.Result{State: engage.StateDelivered, DeliveredAt: a.at}
		case a.refused != "":
			d.progress.Results[i] = engage.Result{State: engage.StateFailed, Reason: a.refused}
		case told:
			d.progress.Results[i] = result
		}
	}
}

// expire ends what could not be delivered in time.
func (d *delivery) expire(ctx context.Context) error {
	expired := engage.Result{State: engage.StateExpired, Reason: "not delivered before notBefore + ttlSeconds"}
	for i := range d.progress.Results {
		if d.progress.Results[i].IsPending() {
			d.progress.Results[i] = expired
		}
	}
	return d.finish(ctx)
}

// finish keeps the results, then the chunk's counts, and closes the push with its last chunk: meta is as it was when
// the chunk was claimed, and chunks that were final then are so for good. If two chunks end at the same time neither
// knows that it is the last; closeIfFinished does.
func (d *delivery) finish(ctx context.Context) error {
	if err := d.pushes.SaveProgress(ctx, d.lease, d.progress, d.meta.DeliverBefore()); err != nil {
		return err
	}
	counts := engage.Count(d.progress.Results)
	meta, err := d.pushes.Finish(ctx, d.lease, counts, d.meta.IsLast(d.lease.Chunk))
	if err != nil {
		return err
	}
	return d.closeIfFinished(ctx, meta)
}

// leave leaves the chunk to a job that comes when it is time to go on, and to engage-schedule if that is lost.
func (d *delivery) leave(ctx context.Context, at time.Time) error {
	if expiry := d.meta.DeliverBefore(); at.After(expiry) {
		at = expiry
	}
	if err := d.pushes.Release(ctx, d.lease, at); err != nil {
		return err
	}
	job := d.job
	job.NotBefore = engage.Millis(at)
	return d.queue.Send(ctx, job)
}

// giveUp releases the lease at once, for whoever SQS brings the job back to, and returns why.
func (d *delivery) giveUp(ctx context.Context, cause error) error {
	return errors.Join(cause, fault.Ignore(d.pushes.Release(ctx, d.lease, d.clock.Now()), fault.Conflict))
}
