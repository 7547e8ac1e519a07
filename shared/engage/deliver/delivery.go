package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon/shared/cache"
	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
	"carillon/shared/permits"
)

const (
	// spareTime is what is left of the function's time after the longest POST, to record what came of it.
	spareTime = time.Second
	// giveBackTime is how long it may take to return a permit.
	giveBackTime = 2 * time.Second
)

// unreadable is why destinations failed that could not even be sent.
const unreadable = "what is kept of the chunk cannot be read"

// delivery is one job: the sending of one chunk by one POST.
type delivery struct {
	*Deliverer

	job          engage.Job
	presentation *engage.Presentation
	destinations []engage.Destination
	unreadable   error // why there is nothing to send

	lease    store.Lease
	meta     *engage.Meta // nil until the chunk is claimed
	state    engage.ChunkState
	progress store.Progress
	said     engage.GatewayAnswer // to the POST of this job
	sent     string               // its webhook-id
	isFirst  bool                 // of the chunk
}

// run reads the chunk and prepares its POST, waits until just before its time, claims it, sends it, and records what
// came of it. Until the claim the chunk can be cancelled; what was read before cannot change.
func (d *delivery) run(ctx context.Context) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	var post webhook
	var unsigned error
	if d.isToBeSent() && !d.job.Again { // else more has to be known first
		post, unsigned = d.prepare(ctx)
	}
	if err := d.sleepUntil(ctx, d.claimAt()); err != nil {
		return err
	}
	if d.isToBeSent() {
		permit, err := d.lane().Take(ctx, d.job.Tenant, d.Clock.Now())
		if fault.Is(err, fault.TooManyRequests) {
			return d.giveWay(ctx)
		}
		if err != nil {
			return err
		}
		defer func() { d.giveBack(ctx, permit) }()
	}
	if claimed, err := d.claim(ctx); err != nil || !claimed {
		return err
	}
	switch {
	case d.isExpired():
		return d.expire(ctx)
	case d.unreadable != nil:
		return d.fail(ctx, unreadable)
	case d.pending() == 0:
		return d.finish(ctx, engage.Result{}) // who claimed it before died just before this
	case d.state.Attempt >= engage.MaxAttempts:
		return d.fail(ctx, d.noResult()) // likewise
	case post.request == nil && unsigned == nil, d.state.Attempt > 0:
		post, unsigned = d.prepare(ctx)
	}
	switch {
	case errors.Is(unsigned, engage.ErrChunk):
		return d.fail(ctx, unreadable)
	case unsigned != nil:
		return d.waitForSecret(ctx, unsigned)
	}
	if err := d.sleepUntil(ctx, d.due()); err != nil {
		return err
	}
	switch {
	case d.isExpired():
		return d.expire(ctx)
	case !d.isTimeForPost(ctx):
		return d.waitAfter(ctx, d.job.Refusals+1)
	}
	return d.send(ctx, post)
}

// claimAt is when the chunk is claimed: as late as it can be, for it can be cancelled until then. What is sent again is
// due within a second, so nothing is claimed ahead for it.
func (d *delivery) claimAt() time.Time {
	if d.job.Again {
		return d.job.DueAt()
	}
	return d.job.DueAt().Add(-engage.ClaimAhead)
}

// waitForSecret waits for a signing secret that can be read and used. If none comes in time, that is the reason.
func (d *delivery) waitForSecret(ctx context.Context, cause error) error {
	d.Log.ErrorContext(ctx, "a push cannot be signed", "pushId", d.job.RequestID, "error", cause)
	d.state.Last = engage.Unsigned
	return d.waitAfter(ctx, d.job.Refusals+1)
}

// load reads what is to be sent. What is not there, or cannot be read, is no fault of AWS's: the chunk ends with that.
func (d *delivery) load(ctx context.Context) (err error) {
	id := d.job.RequestID
	read := func(ctx context.Context) (*engage.Presentation, error) { return d.Pushes.Presentation(ctx, id) }
	d.presentation, err = d.presentations.Get(ctx, id, cache.AnyAge, read)
	if err == nil {
		d.destinations, err = d.Pushes.Destinations(ctx, id, d.job.Chunk)
	}
	if errors.Is(err, engage.ErrChunk) || fault.Is(err, fault.NotFound) {
		d.unreadable, err = err, nil
	}
	return err
}

// prepare builds and signs the POST of all that has no result yet, as of when it is due. It returns engage.ErrChunk if
// there is no body to be made of what is kept, or Gateway.prepare's error.
func (d *delivery) prepare(ctx context.Context) (webhook, error) {
	var pending []engage.Destination
	for i, destination := range d.destinations {
		if len(d.progress.Results) == 0 || d.progress.Results[i].IsPending() {
			pending = append(pending, destination)
		}
	}
	body, err := encodeBody(d.job.RequestID, d.job.Chunk, d.presentation, pending)
	if err != nil {
		return webhook{}, err
	}
	return d.Gateway.prepare(ctx, d.webhookID(), clock.Later(d.Clock.Now(), d.due()), body)
}

// due is when the chunk is to be sent: when the job says, but not before its push may be, nor before its own wait is
// over.
func (d *delivery) due() time.Time {
	due := clock.Later(d.job.DueAt(), d.presentation.NotBefore)
	if d.state.Phase == engage.Waiting {
		return clock.Later(due, d.state.Until)
	}
	return due
}

func (d *delivery) webhookID() string {
	if d.state.Attempt == 0 {
		return fmt.Sprintf("%s.%d", d.job.RequestID, d.job.Chunk)
	}
	return fmt.Sprintf("%s.%d.%d", d.job.RequestID, d.job.Chunk, d.state.Attempt)
}

// isToBeSent reports whether there is a POST to be sent, as far as is known before the claim.
func (d *delivery) isToBeSent() bool {
	return d.unreadable == nil && d.Clock.Now().Before(d.presentation.DeliverBefore())
}

// isExpired reports whether nothing of the push may be sent any more.
func (d *delivery) isExpired() bool { return !d.Clock.Now().Before(d.meta.DeliverBefore()) }

func (d *delivery) lane() Permits {
	if d.job.Again {
		return d.Permits.Again
	}
	return d.Permits.First
}

// giveBack returns the permit, though the invocation's time may be over; not for long, since others wait for the end of
// the invocation.
func (d *delivery) giveBack(ctx context.Context, permit permits.Permit) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
	defer cancel()
	if err := d.lane().Return(ctx, permit, d.said); err != nil {
		d.Log.WarnContext(ctx, "a permit counts until its window is over", "pushId", d.job.RequestID, "error", err)
	}
}

// giveWay makes room in the lane: the tenant has its share of it. From the first lane the job goes to the other one,
// there it waits.
func (d *delivery) giveWay(ctx context.Context) error {
	job := d.job
	if job.Again {
		job.Refusals++
		job = job.At(clock.Later(d.wait(job.Refusals, 0), job.DueAt())) // earlier it would not be claimed
	}
	job.Again = true
	return d.sendOn(ctx, job)
}

// claim takes the lease and reads what is known of the chunk. It reports whether there is anything to do under it.
func (d *delivery) claim(ctx context.Context) (bool, error) {
	now := d.Clock.Now()
	until := now.Add(d.Gateway.timeout + engage.LeaseMargin)
	lease, meta, err := d.Pushes.Claim(ctx, d.job.RequestID, d.job.Chunk, d.job.DueAt(), now, until)
	if fault.Is(err, fault.Conflict) {
		return false, d.leaveAlone(ctx, meta, now)
	}
	if err != nil {
		return false, err
	}
	d.lease, d.meta, d.state = lease, meta, lease.Before
	if d.state.Phase == engage.Leased {
		d.state.Tries++ // whoever held it died, perhaps after the POST
	}
	if d.state.Phase != engage.Unclaimed && d.unreadable == nil {
		err = d.recall(ctx)
	}
	return err == nil, err
}

// leaveAlone does what is left to do about a chunk that cannot be claimed: it has ended, or is in another's hands.
func (d *delivery) leaveAlone(ctx context.Context, meta *engage.Meta, now time.Time) (err error) {
	if meta != nil && meta.IsAbandoned(d.job.Chunk, now) {
		if meta, err = d.Pushes.EndAbandoned(ctx, d.job.RequestID, d.job.Chunk, now); err != nil {
			return err
		}
	}
	return d.close(ctx, meta)
}

// recall reads what is known of the chunk by those who held it before.
func (d *delivery) recall(ctx context.Context) error {
	progress, known, err := d.Pushes.Progress(ctx, d.job.RequestID, d.job.Chunk)
	if errors.Is(err, engage.ErrChunk) || err == nil && known && len(progress.Results) != len(d.destinations) {
		d.unreadable = engage.ErrChunk
		return nil
	}
	if err != nil || !known {
		return err
	}
	d.progress = progress
	if progress.Attempt > d.state.Attempt { // the process died before it could say so
		d.state.Attempt, d.state.Tries = progress.Attempt, 0
	}
	return nil
}

// isTimeForPost reports whether a POST begun now would end within the lease and the function's time. So two processes
// never send a chunk at the same time, though their clocks may differ.
func (d *delivery) isTimeForPost(ctx context.Context) bool {
	end := d.Clock.Now().Add(d.Gateway.timeout)
	deadline, bounded := ctx.Deadline()
	return !end.Add(engage.ClockSkew).After(d.lease.Until) && (!bounded || !end.Add(spareTime).After(deadline))
}

func (d *delivery) send(ctx context.Context, post webhook) error {
	lateness := d.Clock.Now().Sub(d.meta.NotBefore)
	d.sent, d.isFirst = d.webhookID(), d.state.Attempt == 0 && d.state.Tries == 0
	said := d.Gateway.send(post, d.state.Tries > 0)
	d.said = said.said
	var measured tally
	defer func() { d.logPost(ctx, lateness, said, measured) }()
	switch said.kind {
	case delivered:
		return d.finish(ctx, engage.Result{State: engage.StateDelivered, DeliveredAt: said.at})
	case refused:
		measured.failed = 1
		return d.fail(ctx, fmt.Sprintf("the gateway answered %d", int(said.said)))
	case each:
		measured = d.apply(said)
		return d.record(ctx)
	default:
		measured.failed = 1
		d.state.Tries++
		d.state.Last = said.said
		return d.waitUntil(ctx, d.wait(d.state.Tries, said.after))
	}
}

// apply takes the gateway's results.
func (d *delivery) apply(a answer) tally {
	if len(d.progress.Results) == 0 {
		d.progress.Results = make([]engage.Result, len(d.destinations))
	}
	measured := tally{odd: a.results.Odd}
	matched := 0
	for i, destination := range d.destinations {
		if !d.progress.Results[i].IsPending() {
			continue
		}
		result, told := a.results.Of(destination.BNumber)
		if told {
			matched++
		}
		d.progress.Results[i] = result
		if result.IsPending() {
			measured.retries++
		}
	}
	measured.unmatched = a.results.Len() - matched
	return measured
}

// record keeps the results that were applied, and lets what has none be sent again, alone.
func (d *delivery) record(ctx context.Context) error {
	if d.pending() == 0 {
		if same := d.allTheSame(); same {
			rest := d.progress.Results[0]
			d.progress.Results = nil
			return d.finish(ctx, rest)
		}
		if err := d.save(ctx); err != nil {
			return err
		}
		return d.finish(ctx, engage.Result{})
	}
	d.state.Attempt, d.state.Tries, d.state.Last = d.state.Attempt+1, 0, engage.NoResult
	d.progress.Attempt = d.state.Attempt
	if err := d.save(ctx); err != nil {
		return err
	}
	if d.state.Attempt >= engage.MaxAttempts {
		return d.fail(ctx, d.noResult())
	}
	return d.waitAfter(ctx, d.state.Attempt)
}

// allTheSame reports whether one result stands for all destinations: then meta alone says so.
func (d *delivery) allTheSame() bool {
	for _, result := range d.progress.Results {
		if result != d.progress.Results[0] {
			return false
		}
	}
	return d.state.Attempt == 0 // else results of its own are kept already
}

// noResult says why destinations have failed that the gateway has had often enough.
func (d *delivery) noResult() string {
	reason := fmt.Sprintf("no result in %d POSTs", engage.MaxAttempts)
	if wanted := d.wantedAgain(); wanted != "" {
		return reason + "; the gateway's last answer: " + wanted
	}
	return reason
}

// wantedAgain is why the gateway wanted a destination again, if it said so of any.
func (d *delivery) wantedAgain() string {
	for _, result := range d.progress.Results {
		if result.IsPending() && result.Reason != "" {
			return result.Reason
		}
	}
	return ""
}

func (d *delivery) save(ctx context.Context) error {
	return d.Pushes.SaveProgress(ctx, d.lease, d.progress, d.meta.DeliverBefore())
}

// own are the counts of the destinations that have a result of their own.
func (d *delivery) own() engage.Counts {
	if len(d.progress.Results) == 0 {
		return engage.Counts{}
	}
	return engage.Count(d.progress.Results)
}

// pending is how many destinations have no result yet.
func (d *delivery) pending() int {
	if len(d.progress.Results) == 0 {
		return d.state.Counts.Total
	}
	return d.own().Pending
}

// expire ends what could not be delivered in time.
func (d *delivery) expire(ctx context.Context) error {
	reason := d.state.Last.ExpiredReason()
	if wanted := d.wantedAgain(); d.state.Last == engage.NoResult && wanted != "" {
		reason += ", " + wanted
	}
	return d.finish(ctx, engage.Result{State: engage.StateExpired, Reason: reason})
}

// fail ends what has no result.
func (d *delivery) fail(ctx context.Context, reason string) error {
	return d.finish(ctx, engage.Result{State: engage.StateFailed, Reason: reason})
}

// finish ends the chunk, in which rest is what became of all that has no result, and closes the push with its last
// chunk: meta is as it was when the chunk was claimed, and chunks that had ended then have ended for good. If two
// chunks end at the same time neither knows that it is the last; close does.
func (d *delivery) finish(ctx context.Context, rest engage.Result) error {
	meta, err := d.Pushes.Finish(ctx, d.lease, d.meta.NotBefore, d.own(), rest, d.meta.IsLast(d.job.Chunk))
	if err != nil {
		return err
	}
	return d.close(ctx, meta)
}

// wait returns when to try again after so many failures in a row.
func (d *delivery) wait(failures int, retryAfter time.Duration) time.Time {
	w := engage.Wait{
		Now: d.Clock.Now(), Failures: failures, RetryAfter: retryAfter,
		Of: fmt.Sprintf("%s.%d.%d", d.job.RequestID, d.job.Chunk, d.state.Attempt),
	}
	if w.DeliverBefore = w.Now.Add(engage.EnqueueWithin); d.presentation != nil {
		w.DeliverBefore = d.presentation.DeliverBefore()
	}
	return w.End()
}

func (d *delivery) waitAfter(ctx context.Context, failures int) error {
	return d.waitUntil(ctx, d.wait(failures, 0))
}

// waitUntil leaves the chunk to a job that comes when it is time, and to engage-schedule if that is lost. What is left
// of a push that was cancelled meanwhile is cancelled.
func (d *delivery) waitUntil(ctx context.Context, at time.Time) error {
	at = clock.Later(at, d.meta.NotBefore)
	d.state.Until = at
	d.state.Counts = d.own()
	err := d.Pushes.Wait(ctx, d.lease, d.state)
	if fault.Is(err, store.Cancelled) {
		return d.finish(ctx, engage.Result{State: engage.StateCancelled})
	}
	if err != nil {
		return err
	}
	d.lease = store.Lease{}
	job := d.job.At(at)
	job.Again, job.Failures = true, 0
	if job.Refusals = 0; d.state.Last == engage.Unsigned {
		job.Refusals = d.job.Refusals + 1
	}
	return d.sendOn(ctx, job)
}

// comeBack lets the job come back that met a fault of AWS's or ours, when its lease is over if it has one.
func (d *delivery) comeBack(ctx context.Context, cause error) error {
	job := d.job
	job.Again = true
	if job.Failures++; job.Failures > maxFailures {
		return cause
	}
	at := clock.Later(d.wait(job.Failures, 0), job.DueAt())
	if !d.lease.Until.IsZero() {
		at = clock.Later(at, d.lease.Until.Add(2*engage.ClockSkew))
	}
	d.Log.WarnContext(ctx, "a chunk comes back", "pushId", job.RequestID, "chunk", job.Chunk,
		"failures", job.Failures, "error", cause)
	if err := d.sendOn(ctx, job.At(at)); err != nil {
		return errors.Join(cause, err)
	}
	return nil
}

func (d *delivery) sleepUntil(ctx context.Context, at time.Time) error {
	if wait := at.Sub(d.Clock.Now()); wait > 0 {
		return d.Clock.Sleep(ctx, wait)
	}
	return nil
}
