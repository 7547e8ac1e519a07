// Package deliver sends OTT messages to the platforms. It is a package of its own so that ott-deliver alone links what
// that takes. LINE is sent to with LINE's own SDK, which adds nothing that can be measured to the start of a function
// (1.38 times the empty handler's with it, 1.39 times for the same function without) and 0.3 MB to its binary.
package deliver

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/fault"
	"carillon/shared/messagebatch"
	"carillon/shared/metrics"
	"carillon/shared/ott"
	"carillon/shared/ott/outbound"
	"carillon/shared/ott/store"
	"carillon/shared/queue"
)

const (
	// leaseTime is how long a claimed message is one process's own, and sendTime how much of it sending may take.
	leaseTime = 30 * time.Second
	sendTime  = 25 * time.Second

	userAgent = "Carillon"
)

// retries is how long a message waits before it is sent again.
var retries = backoff.Policy{Min: time.Second, Max: queue.MaxDelay}

// reasonExpired is why a message is given up whose validity period is over.
const reasonExpired = "expired"

// Delivery is a message with all that it takes to send it.
type Delivery struct {
	OttRequestID string // a UUID
	Message      ott.Message
	Registration ott.StoredRegistration
	Credentials  ott.Credentials
}

// Platform sends messages to one OTT network. Send returns an error that is *Refused or *Again unless the network took
// the message.
type Platform interface {
	Send(ctx context.Context, d Delivery) error
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
	Outbox        *outbound.Queue
	Platforms     map[ott.Platform]Platform
	Clock         clock.Clock
	Log           *slog.Logger
}

// Handle delivers a batch of messages, all at the same time. It reports those that failed for a reason that a repeat
// may mend, AWS's mostly; SQS brings these back.
func (d *Deliverer) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Jobs(d.Log, d.deliver)(ctx, event)
}

// deliver tries a message once. What is to be tried again comes back by a job of its own, so that the queue's count of
// failures, and its dead letters, are for what is wrong with this function and its tables alone.
func (d *Deliverer) deliver(ctx context.Context, job outbound.Job) error {
	now := d.Clock.Now()
	message, err := d.Messages.Claim(ctx, job.Tenant, job.OttRequestID, now, now.Add(leaseTime))
	switch {
	case fault.Is(err, fault.NotFound):
		d.Log.WarnContext(ctx, "unknown message", "ottRequestId", job.OttRequestID)
		return nil
	case fault.Is(err, fault.Conflict) && message.Final():
		return nil
	case fault.Is(err, fault.Conflict):
		// Its wait is not over, or another process is at it, and may die: then this job is all that is left of it.
		return d.Outbox.SendOn(ctx, job, message.NotBefore.Sub(now))
	case err != nil:
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, sendTime)
	err = d.send(bounded, message)
	cancel()
	refused, isRefused := errors.AsType[*Refused](err)
	again, isAgain := errors.AsType[*Again](err)
	switch {
	case err == nil:
		return d.Messages.Sent(ctx, message, d.Clock.Now())
	case isRefused:
		d.Log.WarnContext(ctx, "a message is given up", "ottRequestId", message.OttRequestID, "reason", refused.Reason)
		return fault.Ignore(d.Messages.Failed(ctx, message, refused.Reason, d.Clock.Now()), fault.Conflict)
	case isAgain:
		return d.postpone(ctx, job, message, max(again.After, retries.Wait(message.Tries+1)))
	default:
		return errors.Join(err, d.release(ctx, message, d.Clock.Now()))
	}
}

// send sends a message, unless it may not be sent any more. It returns Platform's errors, or AWS's.
func (d *Deliverer) send(ctx context.Context, stored *ott.StoredMessage) error {
	if !d.Clock.Now().Before(stored.ValidUntil) {
		return &Refused{Reason: reasonExpired}
	}
	message := stored.Message
	registration, credentials, err := d.Credentials.Load(ctx, message.Platform, message.SenderID)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && !registration.MaySend(stored.Tenant):
		return &Refused{Reason: ott.NotSendable}
	case err != nil:
		return err
	}
	start := d.Clock.Now()
	err = d.Platforms[message.Platform].Send(ctx, Delivery{
		OttRequestID: stored.OttRequestID, Message: message, Registration: registration, Credentials: credentials,
	})
	if refused, ok := errors.AsType[*Refused](err); ok && d.registeredAgain(ctx, registration) {
		err = &Again{Cause: errors.New(refused.Reason + ", and the property was registered again meanwhile")}
	}
	d.logTry(ctx, stored, registration, d.Clock.Now().Sub(start), err)
	return err
}

// registeredAgain reports whether credentials were replaced while they were used, which explains why they were refused.
func (d *Deliverer) registeredAgain(ctx context.Context, used ott.StoredRegistration) bool {
	now, err := d.Registrations.Get(ctx, used.Platform, used.PropertyID)
	return err == nil && now.SecretName != used.SecretName
}

// postpone leaves a message to another job, that comes when it is time to try again or to give up.
func (d *Deliverer) postpone(
	ctx context.Context, job outbound.Job, m *ott.StoredMessage, wait time.Duration,
) error {
	now := d.Clock.Now()
	at := now.Add(wait)
	if at.After(m.ValidUntil) {
		at = m.ValidUntil
	}
	m.Tries++
	if err := d.release(ctx, m, at); err != nil {
		return err
	}
	return d.Outbox.SendOn(ctx, job, at.Sub(now))
}

// release ends the lease of a message: who lost it has nothing more to do.
func (d *Deliverer) release(ctx context.Context, m *ott.StoredMessage, at time.Time) error {
	return fault.Ignore(d.Messages.Release(ctx, m, at), fault.Conflict)
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
		slog.Int("tries", m.Tries),
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
