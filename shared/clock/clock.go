// Package clock is the time: this machine's, and for tests one that they move (package clocktest).
package clock

import (
	"context"
	"time"
)

// Clock tells the time and lets it pass.
type Clock interface {
	Now() time.Time
	// Sleep waits for d, or returns the context's error if that is over first.
	Sleep(ctx context.Context, d time.Duration) error
}

// Later returns the later one of two times.
func Later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// System is this machine's clock.
type System struct{}

// Now returns the time.
func (System) Now() time.Time { return time.Now() }

// Sleep waits for d, or returns the context's error if that is over first.
func (System) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
