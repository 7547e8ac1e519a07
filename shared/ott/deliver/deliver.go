// Package deliver sends OTT messages to the platforms. It is a package of its own so that ott-deliver alone links what
// that takes. LINE is sent to with LINE's own SDK, which adds nothing that can be measured to the start of a function
// (1.38 times the empty handler's with it, 1.39 times for the same function without) and 0.3 MB to its binary.
package deliver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/fault"
	"carillon/shared/messagebatch"
	"carillon/shared/metrics"
	"carillon/shared/ott"
	"carillon/shared/ott/outbound"
)

const (
	// leaseTime is how long a claimed message is one process's own, and sendTime how much of it sending may take.
	leaseTime = 30 * time.Second
	sendTime  = 25 * time.Second
	// minRetry and maxRetry bound the wait before a message is sent again, doubled each time.
	minRetry = time.Second
	maxRetry = outbound.MaxDelay

	userAgent = "Carillon"
)

// reasonExpired is why a message is given up whose validity period is over.
const reasonExpired = "expired"

// Delivery is a message with all that it takes to send it.
type Delivery struct {
	OttRequestID string // a UUID
	Message      ott.Message
	Registration ott.StoredRegistration
	Credentials  ott.Credentials
}

// Platform sends messages to one OTT network. Send returns an error that is *Refused or *Again unless the network took the message.
type Platform interface {
	Send(ctx context.Context, d Delivery) error
}

// Clock tells the time. clock.System is the real one.
type Clock interface{ Now() time.Time }

// Deliverer serves the outbound queue: it sends messages to their platforms.
type Deliverer struct {
	messages      *ott.MessageStore
	registrations *ott.RegistrationReader
	credentials   *ott.CredentialsReader
	queue         *outbound.Queue
	platforms     map[ott.Platform]Platform
	clock         Clock
}

// New returns a Deliverer that reaches the platforms by a transport.
func New(messages *ott.MessageStore, registrations *ott.RegistrationReader, credentials *ott.CredentialsReader,
	queue *outbound.Queue, transport http.RoundTripper, clock Clock,
) *Deliverer {
	return &Deliverer{
		messages: messages, registrations: registrations, credentials: credentials, queue: queue, clock: clock,
		platforms: map[ott.Platform]Platform{ott.Messenger: NewMessenger(transport), ott.LINE: NewLINE(transport, clock)},
	}
}

// Handle delivers a batch of messages, all at the same time. It reports those that failed for a reason that a repeat may
// mend, AWS's mostly; SQS brings these back.
func (d *Deliverer) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Each(slog.Default(), d.handle)(ctx, event)
}

func (d *Deliverer) handle(ctx context.Context, body string) error {
	queued, err := outbound.Decode(body)
	if err != nil {
		return err
	}
	return d.deliver(ctx, queued)
}

// deliver tries a message once. What is to be tried again comes back by a message of its own, so that the queue's count of
// failures, and its dead letters, are for what is wrong with this function and its tables alone.
func (d *Deliverer) deliver(ctx context.Context, queued outbound.Message) error {
	now := d.clock.Now()
	message, err := d.messages.Claim(ctx, queued.Tenant, queued.OttRequestID, now, now.Add(leaseTime))
	switch {
	case fault.Is(err, fault.NotFound):
		slog.WarnContext(ctx, "the queue names a message that there is not", "ottRequestId", queued.OttRequestID)
		return nil
	case fault.Is(err, fault.Conflict) && message.Final():
		return nil
	case fault.Is(err, fault.Conflict):
		// Its wait is not over, or another process is at it, and may die: then this message is all that is left of it.
		return d.queue.Enqueue(ctx, queued.Tenant, queued.OttRequestID, message.NotBefore.Sub(now))
	case err != nil:
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, sendTime)
	err = d.send(bounded, message)
	cancel()
	var refused *Refused
	var again *Again
	switch {
	case err == nil:
		return d.messages.Sent(ctx, message, d.clock.Now())
	case errors.As(err, &refused):
		slog.WarnContext(ctx, "a message is given up", "ottRequestId", message.OttRequestID, "reason", refused.Reason)
		return ignoreConflict(d.messages.Failed(ctx, message, refused.Reason, d.clock.Now()))
	case errors.As(err, &again):
		return d.park(ctx, message, max(again.After, backoff(message.Tries)))
	default:
		return errors.Join(err, ignoreConflict(d.messages.Park(ctx, message, d.clock.Now())))
	}
}

// send sends a message, unless it may not be sent any more. It returns Platform's errors, or AWS's.
func (d *Deliverer) send(ctx context.Context, stored *ott.StoredMessage) error {
	message, faults, err := ott.DecodeSend(bytes.NewReader(stored.Body))
	if err := errors.Join(err, faults.Err()); err != nil {
		return err // it was checked before it was kept
	}
	if !d.clock.Now().Before(stored.CreatedAt.Add(message.Validity)) {
		return &Refused{Reason: reasonExpired}
	}
	registration, credentials, err := d.credentials.Load(ctx, d.registrations, message.Platform, message.SenderID)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && !registration.MaySend(stored.Tenant):
		return &Refused{Reason: ott.NotSendable}
	case err != nil:
		return err
	}
	start := d.clock.Now()
	err = d.platforms[message.Platform].Send(ctx, Delivery{
		OttRequestID: stored.OttRequestID, Message: message, Registration: registration, Credentials: credentials,
	})
	var refused *Refused
	if errors.As(err, &refused) && d.registeredAgain(ctx, registration) {
		err = &Again{Cause: errors.New(refused.Reason + ", and the property was registered again meanwhile")}
	}
	d.log(ctx, stored, registration, d.clock.Now().Sub(start), err)
	return err
}

// registeredAgain reports whether credentials were replaced while they were used, which explains why they were refused.
func (d *Deliverer) registeredAgain(ctx context.Context, used ott.StoredRegistration) bool {
	now, err := d.registrations.Get(ctx, used.Platform, used.PropertyID)
	return err == nil && now.SecretName != used.SecretName
}

// park leaves a message to another one of the queue, that comes when it is time to try again or to give up.
func (d *Deliverer) park(ctx context.Context, stored *ott.StoredMessage, wait time.Duration) error {
	message, _, err := ott.DecodeSend(bytes.NewReader(stored.Body))
	if err != nil {
		return err
	}
	now := d.clock.Now()
	at := now.Add(wait)
	if expiry := stored.CreatedAt.Add(message.Validity); at.After(expiry) {
		at = expiry
	}
	stored.Tries++
	if err := ignoreConflict(d.messages.Park(ctx, stored, at)); err != nil {
		return err
	}
	return d.queue.Enqueue(ctx, stored.Tenant, stored.OttRequestID, at.Sub(now))
}

// ignoreConflict: who lost a lease has nothing more to do.
func ignoreConflict(err error) error {
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}

// backoff is the wait before a try: doubled each time, with jitter.
func backoff(tries int) time.Duration {
	d := min(minRetry<<min(tries, 16), maxRetry)
	return d/2 + rand.N(d/2+1)
}

// log writes a line per try, with its metrics in it.
func (d *Deliverer) log(ctx context.Context, m *ott.StoredMessage, r ott.StoredRegistration, took time.Duration, err error) {
	level, platformErrors := slog.LevelInfo, 0
	attrs := []slog.Attr{
		slog.String("ottRequestId", m.OttRequestID),
		slog.String("platform", string(r.Platform)),
		slog.String("propertyId", r.PropertyID),
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
	slog.LogAttrs(ctx, level, "ott message", attrs...)
}
