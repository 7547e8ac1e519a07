package bubble

import (
	"context"
	"time"
)

// SkewedClock is a process's clock: the run's time, and a little before or after it.
type SkewedClock struct{ Skew time.Duration }

// Now returns the time that the process takes it to be.
func (c SkewedClock) Now() time.Time { return time.Now().Add(c.Skew) }

// Sleep waits for d, or returns the context's error if that is over first.
func (c SkewedClock) Sleep(ctx context.Context, d time.Duration) error { return Sleep(ctx, d) }

// SteadyClock takes the jitter out of the waits of package backoff, which draws it where no seed reaches: a wait from
// half of 50 ms · 2ⁿ to the whole of it becomes the whole.
type SteadyClock struct {
	SkewedClock
	Most time.Duration // the longest of those waits, which is none of the doubled ones; 0 if there is none such
}

// Sleep waits for d, rounded up.
func (c SteadyClock) Sleep(ctx context.Context, d time.Duration) error {
	whole := 50 * time.Millisecond
	for whole < d {
		whole *= 2
	}
	if c.Most >= d && 2*whole > c.Most {
		whole = c.Most
	}
	return Sleep(ctx, whole)
}

// Sleep lets a time of the bubble pass. It returns the context's error if that is over first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ClockTime writes a time of a run.
func ClockTime(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// Earlier returns the earlier of two times.
func Earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Later returns the later of two times.
func Later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
