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
	"carillon/shared/permits"
)

const windowLength = 45 * time.Second

func TestPermits(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	start := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) // the beginning of a window
	take := func(t *testing.T, lane *store.Permits, tenant string, at time.Time) (permits.Permit, bool) {
		t.Helper()
		permit, err := lane.Take(t.Context(), tenant, at)
		if fault.Is(err, fault.TooManyRequests) {
			return permits.Permit{}, false
		}
		require.NoError(t, err)
		return permit, true
	}
	takeN := func(t *testing.T, lane *store.Permits, tenant string, at time.Time, n int) []permits.Permit {
		t.Helper()
		var all []permits.Permit
		for range n {
			permit, ok := take(t, lane, tenant, at)
			require.True(t, ok)
			all = append(all, permit)
		}
		return all
	}
	t.Run("a tenant has its share, whatever the window", func(t *testing.T) {
		lane := store.NewPermits(p.Pushes, "share", 4)
		held := takeN(t, lane, "a", start.Add(windowLength-time.Second), 3)
		next := start.Add(windowLength)
		held = append(held, takeN(t, lane, "a", next, 1)...)
		_, ok := take(t, lane, "a", next)
		assert.False(t, ok, "those of the window before count")
		takeN(t, lane, "b", next, 4)
		require.NoError(t, lane.Return(t.Context(), held[0], 200))
		takeN(t, lane, "a", next, 1)
		_, ok = take(t, lane, "a", next)
		assert.False(t, ok)
	})
	t.Run("what a process took that died is forgotten", func(t *testing.T) {
		lane := store.NewPermits(p.Pushes, "died", 4)
		takeN(t, lane, "a", start, 4)
		_, ok := take(t, lane, "a", start.Add(windowLength))
		assert.False(t, ok)
		takeN(t, lane, "a", start.Add(2*windowLength), 4)
	})
	t.Run("for ever", func(t *testing.T) {
		lane := store.NewPermits(p.Pushes, "ever", 2)
		for window := range 12 {
			at := start.Add(time.Duration(window) * windowLength)
			held := takeN(t, lane, "a", at.Add(windowLength-time.Second), 2)
			_, ok := take(t, lane, "a", at.Add(windowLength))
			assert.False(t, ok)
			for _, permit := range held {
				require.NoError(t, lane.Return(t.Context(), permit, 200))
			}
		}
	})
	t.Run("two clocks a second apart", func(t *testing.T) {
		lane := store.NewPermits(p.Pushes, "clocks", 4)
		ahead, behind := start.Add(windowLength), start.Add(windowLength-time.Second)
		held := append(takeN(t, lane, "a", ahead, 2), takeN(t, lane, "a", behind, 2)...)
		_, ok := take(t, lane, "a", ahead)
		assert.False(t, ok)
		for _, permit := range held {
			require.NoError(t, lane.Return(t.Context(), permit, 200))
		}
		takeN(t, lane, "a", ahead, 4)
	})
	t.Run("a side that hangs is asked by one POST at a time", func(t *testing.T) {
		lane := store.NewPermits(p.Pushes, "hangs", 10)
		for _, permit := range takeN(t, lane, "a", start, 3) {
			require.NoError(t, lane.Return(t.Context(), permit, engage.TimedOut))
		}
		probe := takeN(t, lane, "a", start, 1)[0]
		_, ok := take(t, lane, "a", start)
		assert.False(t, ok)
		require.NoError(t, lane.Return(t.Context(), probe, engage.TimedOut))
		probe = takeN(t, lane, "a", start, 1)[0]
		require.NoError(t, lane.Return(t.Context(), probe, 503))
		takeN(t, lane, "a", start, 10)
	})
	t.Run("what was not sent says nothing of the side", func(t *testing.T) {
		lane := store.NewPermits(p.Pushes, "unsent", 10)
		for _, permit := range takeN(t, lane, "a", start, 2) {
			require.NoError(t, lane.Return(t.Context(), permit, engage.TimedOut))
		}
		require.NoError(t, lane.Return(t.Context(), takeN(t, lane, "a", start, 1)[0], engage.NoAnswerYet))
		require.NoError(t, lane.Return(t.Context(), takeN(t, lane, "a", start, 1)[0], engage.TimedOut))
		takeN(t, lane, "a", start, 1)
		_, ok := take(t, lane, "a", start)
		assert.False(t, ok)
	})
}
