// Package clocktest has a clock that tests move.
package clocktest

import (
	"context"
	"sync"
	"time"

	"carillon/shared/clock"
)

// Clock stands still until a test moves it, or somebody sleeps: a sleep takes no time but moves the clock on by as
// much. It is safe for concurrent use.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	slept  []time.Duration
	before func(end time.Time)
}

var _ clock.Clock = (*Clock)(nil)

// New returns a clock that shows the present time, in whole milliseconds, as everything that is stored has them.
func New() *Clock { return At(time.Now().UTC().Truncate(time.Millisecond)) }

// At returns a clock that shows a time.
func At(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Sleep moves the clock on by d, unless it is negative, and returns at once. It returns the context's error, and moves
// nothing, if that is over.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	before, end := c.before, c.now.Add(max(d, 0))
	c.mu.Unlock()
	if before != nil {
		before(end)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(max(d, 0))
	c.slept = append(c.slept, d)
	return nil
}

// Slept returns how long each sleep was, in their order.
func (c *Clock) Slept() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]time.Duration(nil), c.slept...)
}

// BeforeSleep calls a function at the beginning of each sleep with its end: what happens while somebody sleeps.
func (c *Clock) BeforeSleep(do func(end time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = do
}
