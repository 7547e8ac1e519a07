package engage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/cache"
	"carillon/shared/fault"
	"carillon/shared/messagebatch"
	"carillon/shared/metrics"
)

const (
	// leaseTime is how long a claimed chunk is one process's own. A POST is only begun while it lasts, with its time-out to
	// spare, so two processes never send at the same time; and a chunk whose process died is claimed again soon after.
	leaseTime = 25 * time.Second
	// sleepAhead is how early a message may come and be slept out; an earlier one goes back to the queue.
	sleepAhead = 5 * time.Second
	// minRetry and maxRetry bound the wait before the same POST is sent again, doubled each time.
	minRetry = 250 * time.Millisecond
	maxRetry = time.Minute
	// contents is how many pushes' contents are kept: the chunks of one push follow each other.
	contents    = 50
	contentsTTL = 10 * time.Minute
)

// Deliverer serves the delivery queue: it sends chunks to the device gateway.
type Deliverer struct {
	pushes   *PushStore
	queue    *DeliveryQueue
	gateway  *Gateway
	clock    Clock
	contents *cache.Cache[*Content]
}

// Clock tells the time and lets it pass. clock.System is the real one.
type Clock interface {
	Now() time.Time
	// Sleep waits for d, or returns the context's error.
	Sleep(ctx context.Context, d time.Duration) error
}

// NewDeliverer returns a Deliverer.
func NewDeliverer(pushes *PushStore, queue *DeliveryQueue, gateway *Gateway, clock Clock) *Deliverer {
	return &Deliverer{pushes: pushes, queue: queue, gateway: gateway, clock: clock, contents: cache.New(cache.Options[*Content]{Limit: contents, TTL: contentsTTL})}
}

// Handle delivers the chunks of a batch of messages, all at the same time, since they may all be due at the same time. It
// reports those that failed for a reason that a repeat may mend, AWS's mostly; SQS brings these back.
func (d *Deliverer) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Each(slog.Default(), d.handle)(ctx, event)
}

func (d *Deliverer) handle(ctx context.Context, body string) error {
	message, err := decodeMessage(body)
	if err != nil {
		return err
	}
	return d.deliver(ctx, message)
}

func (d *Deliverer) deliver(ctx context.Context, message Message) error {
	now := d.clock.Now()
	if early := time.UnixMilli(message.NotBefore).Sub(now); early > wakeAhead+sleepAhead {
		return d.queue.Send(ctx, now, message)
	}
	until := now.Add(leaseTime + rand.N(time.Second)) // so that two who claim at the same moment hold different ones
	lease, meta, first, err := d.pushes.Claim(ctx, message.RequestID, message.Chunk, now, until)
	switch {
	case fault.Is(err, fault.Conflict):
		return d.closeIfFinished(ctx, meta)
	case fault.Is(err, fault.NotFound):
		slog.WarnContext(ctx, "a message is of no push", "requestId", message.RequestID)
		return nil
	case err != nil:
		return err
	}
	delivery := &delivery{Deliverer: d, message: message, lease: lease, meta: meta}
	if err := delivery.load(ctx, first); err != nil {
		return errors.Join(err, ignoreConflict(d.pushes.Park(ctx, lease, d.clock.Now())))
	}
	return ignoreConflict(delivery.run(ctx))
}

// closeIfFinished mends a crash between the last chunk's end and the push's.
func (d *Deliverer) closeIfFinished(ctx context.Context, meta *Meta) error {
	if meta == nil || meta.DueAt.IsZero() || !meta.Finished() {
		return nil
	}
	return d.pushes.Close(ctx, meta.RequestID)
}

// ignoreConflict: who lost a lease has nothing more to do.
func ignoreConflict(err error) error {
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}

// delivery is the sending of one chunk under one lease.
type delivery struct {
	*Deliverer
	message      Message
	lease        Lease
	meta         *Meta
	content      *Content
	destinations []Destination
	progress     Progress
}

func (d *delivery) load(ctx context.Context, first bool) (err error) {
	d.content, err = d.contents.Get(ctx, d.meta.RequestID, cache.AnyAge, func(ctx context.Context) (*Content, error) {
		return d.pushes.Content(ctx, d.meta.RequestID)
	})
	if err != nil {
		return err
	}
	if d.destinations, err = d.pushes.Destinations(ctx, d.meta.RequestID, d.lease.Chunk); err != nil {
		return err
	}
	known := false
	if !first {
		if d.progress, known, err = d.pushes.Progress(ctx, d.meta.RequestID, d.lease.Chunk); err != nil {
			return err
		}
	}
	if !known {
		d.progress = Progress{Results: make([]Result, len(d.destinations))}
	}
	if len(d.progress.Results) != len(d.destinations) {
		return errChunk
	}
	return nil
}

// run sends until every destination has its result, or until the lease is nearly over: then the chunk is parked and a
// message brings it back. Before the next POST of what the gateway wants again, what is known is kept, so whoever goes
// on after a crash sends the same POST under the same webhook-id.
func (d *delivery) run(ctx context.Context) error {
	if countResults(d.progress.Results).Pending == 0 {
		return d.finish(ctx) // who held the lease before died just before this
	}
	body, err := d.body()
	if err != nil {
		return err
	}
	// Signed before the time comes, as of then: what is left to do at notBefore is to send.
	webhook, err := d.gateway.Prepare(ctx, d.webhookID(), later(d.clock.Now(), d.meta.NotBefore), body)
	if err != nil {
		return errors.Join(err, ignoreConflict(d.pushes.Park(ctx, d.lease, d.clock.Now())))
	}
	if err := d.clock.Sleep(ctx, d.meta.NotBefore.Sub(d.clock.Now())); err != nil {
		return err
	}
	for {
		if !d.clock.Now().Before(d.meta.DeliverBefore()) {
			return d.expire(ctx)
		}
		if !d.timeForPost(ctx) {
			return d.park(ctx, d.clock.Now())
		}
		lateness := d.clock.Now().Sub(d.meta.NotBefore)
		answer, err := d.gateway.Post(webhook)
		d.log(ctx, lateness, answer, err)
		var again *retryable
		var wait time.Duration
		switch {
		case errors.As(err, &again):
			wait = max(again.after, backoff(d.message.Tries))
			d.message.Tries++
		default:
			d.apply(answer)
			if countResults(d.progress.Results).Pending == 0 {
				return d.finish(ctx)
			}
			d.progress.Attempt++
			if err := d.pushes.SaveProgress(ctx, d.lease, d.progress, d.meta.DeliverBefore()); err != nil {
				return err
			}
			if body, err = d.body(); err != nil {
				return err
			}
			wait = backoff(d.progress.Attempt - 1)
		}
		at := d.clock.Now().Add(wait)
		if at.Add(gatewayTimeout).After(d.lease.Until) {
			return d.park(ctx, at)
		}
		if err := d.clock.Sleep(ctx, wait); err != nil {
			return err
		}
		if webhook, err = d.gateway.Prepare(ctx, d.webhookID(), d.clock.Now(), body); err != nil {
			return errors.Join(err, ignoreConflict(d.pushes.Park(ctx, d.lease, d.clock.Now())))
		}
	}
}

// timeForPost reports whether a POST begun now would end within the lease and the function's time.
func (d *delivery) timeForPost(ctx context.Context) bool {
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
	var pending []Destination
	for i, destination := range d.destinations {
		if d.progress.Results[i].pending() {
			pending = append(pending, destination)
		}
	}
	return pushBody(d.meta, d.lease.Chunk, d.content, pending)
}

func (d *delivery) apply(answer Answer) {
	for i, destination := range d.destinations {
		if !d.progress.Results[i].pending() {
			continue
		}
		switch result, told := answer.Results[destination.BNumber]; {
		case answer.AllDelivered:
			d.progress.Results[i] = Result{State: StateDelivered, DeliveredAt: answer.At}
		case answer.Refused != "":
			d.progress.Results[i] = Result{State: StateFailed, Reason: answer.Refused}
		case told:
			d.progress.Results[i] = result
		}
	}
}

// expire ends what could not be delivered in time.
func (d *delivery) expire(ctx context.Context) error {
	for i := range d.progress.Results {
		if d.progress.Results[i].pending() {
			d.progress.Results[i] = Result{State: StateExpired, Reason: "not delivered before notBefore + ttlSeconds"}
		}
	}
	return d.finish(ctx)
}

// finish keeps the results, then the chunk's counts, and closes the push with its last chunk.
func (d *delivery) finish(ctx context.Context) error {
	if err := d.pushes.SaveProgress(ctx, d.lease, d.progress, d.meta.DeliverBefore()); err != nil {
		return err
	}
	meta, err := d.pushes.Finish(ctx, d.lease, countResults(d.progress.Results), d.isLast())
	if err != nil {
		return err
	}
	return d.closeIfFinished(ctx, meta)
}

// isLast reports whether every other chunk was final when this one was claimed, and so for good. If two chunks end at the
// same time neither knows that it is the last; closeIfFinished does.
func (d *delivery) isLast() bool {
	for i, chunk := range d.meta.Chunks {
		if i != d.lease.Chunk && chunk.Final == nil && !d.meta.cancelled(chunk) {
			return false
		}
	}
	return true
}

// park leaves the chunk to a message that comes when it is time to go on, and to engage-schedule if that is lost.
func (d *delivery) park(ctx context.Context, at time.Time) error {
	if expiry := d.meta.DeliverBefore(); at.After(expiry) {
		at = expiry
	}
	if err := d.pushes.Park(ctx, d.lease, at); err != nil {
		return err
	}
	message := d.message
	message.NotBefore = millis(at)
	return d.queue.Send(ctx, d.clock.Now(), message)
}

// backoff is the wait before a try: doubled each time, with jitter.
func backoff(tries int) time.Duration {
	d := min(minRetry<<min(tries, 16), maxRetry)
	return d/2 + rand.N(d/2+1)
}

// log writes a line per POST, with its metrics in it.
func (d *delivery) log(ctx context.Context, lateness time.Duration, answer Answer, err error) {
	level, gatewayErrors := slog.LevelInfo, 0
	if answer.Refused != "" {
		err = errors.New(answer.Refused)
	}
	attrs := []slog.Attr{
		slog.String("pushId", d.meta.RequestID),
		slog.Int("chunk", d.lease.Chunk),
		slog.Int("attempt", d.progress.Attempt),
		slog.Int("tries", d.message.Tries),
	}
	if err != nil {
		level, gatewayErrors = slog.LevelWarn, 1
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	attrs = append(attrs, slog.Int("gatewayErrors", gatewayErrors))
	measured := []string{"gatewayErrors"}
	if d.progress.Attempt == 0 && d.message.Tries == 0 {
		attrs = append(attrs, slog.Float64("latenessMs", float64(lateness.Microseconds())/1000))
		measured = append(measured, "latenessMs")
	}
	attrs = append(attrs, slog.String("function", lambdacontext.FunctionName), metrics.Embedded("function", measured...))
	slog.LogAttrs(ctx, level, "push", attrs...)
}
