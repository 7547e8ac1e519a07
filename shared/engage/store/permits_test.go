package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
)

const windowLength = 45 * time.Second

func TestPermits(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	start := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) // the beginning of a window
	take := func(t *testing.T, permits *store.Permits, tenant string, at time.Time) (store.Permit, bool) {
		t.Helper()
		permit, err := permits.Take(t.Context(), tenant, at)
		if fault.Is(err, fault.TooManyRequests) {
			return store.Permit{}, false
		}
		require.NoError(t, err)
		return permit, true
	}
	takeN := func(t *testing.T, permits *store.Permits, tenant string, at time.Time, n int) []store.Permit {
		t.Helper()
		var all []store.Permit
		for range n {
			permit, ok := take(t, permits, tenant, at)
			require.True(t, ok)
			all = append(all, permit)
		}
		return all
	}
	t.Run("a tenant has its share, whatever the window", func(t *testing.T) {
		permits := store.NewPermits(p.Pushes, "share", 4)
		held := takeN(t, permits, "a", start.Add(windowLength-time.Second), 3)
		next := start.Add(windowLength)
		held = append(held, takeN(t, permits, "a", next, 1)...)
		_, ok := take(t, permits, "a", next)
		assert.False(t, ok, "those of the window before count")
		takeN(t, permits, "b", next, 4)
		require.NoError(t, permits.Return(t.Context(), held[0], 200))
		takeN(t, permits, "a", next, 1)
		_, ok = take(t, permits, "a", next)
		assert.False(t, ok)
	})
	t.Run("what a process took that died is forgotten", func(t *testing.T) {
		permits := store.NewPermits(p.Pushes, "died", 4)
		takeN(t, permits, "a", start, 4)
		_, ok := take(t, permits, "a", start.Add(windowLength))
		assert.False(t, ok)
		takeN(t, permits, "a", start.Add(2*windowLength), 4)
	})
	t.Run("for ever", func(t *testing.T) {
		permits := store.NewPermits(p.Pushes, "ever", 2)
		for window := range 12 {
			at := start.Add(time.Duration(window) * windowLength)
			held := takeN(t, permits, "a", at.Add(windowLength-time.Second), 2)
			_, ok := take(t, permits, "a", at.Add(windowLength))
			assert.False(t, ok)
			for _, permit := range held {
				require.NoError(t, permits.Return(t.Context(), permit, 200))
			}
		}
	})
	t.Run("two clocks a second apart", func(t *testing.T) {
		permits := store.NewPermits(p.Pushes, "clocks", 4)
		ahead, behind := start.Add(windowLength), start.Add(windowLength-time.Second)
		held := append(takeN(t, permits, "a", ahead, 2), takeN(t, permits, "a", behind, 2)...)
		_, ok := take(t, permits, "a", ahead)
		assert.False(t, ok)
		for _, permit := range held {
			require.NoError(t, permits.Return(t.Context(), permit, 200))
		}
		takeN(t, permits, "a", ahead, 4)
	})
	t.Run("a side that hangs is asked by one POST at a time", func(t *testing.T) {
		permits := store.NewPermits(p.Pushes, "hangs", 10)
		for _, permit := range takeN(t, permits, "a", start, 3) {
			require.NoError(t, permits.Return(t.Context(), permit, engage.TimedOut))
		}
		probe := takeN(t, permits, "a", start, 1)[0]
		_, ok := take(t, permits, "a", start)
		assert.False(t, ok)
		require.NoError(t, permits.Return(t.Context(), probe, engage.TimedOut))
		probe = takeN(t, permits, "a", start, 1)[0]
		require.NoError(t, permits.Return(t.Context(), probe, 503))
		takeN(t, permits, "a", start, 10)
	})
	t.Run("what was not sent says nothing of the side", func(t *testing.T) {
		permits := store.NewPermits(p.Pushes, "unsent", 10)
		for _, permit := range takeN(t, permits, "a", start, 2) {
			require.NoError(t, permits.Return(t.Context(), permit, engage.TimedOut))
		}
		require.NoError(t, permits.Return(t.Context(), takeN(t, permits, "a", start, 1)[0], engage.NoAnswerYet))
		require.NoError(t, permits.Return(t.Context(), takeN(t, permits, "a", start, 1)[0], engage.TimedOut))
		takeN(t, permits, "a", start, 1)
		_, ok := take(t, permits, "a", start)
		assert.False(t, ok)
	})
}
