package store_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/store"
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
		p.Clock.Advance(time.Hour)
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
	t.Run("until half a second before notBefore", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(3*time.Second), 3600)
		cancelled := false
		p.Clock.BeforeSleep(func(end time.Time) { // the deliverer has prepared the POST, and waits
			if cancelled || push.NotBefore.Sub(end) > 500*time.Millisecond {
				return
			}
			cancelled = true
			_, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, push.NotBefore.Add(-500*time.Millisecond))
			require.NoError(t, err)
		})
		require.Empty(t, p.Handle(t, engagetest.Message(push, 0)))
		require.True(t, cancelled)
		assert.Empty(t, p.Gateway.Received())
		assert.Equal(t, engage.Counts{Total: 3, Cancelled: 3}, p.Meta(t, push).Counts())
	})
	t.Run("what fails every POST", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Gateway.Answer = func(_ int, _ engagetest.Post, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		require.Empty(t, p.Handle(t, engagetest.Message(push, 0)))
		meta, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, p.Clock.Now())
		require.NoError(t, err)
		assert.Equal(t, engage.Counts{Total: 3, Cancelled: 3}, meta.Counts())
		require.Empty(t, p.Drain(t))
		assert.Len(t, p.Gateway.Received(), 1, "never POSTed after the 200")
		assert.Equal(t, []string{"cancelled", "cancelled", "cancelled"}, p.States(t, push))
		assert.Zero(t, p.Meta(t, push).DueAt)
	})
	t.Run("what is wanted again, not what has its result", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Gateway.Answer = func(_ int, posted engagetest.Post, w http.ResponseWriter, _ *http.Request) {
			engagetest.Results(
				w,
				posted,
				func(i int, _ string) string { return []string{`"delivered"`, `"retry"`, `"rejected"`}[i] },
			)
		}
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		require.Empty(t, p.Handle(t, engagetest.Message(push, 0)))
		assert.Equal(t, engage.Counts{Total: 3, Delivered: 1, Rejected: 1, Pending: 1}, p.Meta(t, push).Counts())
		meta, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, p.Clock.Now())
		require.NoError(t, err)
		assert.Equal(t, engage.Counts{Total: 3, Delivered: 1, Rejected: 1, Cancelled: 1}, meta.Counts())
		require.Empty(t, p.Drain(t))
		assert.Len(t, p.Gateway.Received(), 1)
		assert.Equal(t, []string{"delivered", "cancelled", "rejected"}, p.States(t, push))
	})
	t.Run("while the POST is under way", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.RealisticDestinations(600), p.Clock.Now(), 3600)
		p.Gateway.Answer = func(_ int, posted engagetest.Post, w http.ResponseWriter, _ *http.Request) {
			meta, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, p.Clock.Now())
			assert.NoError(t, err)
			assert.Equal(t, engage.Counts{Total: 600, Pending: 500, Cancelled: 100}, meta.Counts())
			engagetest.Results(w, posted, func(i int, _ string) string {
				if i%2 == 0 {
					return `"delivered"`
				}
				return `"retry"`
			})
		}
		require.Empty(t, p.Handle(t, engagetest.Message(push, 0)))
		require.Empty(t, p.Drain(t))
		require.Empty(t, p.Handle(t, engagetest.Message(push, 1)))
		assert.Len(t, p.Gateway.Received(), 1)
		assert.Equal(t, engage.Counts{Total: 600, Delivered: 250, Cancelled: 350}, p.Meta(t, push).Counts())
		assert.Equal(t, engage.PushCancelled, p.Meta(t, push).State())
		assert.Zero(t, p.Meta(t, push).DueAt)
	})
	t.Run("what a process left that died in a POST", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.RealisticDestinations(600), p.Clock.Now(), 3600)
		now := p.Clock.Now()
		lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(leaseTime))
		require.NoError(t, err)
		meta, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, now)
		require.NoError(t, err)
		assert.Equal(t, engage.Counts{Total: 600, Pending: 500, Cancelled: 100}, meta.Counts(), "it may be under way")
		p.Clock.Advance(leaseTime + time.Second)
		require.Empty(t, p.Handle(t, engagetest.Message(push, 0)))
		assert.Empty(t, p.Gateway.Received())
		assert.Equal(t, 600, p.Meta(t, push).Counts().Cancelled)
		assert.Zero(t, p.Meta(t, push).DueAt)
		assert.Contains(t, p.States(t, push)[0], "what came of it is unknown")
		_, err = p.Pushes.Finish(
			t.Context(),
			lease,
			now,
			engage.Counts{},
			engage.Result{State: engage.StateDelivered},
			false,
		)
		assert.True(t, fault.Is(err, fault.Conflict), "what was answered stays so: %v", err)
	})
	t.Run("what was left before", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		now := p.Clock.Now()
		lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(leaseTime))
		require.NoError(t, err)
		meta, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, now.Add(leaseTime+time.Second))
		require.NoError(t, err)
		assert.Equal(t, 3, meta.Counts().Cancelled)
		_, err = p.Pushes.Finish(
			t.Context(),
			lease,
			now,
			engage.Counts{},
			engage.Result{State: engage.StateDelivered},
			false,
		)
		assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
		assert.True(t, fault.Is(p.Pushes.Wait(t.Context(), lease, engage.ChunkState{Until: now}), fault.Conflict))
	})
	t.Run("what a process had the results of that died", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		for name, test := range map[string]struct {
			results []engage.Result
			want    engage.Counts
		}{
			"of some": {
				[]engage.Result{{State: engage.StateRejected}, {}, {State: engage.StateRejected}},
				engage.Counts{Total: 3, Rejected: 2, Cancelled: 1},
			},
			"of all": {
				[]engage.Result{{State: engage.StateRejected}, {State: engage.StateFailed}, {State: engage.StateRejected}},
				engage.Counts{},
			},
		} {
			push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
			now := p.Clock.Now()
			lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(leaseTime))
			require.NoError(t, err)
			require.NoError(
				t,
				p.Pushes.SaveProgress(t.Context(), lease, store.Progress{Results: test.results}, push.DeliverBefore()),
			)
			for range 2 {
				meta, err := p.Pushes.Cancel(t.Context(), "acme", push.RequestID, now.Add(leaseTime+time.Second))
				if test.want.Total == 0 {
					assert.True(t, fault.Is(err, fault.Conflict), "%s: nothing was left to cancel: %v", name, err)
					continue
				}
				require.NoError(t, err, name)
				assert.Equal(t, test.want, meta.Counts(), name)
			}
		}
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
