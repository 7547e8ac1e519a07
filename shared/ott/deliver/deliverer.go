// Package deliver sends OTT messages to the platforms. It is a package of its own so that ott-deliver alone links what
// that takes. LINE is sent to with LINE's own SDK, which adds nothing that can be measured to the start of a function
// (1.38 times the empty handler's with it, 1.39 times for the same function without) and 0.3 MB to its binary.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/messagebatch"
	"carillon/shared/metrics"
	"carillon/shared/ott"
	"carillon/shared/ott/outbound"
	"carillon/shared/ott/store"
	"carillon/shared/permits"
	"carillon/shared/queue"
)

const (
	// leaseTime is how long a claimed message is one process's own, and sendTime how much of it sending may take.
	leaseTime = 30 * time.Second
	sendTime  = 20 * time.Second
	// workTime is how long a job may take: what is left of the function's Timeout, 30 s, is for its end.
	workTime = 26 * time.Second
	// endTime is how long the queue may take to hold a job back, and the permit to be given back.
	endTime = 2 * time.Second

	userAgent = "Carillon"
)

var (
	// retries is how long a message waits before it is sent again.
	retries = backoff.Policy{Min: time.Second, Max: queue.MaxDelay}
	// pauses is how long a message waits for what is not its own: a permit, AWS, a property that is in trouble.
	pauses = backoff.Policy{Min: time.Second, Max: 30 * time.Second}
)

// unwritten is how long a job waits for its message, which ott-send writes after it: longer than ott-send runs. The
// message of one that waits in vain was never accepted.
const unwritten = 15 * time.Second

// patience is how often a job is received before it waits no less than queue.MaxDelay. A message is valid for a week at
// most, which is 672 such waits: so no job comes as often as its queue's maxReceiveCount of 1,000 while its message is
// valid.
const patience = 200

// Delivery is a message with all that it takes to send it.
type Delivery struct {
	OttRequestID string // a UUID
	Message      ott.Message
	Registration ott.StoredRegistration
	Credentials  ott.Credentials
	ValidUntil   time.Time // no call that sends it begins from then on
}

// expired returns the error of a message whose time is over, or nil.
func (d Delivery) expired(now time.Time) error {
	if now.Before(d.ValidUntil) {
		return nil
	}
	return &Refused{Reason: "expired", Expired: true}
}

// Platform sends messages to one OTT network.
type Platform interface {
	// Send returns the network's ids of a message that it took, as far as it says them, or an error that is *Refused or
	// *Again.
	Send(ctx context.Context, d Delivery) ([]string, error)
	// Repeats says how often a message may be tried that the network may have taken already.
	Repeats() Repeats
}

// Repeats bounds the tries of a message that a network did not answer: it may have taken each.
type Repeats struct {
	Tries int           // at most, in all; 0 for a network that tells a repeat
	For   time.Duration // for so long a network tells a repeat, from the first such try on; 0 for one that does not
}

// over returns why a message is not tried again, or "": open tries of it had no answer, the first of them since a time.
func (r Repeats) over(open int, since, now time.Time) string {
	switch {
	case r.Tries > 0 && open >= r.Tries:
		return fmt.Sprintf("given up after %d tries without an answer, for each may have been taken", r.Tries)
	case r.For > 0 && open > 0 && now.Sub(since) >= r.For:
		return fmt.Sprintf("given up %v after a try without an answer, for it may have been taken", r.For)
	}
	return ""
}

// Platforms returns the platforms that there are, reached by a transport.
func Platforms(transport http.RoundTripper, clock clock.Clock) map[ott.Platform]Platform {
	return map[ott.Platform]Platform{
		ott.Messenger: NewMessenger(transport, clock),
		ott.LINE:      NewLINE(transport, clock),
	}
}

// Deliverer serves the outbound queue: it sends messages to their platforms.
type Deliverer struct {
	Messages      *store.Messages
	Registrations *store.RegistrationReader
	Credentials   *store.Credentials
	States        *store.CredentialStates
	Properties    *store.Properties
	Outbox        *outbound.Queue
	Events        Events
	Platforms     map[ott.Platform]Platform
	Clock         clock.Clock
	Log           *slog.Logger
}

// Events tells the bus what became of a registration's credentials; Bus does.
type Events interface {
	PutCredentials(ctx context.Context, r ott.StoredRegistration, state ott.CredentialState) error
}

// Handle delivers what Lambda brings from the queue. A job that is to come again is held back in the queue, and
// reported as failed: that is how it stays there.
func (d *Deliverer) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Received(d.Log, d.deliver)(ctx, event)
}

// deliver tries a message once.
func (d *Deliverer) deliver(ctx context.Context, r messagebatch.Receipt[ott.Job]) error {
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	side := store.Side(r.Job.Platform, r.Job.PropertyID)
	permit, err := d.Properties.Take(ctx, side, d.Clock.Now())
	if refused, ok := errors.AsType[*permits.Refused](err); ok {
		return d.stepBack(ctx, r, refused)
	}
	if err != nil {
		return d.later(ctx, r, err)
	}
	a := &attempt{Deliverer: d, receipt: r, troubles: permit.Troubles, outcome: permits.Nothing()}
	defer d.giveBack(ctx, permit, a)
	return a.make(ctx)
}

// giveBack returns the permit, though the invocation's time may be over.
func (d *Deliverer) giveBack(ctx context.Context, permit permits.Permit, a *attempt) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := d.Properties.Return(ctx, permit, a.outcome); err != nil {
		d.Log.WarnContext(ctx, "a permit counts until its window is over", "ottRequestId", a.receipt.Job.OttRequestID,
			"error", err)
	}
}

// stepBack leaves a property alone that has all the calls it may have, or is in trouble.
func (d *Deliverer) stepBack(
	ctx context.Context, r messagebatch.Receipt[ott.Job], refused *permits.Refused,
) error {
	wait := pause(r, r.Count)
	if refused.InTrouble {
		now := d.Clock.Now()
		if refused.Until.After(now) {
			wait = refused.Until.Sub(now) + pause(r, 1)
		}
		if !now.Before(time.UnixMilli(r.Job.ValidUntil)) {
			return d.expire(ctx, r)
		}
		reason := "not sent yet, for others were not: " + refused.Reason
		if err := d.Messages.Wait(ctx, d.named(r.Job), reason); err != nil {
			return d.later(ctx, r, err)
		}
	}
	return d.hold(ctx, r, wait)
}

// named is a message as far as its job names it.
func (d *Deliverer) named(job ott.Job) *ott.StoredMessage {
	return &ott.StoredMessage{
		OttRequestID: job.OttRequestID, Tenant: job.Tenant, CreatedAt: time.UnixMilli(job.CreatedAt),
		Message: ott.Message{Platform: job.Platform, SenderID: job.PropertyID},
	}
}

// expire gives a message up whose validity is over, without a permit, for nothing is sent.
func (d *Deliverer) expire(ctx context.Context, r messagebatch.Receipt[ott.Job]) error {
	a := &attempt{Deliverer: d, receipt: r, expiredOnly: true}
	return a.make(ctx)
}

// hold has the queue bring the job again after a wait, and nothing else of its conversation before. It is never held
// past the end of its message's validity, which is when the message is given up. If SQS does not take it, the job comes
// again after the queue's visibility time-out.
func (d *Deliverer) hold(ctx context.Context, r messagebatch.Receipt[ott.Job], wait time.Duration) error {
	if r.Count >= patience {
		wait = max(wait, queue.MaxDelay)
	}
	if left := time.UnixMilli(r.Job.ValidUntil).Sub(d.Clock.Now()); left > 0 {
		wait = min(wait, left)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := d.Outbox.Hold(ctx, r.Handle, wait); err != nil {
		return err
	}
	return messagebatch.ErrHeld
}

// later logs what AWS could not do, and has the job come again soon, unless its message is over: then whoever reads it
// sees that, and the job is not needed any more.
func (d *Deliverer) later(ctx context.Context, r messagebatch.Receipt[ott.Job], err error) error {
	d.Log.ErrorContext(ctx, "a message has to wait for AWS", "ottRequestId", r.Job.OttRequestID, "error", err)
	if d.Clock.Now().After(time.UnixMilli(r.Job.ValidUntil).Add(leaseTime)) {
		return nil
	}
	return d.hold(ctx, r, pause(r, r.Count))
}

// pause is how long a job waits for what is not its own message's.
func pause(r messagebatch.Receipt[ott.Job], times int) time.Duration {
	return pauses.Half(times, backoff.Draw(r.Job.OttRequestID, r.Count))
}

// logTry writes a line per try, with its metrics in it.
func (d *Deliverer) logTry(
	ctx context.Context, m *ott.StoredMessage, r ott.StoredRegistration, took time.Duration, err error,
) {
	level, platformErrors := slog.LevelInfo, 0
	attrs := []slog.Attr{
		slog.String("ottRequestId", m.OttRequestID),
		slog.String("platform", string(r.Platform)),
		slog.String("ottPropertyId", r.PropertyID),
		slog.Int("tries", m.Progress.Tries),
		slog.Float64("durationMs", float64(took.Microseconds())/1000),
	}
	if err != nil {
		level, platformErrors = slog.LevelWarn, 1
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	attrs = append(attrs,
		slog.Int("platformErrors", platformErrors),
		slog.String("function", lambdacontext.FunctionName),
		metrics.Embedded("function", "platformErrors", "durationMs"))
	d.Log.LogAttrs(ctx, level, "ott message", attrs...)
}
