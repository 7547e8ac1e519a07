package simulation

import (
	"context"
	"strconv"
	"time"
)

// skewedClock is a process's clock: the run's time, and a little before or after it.
type skewedClock struct{ skew time.Duration }

// Now returns the time that the process takes it to be.
func (c skewedClock) Now() time.Time { return time.Now().Add(c.skew) }

// Sleep waits for d, or returns the context's error if that is over first.
func (c skewedClock) Sleep(ctx context.Context, d time.Duration) error { return sleep(ctx, d) }

// steadyClock takes the jitter out of the waits of package backoff, which draws it where no seed reaches: a wait from
// half of 50 ms · 2ⁿ to the whole of it becomes the whole.
type steadyClock struct{ skewedClock }

// Sleep waits for d, rounded up.
func (c steadyClock) Sleep(ctx context.Context, d time.Duration) error {
	whole := 50 * time.Millisecond
	for whole < d {
		whole *= 2
	}
	return sleep(ctx, whole)
}

func itoa(n int) string { return strconv.Itoa(n) }
