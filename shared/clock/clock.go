// Package clock is this machine's clock, for those who take another one in their tests.
package clock

import (
	"context"
	"time"
)

// System is this machine's clock. The interfaces that it serves are declared where a clock is used.
type System struct{}

// Now returns the time.
func (System) Now() time.Time { return time.Now() }

// Sleep waits for d, or returns the context's error.
func (System) Sleep(ctx context.Context, d time.Duration) error { return Sleep(ctx, d) }

// Sleep waits for d, or returns the context's error.
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
