package deliver_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/deliver"
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
		"an odd item costs only itself": {
			[]answer{each(delivered, `"perhaps"`, delivered), status(200)},
			all,
			[]string{".0", ".0.1"},
			[]int{3, 1},
		},
		"an odd reason costs nothing": {
			[]answer{each(delivered, `"rejected","reason":{"code":7}`, delivered)},
			[]string{"delivered", "rejected", "delivered"},
			[]string{".0"},
			[]int{3},
		},
		"items that are none": {
			[]answer{
				text(
					`{"results":[null,7,"x",[],{"status":"delivered"},{"bNumber":"+15018902001","status":"delivered"}]}`,
				),
				status(200),
			},
			all,
			[]string{".0", ".0.1"},
			[]int{3, 2},
		},
		"numbers are compared by their digits": {
			[]answer{text(`{"results":[{"bNumber":"15018902001","status":"delivered"},
				{"bNumber":"tel:+1-501-890-2002","status":"delivered"},{"bNumber":"%2B1 501 8902003","status":"rejected"}]}`)},
			[]string{"delivered", "delivered", "rejected"},
			[]string{".0"},
			[]int{3},
		},
		"of two results the better stands": {
			[]answer{text(`{"results":[{"bNumber":"+15018902001","status":"delivered"},
				{"bNumber":"+15018902001","status":"retry"},{"bNumber":"+15018902002","status":"rejected"},
				{"bNumber":"0015018902002","status":"delivered"},{"bNumber":"+15018902003","status":"retry"},
				{"bNumber":"+15018902003","status":"rejected"}]}`)},
			[]string{"delivered", "delivered", "rejected"},
			[]string{".0"},
			[]int{3},
		},
		"five attempts at most": {
			slices.Repeat([]answer{each(`"retry","reason":"busy"`, `"retry"`, `"retry"`)}, 5),
			slices.Repeat([]string{"failed: no result in 5 POSTs; the gateway's last answer: busy"}, 3),
			[]string{".0", ".0.1", ".0.2", ".0.3", ".0.4"},
			[]int{3, 3, 3, 3, 3},
		},
		"2xx with a blank body":      {[]answer{text(" \r\n\t")}, all, []string{".0"}, []int{3}},
		"2xx with a byte order mark": {[]answer{text("\ufeff")}, all, []string{".0"}, []int{3}},
		"results behind a byte order mark": {
			[]answer{text("\ufeff" + `{"results":[{"bNumber":"+15018902001","status":"rejected"},` +
				`{"bNumber":"+15018902002","status":"rejected"},{"bNumber":"+15018902003","status":"rejected"}]}`)},
			[]string{"rejected", "rejected", "rejected"},
			[]string{".0"},
			[]int{3},
		},
		"409 to a repeat: it was had": {
			[]answer{status(503), status(409)},
			all,
			[]string{".0", ".0"},
			[]int{3, 3},
		},
		"409 to the first": {[]answer{status(409)}, failed(409), []string{".0"}, []int{3}},
		"409 to a new attempt": {
			[]answer{each(delivered, retry, delivered), status(409)},
			[]string{"delivered", "failed: the gateway answered 409", "delivered"},
			[]string{".0", ".0.1"},
			[]int{3, 1},
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

// What cannot be signed or read ends in a state that says so.
func TestWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	t.Run("for want of a signing secret", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Signing.Kept = engagetest.NewSecret("1", "not a secret")
		p.Signing.Current = p.Signing.Kept
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 60)
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Equal(t, []string{
			"expired: not delivered before notBefore + ttlSeconds; " +
				"the gateway's last answer: none, for the signing secret is unusable",
		}, slices.Compact(p.States(t, push)))
		assert.NotEmpty(t, p.Log.Lines(t, "a push cannot be signed"))
		assert.Less(t, len(p.Log.Lines(t, "a push cannot be signed")), 30)
	})
	t.Run("and not before its time once it can", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		good := p.Signing.Current
		p.Signing.Kept = engagetest.NewSecret("0", "not a secret")
		for range 10 { // whatever the jitter of the wait
			p.Signing.Kept = engagetest.NewSecret("0", "not a secret")
			push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(3*time.Second), 60)
			handle(t, p, push, chunks)
			assert.True(t, p.Clock.Now().Before(push.NotBefore), "it is still early")
			p.Signing.Kept = good
			require.Empty(t, p.Drain(t))
			posts := p.Gateway.Received()
			assert.False(t, posts[len(posts)-1].At.Before(push.NotBefore))
			assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
		}
	})
	t.Run("until the secret is mended", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		good := p.Signing.Current
		p.Signing.Kept = engagetest.NewSecret("0", "not a secret")
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 60)
		handle(t, p, push, chunks)
		p.Signing.Kept = good
		require.Empty(t, p.Drain(t))
		assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
	})
	for _, part := range []string{"chunk#00000", "content"} {
		for _, missing := range []bool{true, false} {
			t.Run(fmt.Sprint("for want of its ", part, ", missing ", missing), func(t *testing.T) {
				t.Parallel()
				p := engagetest.New(t)
				push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
				p.Spoil(t, push.RequestID, part, missing)
				require.Empty(t, p.Deliver(t, push, chunks))
				assert.Equal(
					t,
					[]string{"failed: what is kept of the chunk cannot be read"},
					slices.Compact(p.States(t, push)),
				)
				assert.Equal(t, engage.PushCompleted, p.Meta(t, push).State())
				assert.Zero(t, p.Meta(t, push).DueAt)
			})
		}
	}
}

// AWS's faults cost a wait, and no more; in the end they are dead letters, which have an alarm.
func TestFaultsOfAWS(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	p.FailReads(3)
	require.Empty(t, p.Deliver(t, push, chunks))
	assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
	assert.Len(t, p.Log.Lines(t, "a chunk comes back"), 3)

	push, chunks = p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	p.FailReads(1000)
	assert.Len(t, p.Deliver(t, push, chunks), 1, "it fails at last")
	p.FailReads(0)
	p.Jobs.Err = errors.New("SQS is down")
	p.FailReads(1)
	assert.Len(t, p.Handle(t, engagetest.Message(push, 0)), 1, "SQS brings it back")
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
	require.Len(t, unknown, 2)
	assert.ElementsMatch(t, []any{"x", push.RequestID}, []any{unknown[0]["pushId"], unknown[1]["pushId"]})
	assert.Len(t, p.Gateway.Received(), 1)
}

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
}
