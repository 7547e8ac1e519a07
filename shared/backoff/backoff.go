// Package backoff says how long to wait before something that failed is tried again.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"

	"carillon/shared/clock"
)

// Policy bounds the waits: they double from Min to Max.
type Policy struct{ Min, Max time.Duration }

// maxDoublings keeps the doubling within a time.Duration.
const maxDoublings = 30

// Wait returns the wait after so many failures, the first being 1: the doubled time or up to half of it less, so that
// those who failed together do not come back together.
func (p Policy) Wait(failures int) time.Duration {
	d := p.doubled(failures)
	return d/2 + rand.N(d/2+1)
}

func (p Policy) doubled(failures int) time.Duration {
	if doublings := max(failures-1, 0); doublings < maxDoublings && p.Min<<doublings < p.Max && p.Min<<doublings > 0 {
		return p.Min << doublings
	}
	return p.Max
}

// Sleep lets the wait after so many failures pass. It returns the context's error if that is over first.
func (p Policy) Sleep(ctx context.Context, c clock.Clock, failures int) error {
	return c.Sleep(ctx, p.Wait(failures))
}

// Full returns the wait after so many failures with full jitter: any part of the doubled time, which draw says, from 0
// to 1.
func (p Policy) Full(failures int, draw float64) time.Duration {
	return time.Duration(float64(p.doubled(failures)) * draw)
}
