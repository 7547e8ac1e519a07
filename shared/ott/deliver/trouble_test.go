package deliver_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/shared/ott/store"
)

// inTrouble brings the page to trouble three times, each time with another message.
func (o *outbox) inTrouble() (ids []string) {
	o.t.Helper()
	for range 3 {
		id := o.accept(messengerHello())
		o.held(id)
		ids = append(ids, id)
	}
	return ids
}

// After three troubles in a row a page is left alone for a while. What is to go out through it waits without a call,
// and is listed with the reason; others go their ways.
func TestOthersStepBack(t *testing.T) {
	t.Parallel()
	api := newLINEAPI(t)
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		if r.Host == "api.line.me" {
			api.serve(n, w, r, body)
			return
		}
		status(429, `{"error":{"message":"Slow down","code":4}}`, "Retry-After", "60")(n, w, r, body)
	})
	api.clock = o.clock
	o.register(ott.Messenger, nil)
	o.register(ott.LINE, nil)
	o.inTrouble()
	require.Len(t, o.platforms.all(), 3)

	waiting := o.accept(messengerHello())
	o.clock.Advance(10 * time.Second)
	wait := o.held(waiting)
	assert.GreaterOrEqual(t, wait, 50*time.Second, "not before the page may be called")
	assert.LessOrEqual(t, wait, 52*time.Second)
	assert.Len(t, o.platforms.all(), 3, "no call")
	const reason = "Queued: not sent yet, for others were not: Messenger answered 429: Slow down (code 4)"
	assert.Equal(t, reason, o.status(waiting))
	p := o.message(waiting).Progress
	assert.Equal(t, []any{0, 0, ""}, []any{p.Tries, p.Open, p.Lease}, "and no try")

	line := o.accept(lineHello())
	o.done(line)
	assert.Equal(t, "Sent", o.status(line), "of another channel")

	// One whose time is over is given up, and says why nobody tried.
	o.clock.Advance(39 * time.Second)
	short := decoded(t, messengerHello())
	short.Validity = time.Second
	over := o.put(short, messengerHello())
	o.held(over)
	o.clock.Advance(time.Second)
	calls := len(o.platforms.all())
	o.done(over)
	assert.Equal(t, "Error: expired; "+strings.TrimPrefix(reason, "Queued: "), o.status(over))
	assert.Len(t, o.platforms.all(), calls)
}

// One call at a time finds out whether the trouble is over; one that is answered ends it.
func TestOneCallFindsOut(t *testing.T) {
	t.Parallel()
	var o *outbox
	var others []string
	var well, under atomic.Bool
	o = newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		if n >= 3 && under.CompareAndSwap(false, true) {
			for _, id := range others {
				became := o.handle(o.job(id))[0]
				assert.True(t, became.failed)
				assert.Equal(t, []time.Duration{time.Second}, became.held, "while another call is finding out")
			}
			assert.Len(t, o.platforms.all(), n+1)
		}
		status(map[bool]int{true: 200, false: 500}[well.Load()], "")(n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	first := o.inTrouble()
	others = []string{o.accept(messengerHello()), o.accept(messengerHello())}
	o.clock.Advance(10 * time.Second)

	again := o.held(first[0])
	assert.Len(t, o.platforms.all(), 4)
	o.held(others[0])
	assert.Len(t, o.platforms.all(), 4, "it still is in trouble")
	well.Store(true)
	under.Store(false)
	o.clock.Advance(again + 30*time.Second)
	others = others[:1]
	o.done(first[0])
	assert.Len(t, o.platforms.all(), 5)
	o.done(others[0], first[1], first[2])
	assert.Len(t, o.platforms.all(), 8, "all at once")
}

// A property in trouble is left alone longer each time, but for no more than half a minute, unless it wishes so.
func TestBreaksAreShort(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(503, ""))
	o.register(ott.Messenger, nil)
	o.inTrouble()
	other := o.accept(messengerHello())
	var longest time.Duration
	for range 12 {
		calls := len(o.platforms.all())
		probe := o.accept(messengerHello())
		for len(o.platforms.all()) == calls { // until it may be called again
			o.clock.Advance(o.held(probe))
		}
		wait := o.held(other)
		assert.LessOrEqual(t, wait, 32*time.Second)
		longest = max(longest, wait)
	}
	assert.Greater(t, longest, 14*time.Second)
}

// Messenger's code 1200 is about one message: it is tried again, and others are not held up by it.
func TestCode1200IsNoTroubleOfThePage(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "temporary") {
			status(400, `{"error":{"message":"Temporary send message failure","code":1200}}`)(n, w, r, body)
		}
	})
	o.register(ott.Messenger, nil)
	id := o.accept(strings.Replace(messengerHello(), "hello", "temporary", 1))
	for try := 1; try <= 6; try++ {
		o.clock.Advance(o.held(id))
		require.Len(t, o.platforms.all(), try)
		assert.Equal(t, "Queued: Messenger answered 400: Temporary send message failure (code 1200)", o.status(id))
	}
	other := o.accept(messengerHello())
	o.done(other)
	assert.Equal(t, "Sent", o.status(other))
}

// A refusal, or a message that is taken, is an answer: troubles count in a row.
func TestTroublesCountInARow(t *testing.T) {
	t.Parallel()
	answers := []int{500, 500, 400, 500, 500, 200, 500, 500, 500}
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		status(answers[n], "")(n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	for n := range answers {
		o.handle(o.job(o.accept(messengerHello())))
		require.Len(t, o.platforms.all(), n+1)
	}
	o.held(o.accept(messengerHello()))
	assert.Len(t, o.platforms.all(), len(answers), "now it is in trouble")
}

// The message that a call is made for may be what the permits know of a property by: what is not sent says nothing.
func TestWhatIsNotSentSaysNothingOfThePage(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(500, ""))
	o.register(ott.Messenger, nil)
	o.held(o.accept(messengerHello()))
	o.held(o.accept(messengerHello()))
	final := o.accept(messengerHello())
	o.die(final)
	o.held(final) // another has it
	late := decoded(t, messengerHello())
	late.Validity = -time.Second
	o.done(o.put(late, messengerHello()))
	o.held(o.accept(messengerHello()))
	require.Len(t, o.platforms.all(), 3)
	o.held(o.accept(messengerHello()))
	assert.Len(t, o.platforms.all(), 3, "the third trouble in a row")
	permit, err := o.deliverer.Properties.Take(t.Context(), store.Side(ott.Messenger, pageID),
		o.clock.Now().Add(time.Minute))
	require.NoError(t, err, "every permit came back")
	assert.Equal(t, 3, permit.Troubles)
}
