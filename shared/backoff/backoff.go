// Package backoff says how long to wait before something that failed is tried again.
package backoff

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
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
func (p Policy) Wait(failures int) time.Duration { return p.Half(failures, rand.Float64()) }

// Half is Wait with a jitter that draw says, from 0 to 1.
func (p Policy) Half(failures int, draw float64) time.Duration {
	d := p.doubled(failures)
	return d/2 + time.Duration(float64(d/2)*draw)
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

// Draw is a jitter, from 0 up to, not including, 1, that follows from who waits and for the how manieth time: so those
// who failed together do not come back together, and a simulation of the same is the same.
func Draw(of string, failures int) float64 {
	hash := fnv.New64a()
	_, _ = fmt.Fprint(hash, of, "#", failures) // never fails
	x := hash.Sum64()
	x ^= x >> 33 // FNV mixes its last bytes badly into the high bits
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x) / math.MaxUint64 * (1 - 1e-9)
}
