package deliver_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/deliver"
	"carillon/shared/engage/engagetest"
)

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	p.Gateway.Answer = func(n int, _ engagetest.Post, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			w.Header().Set("Retry-After", "10")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}
	push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	require.Empty(t, p.Deliver(t, push, chunks))
	posts := p.Gateway.Received()
	require.Len(t, posts, 2)
	assert.GreaterOrEqual(t, posts[1].At.Sub(posts[0].At), 10*time.Second)
}

// handle hands the first job of each chunk of a push to the deliverer, and no other.
func handle(t *testing.T, p *engagetest.Pipeline, push *engage.Push, chunks int) {
	t.Helper()
	for i := range chunks {
		require.Empty(t, p.Handle(t, engagetest.Message(push, i)))
	}
}

func always(status int, headers ...string) func(int, engagetest.Post, http.ResponseWriter, *http.Request) {
	return func(_ int, _ engagetest.Post, w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
	}
}

// docs/contract.md §2, "408, 425, 429, 5xx, …": never earlier than Retry-After, up to a tenth later, and those who were
// told the same do not come back together.
func TestAChunkThatWaits(t *testing.T) {
	t.Parallel()
	t.Run("comes back by a job of its own", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Gateway.Answer = always(http.StatusServiceUnavailable, "Retry-After", "120")
		push, chunks := p.Accept(t, engagetest.RealisticDestinations(10_000), p.Clock.Now(), 3600)
		start := p.Clock.Now()
		handle(t, p, push, chunks)
		waiting := p.Jobs.Waiting()
		require.Len(t, waiting, chunks)
		at := map[time.Time]bool{}
		for _, job := range waiting {
			at[job.DueAt().Truncate(100*time.Millisecond)] = true
			assert.True(t, job.Again)
			wait := job.DueAt().Sub(start)
			assert.GreaterOrEqual(t, wait, 120*time.Second)
			assert.LessOrEqual(t, wait, 132*time.Second+time.Second)
		}
		assert.Greater(t, len(at), chunks/2, "they do not come back together")
		for i, chunk := range p.Meta(t, push).Chunks {
			assert.Equal(t, engage.Waiting, chunk.Phase, i)
			assert.Equal(t, 1, chunk.Tries)
			assert.Equal(t, engage.GatewayAnswer(503), chunk.Last)
		}
		assert.Equal(t, engage.PushDelivering, p.Meta(t, push).State())
	})
	t.Run("a job that is early is slept out", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Gateway.Answer = func(n int, _ engagetest.Post, w http.ResponseWriter, _ *http.Request) {
			if n == 0 {
				w.Header().Set("Retry-After", "18")
				w.WriteHeader(http.StatusTooManyRequests)
			}
		}
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 60)
		handle(t, p, push, chunks)
		job := p.Jobs.Waiting()[0]
		p.Clock.Advance(job.DueAt().Sub(p.Clock.Now()) - 3*time.Second)
		require.Empty(t, p.Handle(t, engagetest.MessageOf(t, job)))
		posts := p.Gateway.Received()
		require.Len(t, posts, 2)
		assert.False(t, posts[1].At.Before(job.DueAt()))
		assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
	})
	t.Run("a job that is much too early goes back", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Gateway.Answer = always(http.StatusServiceUnavailable, "Retry-After", "3600")
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 7200)
		handle(t, p, push, chunks)
		job := p.Jobs.Waiting()[0]
		p.Clock.Advance(15 * time.Minute)
		require.Empty(t, p.Handle(t, engagetest.MessageOf(t, job)))
		waiting := p.Jobs.Waiting()
		require.Len(t, waiting, 2)
		assert.Equal(t, job.DueAt(), waiting[1].DueAt())
		assert.Greater(t, waiting[1].Rounds, job.Rounds)
		assert.Len(t, p.Gateway.Received(), 1)
	})
	t.Run("a job of before the wait has no say", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Gateway.Answer = always(http.StatusServiceUnavailable, "Retry-After", "120")
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		handle(t, p, push, chunks)
		p.Clock.Advance(time.Minute)
		handle(t, p, push, chunks) // SQS delivers at least once
		assert.Len(t, p.Gateway.Received(), 1)
		assert.Len(t, p.Jobs.Waiting(), 1)
	})
	t.Run("is not asked for longer than its time", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Gateway.Answer = always(http.StatusServiceUnavailable, "Retry-After", "3600")
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 60)
		require.Empty(t, p.Deliver(t, push, chunks))
		const reason = "expired: not delivered before notBefore + ttlSeconds; the gateway's last answer: status 503"
		assert.Equal(t, slices.Repeat([]string{reason}, 3), p.States(t, push))
		assert.Len(t, p.Gateway.Received(), 1)
	})
}

// Without its time-out, which is a parameter, a POST that hangs would hold its place for ever.
func TestAGatewayThatHangs(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	p.Gateway.Answer = func(n int, _ engagetest.Post, _ http.ResponseWriter, r *http.Request) {
		if n == 0 {
			<-r.Context().Done()
		}
	}
	push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	handle(t, p, push, chunks)
	assert.Equal(t, engage.TimedOut, p.Meta(t, push).Chunks[0].Last)
	require.Empty(t, p.Drain(t))
	assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
}

// A provider whose side of the gateway hangs is asked by one POST at a time, and its jobs leave the first lane.
func TestAProviderWhoseSideHangsGivesWay(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	permits := deliver.NewLanes(p.Pushes, deliver.Concurrency{First: 100, Again: 30})
	for range 3 {
		permit, err := permits.First.Take(t.Context(), engagetest.Tenant, p.Clock.Now())
		require.NoError(t, err)
		require.NoError(t, permits.First.Return(t.Context(), permit, engage.TimedOut))
	}
	probe, err := permits.First.Take(t.Context(), engagetest.Tenant, p.Clock.Now())
	require.NoError(t, err)
	push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	handle(t, p, push, chunks)
	assert.Empty(t, p.Gateway.Received())
	waiting := p.Jobs.Waiting()
	require.Len(t, waiting, 1)
	assert.True(t, waiting[0].Again)
	assert.False(t, waiting[0].DueAt().After(p.Clock.Now()), "at once, by the other lane")
	assert.Equal(t, engage.Unclaimed, p.Meta(t, push).Chunks[0].Phase, "it can still be cancelled")
	require.NoError(t, permits.First.Return(t.Context(), probe, 200))
	require.Empty(t, p.Drain(t))
	assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
}

func TestWhatIsTooLateExpires(t *testing.T) {
	t.Parallel()
	t.Run("before it was sent", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(-2*time.Second), 1)
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Empty(t, p.Gateway.Received())
		assert.Equal(t, 3, p.Meta(t, push).Counts().Expired)
		assert.Equal(t, engage.PushCompleted, p.Meta(t, push).State())
	})
	t.Run("while the gateway is down", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Gateway.Answer = func(_ int, _ engagetest.Post, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 45)
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Greater(t, len(p.Gateway.Received()), 4)
		assert.Less(t, len(p.Gateway.Received()), 25)
		for _, post := range p.Gateway.Received() {
			assert.False(t, post.At.After(push.DeliverBefore()), "nothing is sent after notBefore + ttlSeconds")
		}
		assert.Equal(t, 3, p.Meta(t, push).Counts().Expired)
	})
}

// What the gateway said last reaches the status: also why it wanted a destination again.
func TestWhatExpiresSaysWhatTheGatewaySaidLast(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	p.Gateway.Answer = func(_ int, posted engagetest.Post, w http.ResponseWriter, _ *http.Request) {
		engagetest.Results(w, posted, func(int, string) string { return `"retry","reason":"the handset is busy"` })
	}
	push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 60)
	handle(t, p, push, chunks)
	assert.Equal(
		t,
		[]string{"pending: the handset is busy"},
		slices.Compact(p.States(t, push)),
		"already while it waits",
	)
	p.Clock.Advance(time.Minute)
	require.Empty(t, p.Drain(t))
	assert.Equal(t, []string{"expired: not delivered before notBefore + ttlSeconds; " +
		"the gateway's last answer: no result, the handset is busy"}, slices.Compact(p.States(t, push)))
}
