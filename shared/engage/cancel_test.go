package engage_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/fault"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	t.Run("before anything was claimed", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, three(), time.Now().Add(time.Hour), 3600)
		for range 2 {
			meta, err := p.pushes.Cancel(t.Context(), "acme", push.RequestID, time.Now())
			require.NoError(t, err)
			assert.Equal(t, engage.PushCancelled, meta.State())
			assert.Equal(t, engage.Counts{Total: 3, Cancelled: 3}, meta.Counts())
		}
		assert.Equal(t, []string{"cancelled", "cancelled", "cancelled"}, p.states(t, push))
		assert.Zero(t, p.meta(t, push).DueAt, "nothing is left to do")
		p.set(t, push.RequestID, "notBefore", time.Now())
		push.NotBefore = time.Now()
		require.Empty(t, p.deliver(t, push, chunks))
		assert.Empty(t, p.gateway.received())
	})
	t.Run("nothing left", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, three(), time.Now(), 3600)
		require.Empty(t, p.deliver(t, push, chunks))
		_, err := p.pushes.Cancel(t.Context(), "acme", push.RequestID, time.Now())
		assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
		assert.Equal(t, engage.PushCompleted, p.meta(t, push).State())
	})
	t.Run("of another provider", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, _ := p.accept(t, three(), time.Now().Add(time.Hour), 3600)
		_, err := p.pushes.Cancel(t.Context(), "other", push.RequestID, time.Now())
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
		_, err = p.pushes.Status(t.Context(), "other", push.RequestID, 500, "")
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
		assert.Equal(t, engage.PushScheduled, p.meta(t, push).State())
	})
	t.Run("racing delivery", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, realisticDestinations(10_000), time.Now(), 3600)
		var race sync.WaitGroup
		var cancelled *engage.Meta
		race.Go(func() { p.deliver(t, push, chunks) })
		race.Go(func() {
			var err error
			cancelled, err = p.pushes.Cancel(t.Context(), "acme", push.RequestID, time.Now())
			if !fault.Is(err, fault.Conflict) {
				assert.NoError(t, err)
			}
		})
		race.Wait()
		sent := 0
		for _, post := range p.gateway.received() {
			sent += len(post.body.Destinations)
		}
		counts := p.meta(t, push).Counts()
		assert.Equal(t, engage.Counts{Total: 10_000, Delivered: sent, Cancelled: 10_000 - sent}, counts)
		if cancelled != nil {
			assert.Equal(t, counts.Cancelled, cancelled.Counts().Cancelled, "what cancel answered is so")
		}
		assert.Zero(t, p.meta(t, push).DueAt)
	})
}
