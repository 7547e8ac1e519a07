package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/fault"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	t.Run("before anything was claimed", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(time.Hour), 3600)
		for range 2 {
			meta, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, p.Clock.Now())
			require.NoError(t, err)
			assert.Equal(t, engage.PushCancelled, meta.State())
			assert.Equal(t, engage.Counts{Total: 3, Cancelled: 3}, meta.Counts())
		}
		assert.Equal(t, []string{"cancelled", "cancelled", "cancelled"}, p.States(t, push))
		assert.Zero(t, p.Meta(t, push).DueAt, "nothing is left to do")
		p.Set(t, push.RequestID, "notBefore", p.Clock.Now())
		push.NotBefore = p.Clock.Now()
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Empty(t, p.Gateway.Received())
	})
	t.Run("nothing left", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		require.Empty(t, p.Deliver(t, push, chunks))
		_, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, p.Clock.Now())
		assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
		assert.Equal(t, engage.PushCompleted, p.Meta(t, push).State())
	})
	t.Run("of another tenant", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(time.Hour), 3600)
		_, err := p.Pushes.Cancel(t.Context(), "other", push.RequestID, p.Clock.Now())
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
		_, err = p.Pushes.Page(t.Context(), "other", push.RequestID, 500, "")
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
		assert.Equal(t, engage.PushScheduled, p.Meta(t, push).State())
	})
	t.Run("racing delivery", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.RealisticDestinations(10_000), p.Clock.Now(), 3600)
		var race sync.WaitGroup
		var cancelled *engage.Meta
		race.Go(func() { p.Deliver(t, push, chunks) })
		race.Go(func() {
			var err error
			cancelled, err = p.Pushes.Cancel(t.Context(), "acme", push.RequestID, p.Clock.Now())
			if !fault.Is(err, fault.Conflict) {
				assert.NoError(t, err)
			}
		})
		race.Wait()
		sent := 0
		for _, post := range p.Gateway.Received() {
			sent += len(post.Body.Destinations)
		}
		counts := p.Meta(t, push).Counts()
		assert.Equal(t, engage.Counts{Total: 10_000, Delivered: sent, Cancelled: 10_000 - sent}, counts)
		if cancelled != nil {
			assert.Equal(t, counts.Cancelled, cancelled.Counts().Cancelled, "what cancel answered is so")
		}
		assert.Zero(t, p.Meta(t, push).DueAt)
	})
}
