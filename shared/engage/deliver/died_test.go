package deliver_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
)

func TestAProcessThatDied(t *testing.T) {
	t.Parallel()
	// claim takes the lease of the first chunk, as a process that dies then.
	claim := func(t *testing.T, p *engagetest.Pipeline, push *engage.Push) store.Lease {
		t.Helper()
		now := p.Clock.Now()
		lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(time.Minute))
		require.NoError(t, err)
		return lease
	}
	// sweep hands a job to the deliverer as engage-schedule sends it.
	sweep := func(t *testing.T, p *engagetest.Pipeline, push *engage.Push) {
		t.Helper()
		job := engage.NewJob(push.Tenant, push.RequestID, 0, p.Clock.Now())
		job.Again = true
		require.Empty(t, p.Handle(t, engagetest.MessageOf(t, job)))
	}
	delivered := func(p *engagetest.Pipeline) engage.Result {
		return engage.Result{State: engage.StateDelivered, DeliveredAt: p.Clock.Now()}
	}
	t.Run("after the claim", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		claim(t, p, push)
		require.Empty(t, p.Deliver(t, push, chunks))
		sweep(t, p, push)
		assert.Empty(t, p.Gateway.Received(), "the lease holds")
		p.Clock.Advance(time.Minute)
		p.Gateway.Answer = always(http.StatusConflict)
		sweep(t, p, push)
		require.Len(t, p.Gateway.Received(), 1)
		assert.Equal(t, push.RequestID+".0", p.Gateway.Received()[0].ID)
		assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered, "it may have been sent: a 409 says that it was had")
	})
	t.Run("before the next attempt", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		lease := claim(t, p, push)
		progress := store.Progress{Attempt: 1, Results: []engage.Result{delivered(p), {}, delivered(p)}}
		require.NoError(t, p.Pushes.SaveProgress(t.Context(), lease, progress, push.DeliverBefore()))
		page, err := p.Pushes.Page(t.Context(), engagetest.Tenant, push.RequestID, 10, "")
		require.NoError(t, err)
		assert.Equal(t, engage.Counts{Total: 3, Delivered: 2, Pending: 1}, page.Meta.Counts(), "as the rows say")
		p.Clock.Advance(time.Minute)
		sweep(t, p, push)
		posts := p.Gateway.Received()
		require.Len(t, posts, 1)
		assert.Equal(t, push.RequestID+".0.1", posts[0].ID, "the next attempt, and only what it is about")
		require.Len(t, posts[0].Body.Destinations, 1)
		assert.Equal(t, "+15018902002", posts[0].Body.Destinations[0].BNumber)
		assert.Equal(t, []string{"delivered", "delivered", "delivered"}, p.States(t, push))
		// Should it live after all, its lease is none any more.
		assert.True(t, fault.Is(p.Pushes.SaveProgress(t.Context(), lease, progress, p.Clock.Now()), fault.Conflict))
		assert.True(t, fault.Is(p.Pushes.Wait(t.Context(), lease, engage.ChunkState{}), fault.Conflict))
		_, err = p.Pushes.Finish(t.Context(), lease, push.NotBefore, engage.Counts{}, engage.Result{}, false)
		assert.True(t, fault.Is(err, fault.Conflict))
	})
	t.Run("whose clock was ahead", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		now := p.Clock.Now()
		ahead := now.Add(time.Second)
		lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, ahead, ahead, ahead.Add(time.Minute))
		require.NoError(t, err)
		progress := store.Progress{Attempt: 1, Results: []engage.Result{delivered(p), delivered(p), {}}}
		require.NoError(t, p.Pushes.SaveProgress(t.Context(), lease, progress, push.DeliverBefore()))
		state := engage.ChunkState{Until: now, Attempt: 1, Counts: engage.Count(progress.Results)}
		require.NoError(t, p.Pushes.Wait(t.Context(), lease, state))
		sweep(t, p, push)
		assert.Equal(
			t,
			3,
			p.Meta(t, push).Counts().Delivered,
			"the next lease is the later one, whatever the clocks say",
		)
	})
	t.Run("between results and counts", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		lease := claim(t, p, push)
		progress := store.Progress{Results: []engage.Result{delivered(p), delivered(p), delivered(p)}}
		require.NoError(t, p.Pushes.SaveProgress(t.Context(), lease, progress, push.DeliverBefore()))
		p.Clock.Advance(time.Minute)
		sweep(t, p, push)
		assert.Empty(t, p.Gateway.Received(), "nothing is sent twice")
		assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
		assert.Zero(t, p.Meta(t, push).DueAt)
	})
	// Found by the simulation, seed 403661.
	t.Run("between the last attempt and its end", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		lease := claim(t, p, push)
		progress := store.Progress{Attempt: engage.MaxAttempts, Results: []engage.Result{delivered(p), {}, {}}}
		require.NoError(t, p.Pushes.SaveProgress(t.Context(), lease, progress, push.DeliverBefore()))
		p.Clock.Advance(time.Minute)
		sweep(t, p, push)
		assert.Empty(t, p.Gateway.Received(), "the gateway has had them often enough")
		assert.Equal(t, engage.Counts{Total: 3, Delivered: 1, Failed: 2}, p.Meta(t, push).Counts())
	})
}
