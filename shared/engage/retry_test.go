package engage_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"carillon/shared/engage"
)

// docs/contract.md §2, "408, 425, 429, 5xx, …": backoff with full jitter up to 30 s, Retry-After never earlier and up
// to a tenth later, until deliverBefore.
func TestWaits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		left := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "left"))
		w := engage.Wait{
			Now: now, DeliverBefore: now.Add(left),
			Failures:   rapid.IntRange(1, 1000).Draw(t, "failures"),
			RetryAfter: time.Duration(rapid.SampledFrom([]int{0, 1, 18, 3600}).Draw(t, "seconds")) * time.Second,
			Of:         rapid.String().Draw(t, "of"),
		}
		end := w.End()
		assert.Equal(t, end, w.End(), "the same again")
		assert.False(t, end.Before(now))
		assert.False(t, end.After(w.DeliverBefore))
		wait := end.Sub(now)
		if end.Equal(w.DeliverBefore) {
			return
		}
		assert.GreaterOrEqual(t, wait, w.RetryAfter)
		assert.LessOrEqual(t, wait, max(min(30*time.Second, max(left/2, time.Second)), w.RetryAfter*11/10))
	})
}

// The jitter is full: what many draw spreads over the whole wait.
func TestWaitsSpread(t *testing.T) {
	var tenths [10]int
	const n = 1000
	for i := range n {
		w := engage.Wait{Now: now, DeliverBefore: now.Add(time.Hour), Failures: 20, Of: fmt.Sprintf("%d.0.0", i)}
		tenths[int(w.End().Sub(now)/(3*time.Second))]++
	}
	for i, count := range tenths {
		assert.InDelta(t, n/10, count, 45, "the tenth %d of %v", i, tenths)
	}
}

// A gateway that is down for long is asked a number of times that grows with the logarithm at first, and then by 30 s.
func TestPostsToADeadGateway(t *testing.T) {
	for _, ttl := range []time.Duration{45 * time.Second, 10 * time.Minute, 24 * time.Hour} {
		posts, at := 0, now
		for failures := 1; at.Before(now.Add(ttl)); failures++ {
			posts++
			at = engage.Wait{Now: at, DeliverBefore: now.Add(ttl), Failures: failures, Of: "push.0.0"}.End()
		}
		assert.Less(t, posts, 20+int(ttl/(12*time.Second)), ttl)
	}
}
