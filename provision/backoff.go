package provision

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff doubles its waits from next up to longest, each with jitter over its upper half.
type backoff struct {
	next    time.Duration
	longest time.Duration
}

// sleep waits, or returns the context's error when that ends first.
func (b *backoff) sleep(ctx context.Context) error {
	timer := time.NewTimer(b.next/2 + rand.N(b.next/2))
	defer timer.Stop()
	b.next = min(2*b.next, b.longest)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
