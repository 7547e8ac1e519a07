package deliver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
)

func TestPostIsAsTheContractHasIt(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	notBefore := p.Clock.Now().Add(4 * time.Second).Truncate(time.Millisecond)
	push, chunks := p.Accept(t, engagetest.Three(), notBefore, 3600)
	require.Empty(t, p.Deliver(t, push, chunks))
	posts := p.Gateway.Received()
	require.Len(t, posts, 1)
	assert.Equal(t, push.RequestID+".0", posts[0].ID)
	assert.False(t, posts[0].At.Before(notBefore), "never before notBefore")
	assert.WithinDuration(t, notBefore, posts[0].At, time.Second)
	const format = "2006-01-02T15:04:05.999Z07:00"
	assert.JSONEq(t, fmt.Sprintf(`{"type":"push","requestId":%q,"chunk":0,
		"program":{"uuid":%q,"name":"Spring","content":{"headline":"Hello"}},
		"aNumbers":["+5014008029","+5013509988"],"ttlSeconds":3600,"keepAfterCall":false,
		"notBefore":%q,"deliverBefore":%q,"destinations":[
		{"bNumber":"+15018902001","personalization":{"MY_VAR":"Hola <Ana> & \"José\""},"customTrackingId":"a"},
		{"bNumber":"+15018902002","personalization":{},"customTrackingId":null},
		{"bNumber":"+15018902003","personalization":{},"customTrackingId":"c"}]}`,
		push.RequestID, push.Program.UUID,
		notBefore.UTC().Format(format), notBefore.Add(time.Hour).UTC().Format(format)), posts[0].Raw)
	assert.Equal(t, engage.PushCompleted, p.Meta(t, push).State())
	assert.Zero(t, p.Meta(t, push).DueAt, "out of the due index")
}

// Each row of docs/contract.md §2, "The device gateway": what the gateway answers to the POSTs in turn, and what
// becomes of it.
func TestGatewayAnswers(t *testing.T) {
	t.Parallel()
	type answer = func(p engagetest.Post, w http.ResponseWriter, r *http.Request)
	status := func(code int) answer {
		return func(_ engagetest.Post, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	text := func(body string) answer {
		return func(_ engagetest.Post, w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) }
	}
	each := func(statuses ...string) answer {
		return func(p engagetest.Post, w http.ResponseWriter, _ *http.Request) {
			engagetest.Results(w, p, func(i int, _ string) string { return statuses[i] })
		}
	}
	const delivered, rejected, retry = `"delivered"`, `"rejected","reason":"no such device"`, `"retry"`
	all := []string{"delivered", "delivered", "delivered"}
	failed := func(code int) []string {
		reason := fmt.Sprintf("failed: the gateway answered %d", code)
		return []string{reason, reason, reason}
	}
	tests := map[string]struct {
		answers []answer
		states  []string
		ids     []string // of the POSTs, behind the request id
		sizes   []int    // destinations of each POST
	}{
		"results recorded per bNumber": {
			[]answer{each(delivered, rejected, delivered)},
			[]string{"delivered", "rejected: no such device", "delivered"},
			[]string{".0"},
			[]int{3},
		},
		"retry is sent again, alone": {
			[]answer{each(delivered, retry, rejected), each(delivered)},
			[]string{"delivered", "delivered", "rejected: no such device"},
			[]string{".0", ".0.1"},
			[]int{3, 1},
		},
		"no result is sent again, alone": {
			[]answer{each("", delivered, ""), each(delivered, ""), each(delivered)},
			all,
			[]string{".0", ".0.1", ".0.2"},
			[]int{3, 2, 1},
		},
		"numbers that were not asked about": {
			[]answer{text(`{"results":[{"bNumber":"+19999999999","status":"delivered"}]}`), text("")},
			all,
			[]string{".0", ".0.1"},
			[]int{3, 3},
		},
		"2xx without a body": {[]answer{status(204)}, all, []string{".0"}, []int{3}},
		"408, 425, 429": {
			[]answer{status(408), status(425), status(429), status(200)},
			all,
			[]string{".0", ".0", ".0", ".0"},
			[]int{3, 3, 3, 3},
		},
		"5xx": {
			[]answer{status(500), status(503), status(200)},
			all,
			[]string{".0", ".0", ".0"},
			[]int{3, 3, 3},
		},
		"5xx of an attempt": {
			[]answer{each(delivered, delivered, retry), status(502), each(delivered)},
			all,
			[]string{".0", ".0.1", ".0.1"},
			[]int{3, 1, 1},
		},
		"broken connection": {
			[]answer{
				func(engagetest.Post, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
				status(200),
			},
			all,
			[]string{".0", ".0"},
			[]int{3, 3},
		},
		"garbage counts as 5xx": {
			[]answer{text("hello"), text("[]"), text(`{}`), status(200)},
			all,
			[]string{".0", ".0", ".0", ".0"},
			[]int{3, 3, 3, 3},
		},
		"another status word is garbage": {
			[]answer{each(delivered, `"perhaps"`, delivered), status(200)},
			all,
			[]string{".0", ".0"},
			[]int{3, 3},
		},
		"too large counts as 5xx": {
			[]answer{text(`{"results":[]}` + strings.Repeat(" ", 2<<20)), status(200)},
			all,
			[]string{".0", ".0"},
			[]int{3, 3},
		},
		"400": {[]answer{status(400)}, failed(400), []string{".0"}, []int{3}},
		"401": {[]answer{status(401)}, failed(401), []string{".0"}, []int{3}},
		"404 to an attempt": {
			[]answer{each(delivered, retry, delivered), status(404)},
			[]string{"delivered", "failed: the gateway answered 404", "delivered"},
			[]string{".0", ".0.1"},
			[]int{3, 1},
		},
		"redirects are not followed": {[]answer{func(_ engagetest.Post, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}},
			failed(307), []string{".0"}, []int{3}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := engagetest.New(t)
			p.Gateway.Answer = func(n int, posted engagetest.Post, w http.ResponseWriter, r *http.Request) {
				test.answers[n](posted, w, r)
			}
			push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
			require.Empty(t, p.Deliver(t, push, chunks))
			assert.Equal(t, test.states, p.States(t, push))
			bodies := map[string]string{}
			var ids []string
			var sizes []int
			for _, post := range p.Gateway.Received() {
				ids = append(ids, strings.TrimPrefix(post.ID, push.RequestID))
				sizes = append(sizes, len(post.Body.Destinations))
				if earlier, repeat := bodies[post.ID]; repeat {
					assert.Equal(t, earlier, post.Raw, "a webhook-id stands for one body")
				}
				bodies[post.ID] = post.Raw
			}
			assert.Equal(t, test.ids, ids)
			assert.Equal(t, test.sizes, sizes)
			counts := p.Meta(t, push).Counts()
			assert.Equal(t, 3, counts.Delivered+counts.Rejected+counts.Failed)
			assert.Equal(t, engage.PushCompleted, p.Meta(t, push).State())
		})
	}
}

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

func TestTheSigningSecretIsRotated(t *testing.T) {
	t.Parallel()
	for name, rotated := range map[string]bool{"a moment ago": true, "not at all": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := engagetest.New(t)
			const other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
			p.Signing.Kept = engagetest.NewSecret("0", other)
			if !rotated {
				p.Signing.Current = p.Signing.Kept
			}
			push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
			require.Empty(t, p.Deliver(t, push, chunks))
			if rotated {
				assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered, "signed again with the secret that is current")
			} else {
				assert.Equal(t, 3, p.Meta(t, push).Counts().Failed)
			}
		})
	}
}

func TestALongWaitIsLeftToTheQueue(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	p.Gateway.Answer = func(n int, _ engagetest.Post, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	require.Empty(t, p.Deliver(t, push, chunks))
	assert.WithinDuration(t, p.Clock.Now().Add(120*time.Second), p.Meta(t, push).Chunks[0].LeasedUntil, 5*time.Second)
	_, delayed := p.Queued(t)
	assert.Equal(t, "1", delayed)
	p.Set(t, push.RequestID, "c0", p.Clock.Now())
	require.Empty(t, p.Deliver(t, push, chunks))
	assert.Equal(t, []string{"delivered", "delivered", "delivered"}, p.States(t, push))
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
		// Short enough that no wait is left to the queue, whatever its jitter.
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 4)
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Greater(t, len(p.Gateway.Received()), 3)
		for _, post := range p.Gateway.Received() {
			expiry := push.NotBefore.Add(4 * time.Second)
			assert.False(t, post.At.After(expiry), "nothing is sent after notBefore + ttlSeconds")
		}
		assert.Equal(t, 3, p.Meta(t, push).Counts().Expired)
	})
}

func TestADuplicateMessageDoesNothing(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	var event events.SQSEvent
	for range 10 {
		event.Records = append(event.Records, engagetest.Message(push, 0))
	}
	for range 2 {
		response, err := p.Deliverer.Handle(t.Context(), event)
		require.NoError(t, err)
		assert.Empty(t, response.BatchItemFailures)
	}
	assert.Len(t, p.Gateway.Received(), 1)
}

func TestMessagesThatAreNone(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	response, err := p.Deliverer.Handle(t.Context(), events.SQSEvent{Records: []events.SQSMessage{
		{MessageId: "no JSON", Body: "hello"}, {MessageId: "no push", Body: `{"requestId":"x","chunk":0}`},
		{MessageId: "no such chunk", Body: fmt.Sprintf(`{"requestId":%q,"chunk":7}`, push.RequestID)},
		{MessageId: "negative", Body: fmt.Sprintf(`{"requestId":%q,"chunk":-1}`, push.RequestID)},
		engagetest.Message(push, 0),
	}})
	require.NoError(t, err)
	var failed []string
	for _, failure := range response.BatchItemFailures {
		failed = append(failed, failure.ItemIdentifier)
	}
	assert.Equal(t, []string{"no JSON", "negative"}, failed, "these end among the dead letters")
	unknown := p.Log.Lines(t, "unknown push")
	require.Len(t, unknown, 1)
	assert.Equal(t, "x", unknown[0]["pushId"])
	assert.Len(t, p.Gateway.Received(), 1)
}

func TestAProcessThatDied(t *testing.T) {
	t.Parallel()
	past := func(p *engagetest.Pipeline) time.Time { return p.Clock.Now().Add(-time.Second) }
	t.Run("after the claim", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		_, _, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, p.Clock.Now(), p.Clock.Now().Add(time.Minute))
		require.NoError(t, err)
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Empty(t, p.Gateway.Received(), "the lease holds")
		p.Set(t, push.RequestID, "c0", past(p))
		require.Empty(t, p.Deliver(t, push, chunks))
		require.Len(t, p.Gateway.Received(), 1)
		assert.Equal(t, push.RequestID+".0", p.Gateway.Received()[0].ID)
	})
	t.Run("before the next attempt", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		lease, _, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, p.Clock.Now().Add(-time.Minute), past(p))
		require.NoError(t, err)
		delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: p.Clock.Now()}
		progress := store.Progress{Attempt: 1, Results: []engage.Result{delivered, {}, delivered}}
		require.NoError(t, p.Pushes.SaveProgress(t.Context(), lease, progress, p.Clock.Now().Add(time.Hour)))
		require.Empty(t, p.Deliver(t, push, chunks))
		posts := p.Gateway.Received()
		require.Len(t, posts, 1)
		assert.Equal(t, push.RequestID+".0.1", posts[0].ID, "the next attempt, and only what it is about")
		require.Len(t, posts[0].Body.Destinations, 1)
		assert.Equal(t, "+15018902002", posts[0].Body.Destinations[0].BNumber)
		assert.Equal(t, []string{"delivered", "delivered", "delivered"}, p.States(t, push))
		// Should it live after all, its lease is none any more.
		assert.True(t, fault.Is(p.Pushes.SaveProgress(t.Context(), lease, progress, p.Clock.Now()), fault.Conflict))
		assert.True(t, fault.Is(p.Pushes.Release(t.Context(), lease, p.Clock.Now()), fault.Conflict))
		_, err = p.Pushes.Finish(t.Context(), lease, engage.Counts{}, false)
		assert.True(t, fault.Is(err, fault.Conflict))
	})
	t.Run("after a long lease was released", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		lease, _, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, p.Clock.Now(), p.Clock.Now().Add(time.Hour))
		require.NoError(t, err)
		delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: p.Clock.Now()}
		progress := store.Progress{Attempt: 1, Results: []engage.Result{delivered, delivered, {}}}
		require.NoError(t, p.Pushes.SaveProgress(t.Context(), lease, progress, p.Clock.Now().Add(time.Hour)))
		require.NoError(t, p.Pushes.Release(t.Context(), lease, p.Clock.Now()))
		p.Clock.Advance(time.Second)
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered,
			"the next lease is the later one, though it ends before the released one would have")
	})
	t.Run("between results and counts", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		lease, _, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, p.Clock.Now().Add(-time.Minute), past(p))
		require.NoError(t, err)
		delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: p.Clock.Now()}
		progress := store.Progress{Results: []engage.Result{delivered, delivered, delivered}}
		require.NoError(t, p.Pushes.SaveProgress(t.Context(), lease, progress, p.Clock.Now().Add(time.Hour)))
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Empty(t, p.Gateway.Received(), "nothing is sent twice")
		assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
		assert.Zero(t, p.Meta(t, push).DueAt)
	})
}
