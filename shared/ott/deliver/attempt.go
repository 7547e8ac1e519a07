package deliver

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"carillon/shared/backoff"
	"carillon/shared/fault"
	"carillon/shared/messagebatch"
	"carillon/shared/ott"
	"carillon/shared/permits"
)

// attempt is one try to send a message, under a permit of its property's.
type attempt struct {
	*Deliverer
	receipt  messagebatch.Receipt[ott.Job]
	troubles int // of the property, in a row, before this try
	outcome  permits.Outcome
	message  *ott.StoredMessage
	delivery Delivery
	begun    time.Time
	// expiredOnly is set of one without a permit: it may give up a message that has expired, and nothing else.
	expiredOnly bool
}

// breaks is how long a property in trouble is left alone. It is short, for the call that ends it is one alone.
var breaks = backoff.Policy{Min: time.Second, Max: 30 * time.Second}

func (a *attempt) make(ctx context.Context) error {
	job := a.receipt.Job
	sendable, err := a.load(ctx)
	switch {
	case fault.Is(err, fault.NotFound) && a.mayBeWritten():
		return a.hold(ctx, a.receipt, time.Second)
	case fault.Is(err, fault.NotFound):
		a.Log.WarnContext(ctx, "the message of a job was never accepted", "ottRequestId", job.OttRequestID)
		return nil
	case err != nil:
		return a.later(ctx, a.receipt, err)
	}
	m, now := a.message, a.Clock.Now()
	otherRequest := job.CreatedAt != 0 && m.CreatedAt.UnixMilli() != job.CreatedAt
	if m.Message.Conversation(job.Tenant) != job.Conversation || otherRequest {
		// Of a request that was refused, for its key stands for this message, or that had no answer before its repeat
		// had one. The message has a job of its own, which stands where its 201 has it.
		a.Log.InfoContext(ctx, "a job of another request is dropped", "ottRequestId", job.OttRequestID)
		return nil
	}
	if a.expiredOnly && now.Before(m.ValidUntil) { // the clock went back since the job was looked at
		return a.hold(ctx, a.receipt, pause(a.receipt, a.receipt.Count))
	}
	err = a.Messages.Claim(ctx, m, now, now.Add(leaseTime))
	switch {
	case fault.Is(err, fault.Conflict) && m.Progress.Final():
		return nil
	case fault.Is(err, fault.Conflict): // the job came early, or what held the lease died
		return a.hold(ctx, a.receipt, m.Progress.NotBefore.Sub(now))
	case err != nil:
		return a.later(ctx, a.receipt, err)
	}
	// Those who began the tries before, but for this one, died or had no answer.
	over := a.Platforms[m.Message.Platform].Repeats().over(m.Progress.Open-1, m.Progress.OpenSince, now)
	switch {
	case !now.Before(m.ValidUntil):
		return a.expire(ctx)
	case !sendable:
		return a.giveUp(ctx, ott.NotSendable)
	case over != "":
		return a.giveUp(ctx, withLast(over, m.Progress.Reason))
	}
	ids, err := a.send(ctx)
	return a.record(ctx, ids, err)
}

// load reads the message, and its registration with its credentials, as they are now. It reports whether the
// registration may send it. It returns a fault NotFound if there is no such message, or AWS's error.
func (a *attempt) load(ctx context.Context) (sendable bool, err error) {
	job := a.receipt.Job
	group, reading := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		a.message, err = a.written(reading)
		return err
	})
	group.Go(func() error {
		r, credentials, err := a.Credentials.Load(reading, job.Platform, job.PropertyID)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		a.delivery.Registration, a.delivery.Credentials = r, credentials
		sendable = err == nil && r.MaySend(job.Tenant)
		return err
	})
	if err := group.Wait(); err != nil {
		return false, err
	}
	a.delivery.OttRequestID, a.delivery.Message = job.OttRequestID, a.message.Message
	a.delivery.ValidUntil = a.message.ValidUntil
	return sendable, nil
}

// writes is how long the job's message is waited for within the invocation: ott-send writes it some milliseconds after
// it sends the job.
var writes = backoff.Policy{Min: 20 * time.Millisecond, Max: 160 * time.Millisecond}

// written returns the job's message. It looks five times, within half a second, before it returns a fault NotFound.
func (a *attempt) written(ctx context.Context) (*ott.StoredMessage, error) {
	for tries := 1; ; tries++ {
		m, err := a.Messages.Load(ctx, a.receipt.Job.Tenant, a.receipt.Job.OttRequestID)
		if !fault.Is(err, fault.NotFound) || tries == 5 || !a.mayBeWritten() {
			return m, err
		}
		if err := writes.Sleep(ctx, a.Clock, tries); err != nil {
			return nil, err
		}
	}
}

// mayBeWritten reports whether ott-send may still be about to write the job's message.
func (a *attempt) mayBeWritten() bool {
	return a.Clock.Now().Before(time.UnixMilli(a.receipt.Job.QueuedAt).Add(unwritten))
}

func (a *attempt) send(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	a.begun = a.Clock.Now()
	ids, err := a.Platforms[a.delivery.Message.Platform].Send(ctx, a.delivery)
	took := a.Clock.Now().Sub(a.begun)
	if refused, ok := errors.AsType[*Refused](err); ok && refused.Credentials && a.registeredAgain(ctx) {
		err = &Again{Cause: errors.New(refused.Reason + ", and the property was registered again meanwhile")}
	}
	a.logTry(ctx, a.message, a.delivery.Registration, took, err)
	return ids, err
}

// registeredAgain reports whether credentials were replaced while they were used, which explains why they were refused.
func (a *attempt) registeredAgain(ctx context.Context) bool {
	used := a.delivery.Registration
	now, err := a.Registrations.Get(ctx, used.Platform, used.PropertyID)
	return err == nil && now.SecretName != used.SecretName
}

// record keeps what came of a try.
func (a *attempt) record(ctx context.Context, ids []string, err error) error {
	m := a.message
	refused, isRefused := errors.AsType[*Refused](err)
	again, isAgain := errors.AsType[*Again](err)
	switch {
	case err == nil:
		a.outcome = permits.Well()
		m.Progress.BegunAt, m.Progress.PlatformIDs = a.begun, ids
		err := a.recordSent(ctx)
		a.noteCredentials(ctx, ott.CredentialState{Name: ott.CredentialsAccepted})
		return err
	case isRefused && refused.Expired:
		return a.expire(ctx)
	case isRefused:
		a.outcome = permits.Well()
		err := a.giveUp(ctx, refused.Reason)
		if refused.Credentials {
			a.noteCredentials(ctx, ott.CredentialState{Name: ott.CredentialsRefused, Reason: refused.Reason})
		}
		return err
	case isAgain:
		return a.postpone(ctx, again)
	default: // no platform returns one
		return a.later(ctx, a.receipt, err)
	}
}

// sentRetries is how long it waits before it is said again that a message was sent.
var sentRetries = backoff.Policy{Min: 50 * time.Millisecond, Max: time.Second}

// recordSent says that the platform took the message, again and again while there is time: the next try could be a
// copy.
func (a *attempt) recordSent(ctx context.Context) error {
	for tries := 1; ; tries++ {
		err := a.Messages.Sent(ctx, a.message, a.Clock.Now())
		if err == nil {
			return nil
		}
		if overdue := sentRetries.Sleep(ctx, a.Clock, tries); overdue != nil {
			return a.later(ctx, a.receipt, err)
		}
	}
}

// giveUp ends a claimed message.
func (a *attempt) giveUp(ctx context.Context, reason string) error {
	return a.endAt(ctx, reason, a.Clock.Now())
}

// expire ends a claimed message whose validity is over, as of that time: those who read it before were told the same.
func (a *attempt) expire(ctx context.Context) error {
	return a.endAt(ctx, a.message.Progress.ExpiredReason(), a.message.ValidUntil)
}

func (a *attempt) endAt(ctx context.Context, reason string, at time.Time) error {
	a.Log.WarnContext(ctx, "a message is given up", "ottRequestId", a.message.OttRequestID, "reason", reason)
	return a.ended(ctx, a.Messages.Failed(ctx, a.message, reason, at))
}

// ended returns what to do with the job after a write under the lease. Who lost it looks again: another job of the same
// message may have it.
func (a *attempt) ended(ctx context.Context, err error) error {
	switch {
	case fault.Is(err, fault.Conflict):
		return a.hold(ctx, a.receipt, pause(a.receipt, 1))
	case err != nil:
		return a.later(ctx, a.receipt, err)
	}
	return nil
}

// postpone leaves the message until it is time to try again or to give up, and tells of the property's trouble.
func (a *attempt) postpone(ctx context.Context, again *Again) error {
	m, now := a.message, a.Clock.Now()
	m.Progress.Tries++
	m.Progress.Reason = again.Error()
	if !again.Unanswered {
		m.Progress.Open--
	}
	a.outcome = permits.Well()
	if again.Trouble {
		a.outcome = permits.Trouble(again.Error(), now.Add(max(again.After, breaks.Half(a.troubles+1, a.draw()))))
	}
	over := a.Platforms[m.Message.Platform].Repeats().over(m.Progress.Open, m.Progress.OpenSince, now)
	if over != "" {
		return a.giveUp(ctx, withLast(over, m.Progress.Reason))
	}
	wait := a.wait(again.After)
	if err := a.Messages.Release(ctx, m, now.Add(wait)); err != nil {
		return a.ended(ctx, err)
	}
	return a.hold(ctx, a.receipt, wait)
}

// wait is how long the message waits for its next try: as the platform wishes, or else no longer than half of the time
// that is left to it, so that a message whose time is short is not lost to a long wait.
func (a *attempt) wait(after time.Duration) time.Duration {
	left := a.message.ValidUntil.Sub(a.Clock.Now())
	own := min(retries.Half(a.message.Progress.Tries, a.draw()), max(left/2, time.Second))
	return min(max(after, own), max(left, 0))
}

// draw is the jitter of the message's waits.
func (a *attempt) draw() float64 {
	return backoff.Draw(a.message.OttRequestID, a.message.Progress.Tries)
}

// withLast is a reason with what the platform said last.
func withLast(reason, last string) string {
	if last == "" {
		return reason
	}
	return reason + "; " + last
}

// noteCredentials keeps what the platform said of the registration's credentials, if it is news: the bus is told first,
// so that it is told at least once. A message does not fail by it.
func (a *attempt) noteCredentials(ctx context.Context, state ott.CredentialState) {
	r := a.delivery.Registration
	if r.Credentials.Name == state.Name {
		return
	}
	state.Since = a.Clock.Now()
	err := a.Events.PutCredentials(ctx, r, state)
	if err == nil {
		err = a.States.Set(ctx, r, state)
	}
	if err != nil {
		a.Log.WarnContext(ctx, "what the platform says of credentials is not kept yet", "platform", string(r.Platform),
			"ottPropertyId", r.PropertyID, "error", err)
	}
}
