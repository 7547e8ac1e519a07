package engage

import (
	"time"

	"carillon/shared/backoff"
)

const (
	// MaxAttempts is how many POSTs a destination is in at most that the gateway answers without a usable result for
	// it.
	MaxAttempts = 5
	// leastWait is how little is waited at the end of a push's time at least.
	leastWait = time.Second
	// retryAfterSpread is how much longer than the gateway asked for is waited at most, as a share of it, so that those
	// who were told the same do not come back together (docs/contract.md §2).
	retryAfterSpread = 0.1
)

// retries is the wait before what the gateway could not take is sent again.
var retries = backoff.Policy{Min: 500 * time.Millisecond, Max: 30 * time.Second}

// Wait describes a wait for another try.
type Wait struct {
	Now           time.Time
	DeliverBefore time.Time
	Failures      int           // in a row, at least 1
	RetryAfter    time.Duration // what the gateway asked for, 0 if nothing
	Of            string        // who waits: the same one draws the same jitter for the same failure
}

// End returns when to try again: a full jitter of the backoff later, but so that at most half of what is left of the
// push's time is waited; never earlier than the gateway asked for, and up to a tenth later. It is DeliverBefore if that
// comes first: then what is left expires.
func (w Wait) End() time.Time {
	draw := backoff.Draw(w.Of, w.Failures)
	wait := retries.Full(w.Failures, draw)
	wait = min(wait, max(w.DeliverBefore.Sub(w.Now)/2, leastWait))
	spread := time.Duration(float64(w.RetryAfter) * retryAfterSpread * draw)
	end := w.Now.Add(max(wait, w.RetryAfter+spread))
	if end.After(w.DeliverBefore) {
		return w.DeliverBefore
	}
	return end
}
