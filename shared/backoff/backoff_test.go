package backoff_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/backoff"
	"carillon/shared/clock/clocktest"
)

func TestWaitsDoubleUpToTheMost(t *testing.T) {
	policy := backoff.Policy{Min: 100 * time.Millisecond, Max: time.Second}
	for failures, want := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 3: 400 * time.Millisecond,
		4: 800 * time.Millisecond, 5: time.Second, 6: time.Second, 64: time.Second, math.MaxInt: time.Second,
	} {
		for range 100 {
			wait := policy.Wait(failures)
			assert.LessOrEqual(t, wait, want, "after %d failures", failures)
			assert.GreaterOrEqual(t, wait, want/2, "after %d failures", failures)
		}
	}
}

func TestWaitsDiffer(t *testing.T) {
	waits := map[time.Duration]bool{}
	for range 100 {
		waits[backoff.Policy{Min: time.Second, Max: time.Minute}.Wait(3)] = true
	}
	assert.Greater(t, len(waits), 50, "who failed together must not come back together")
}

func TestWaitIsBoundedForEveryPolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := backoff.Policy{
			Min: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "min")),
			Max: time.Duration(rapid.Int64Range(int64(time.Hour), int64(24*time.Hour)).Draw(t, "max")),
		}
		wait := policy.Wait(rapid.IntRange(-1, 1000).Draw(t, "failures"))
		if wait < policy.Min/2 || wait > policy.Max {
			t.Fatalf("%v is not within %v", wait, policy)
		}
	})
}

func TestSleep(t *testing.T) {
	policy := backoff.Policy{Min: time.Minute, Max: time.Hour}
	c := clocktest.New()
	start := c.Now()
	require.NoError(t, policy.Sleep(t.Context(), c, 2))
	assert.GreaterOrEqual(t, c.Now().Sub(start), time.Minute)

	over, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, policy.Sleep(over, c, 1), context.Canceled)
}
