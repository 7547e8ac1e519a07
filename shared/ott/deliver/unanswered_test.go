package deliver_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/shared/ott/deliver"
)

const givenUp = "Error: given up after 3 tries without an answer, for each may have been taken"

// abort breaks a call off whose request has arrived.
func abort(int, http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) }

// die claims a message as a process does that dies before it knows what became of it.
func (o *outbox) die(id string) {
	o.t.Helper()
	m, err := o.messages.Load(o.t.Context(), "acme", id)
	require.NoError(o.t, err)
	require.NoError(o.t, o.messages.Claim(o.t.Context(), m, o.clock.Now(), o.clock.Now().Add(30*time.Second)))
}

// docs/contract.md §1: a message that Messenger did not answer is tried three times at most, then Error.
func TestMessengerIsAskedThreeTimes(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, abort)
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	for try := 1; try <= 2; try++ {
		o.clock.Advance(o.held(id))
		assert.True(t, strings.HasPrefix(o.status(id), "Queued: Messenger did not answer: "), o.status(id))
		assert.Equal(t, try, o.message(id).Progress.Open)
	}
	o.done(id)
	assert.True(t, strings.HasPrefix(o.status(id), givenUp+"; Messenger did not answer: "), o.status(id))
	assert.Len(t, o.platforms.all(), 3)
	o.clock.Advance(time.Hour)
	o.done(id)
	assert.Len(t, o.platforms.all(), 3)
}

// What Messenger answers in between does not count, however often it is; and what it did not answer is not forgotten.
func TestOnlyUnansweredTriesCount(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		if n%3 == 2 {
			abort(n, w, r, body)
		}
		status(400, `{"error":{"message":"Later","code":1200}}`)(n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	message := decoded(t, messengerHello())
	message.Validity = 24 * time.Hour
	id := o.put(message, messengerHello())
	for try := 1; try < 9; try++ {
		o.clock.Advance(o.held(id))
		require.Equal(t, try/3, o.message(id).Progress.Open, "after %d tries", try)
		require.Len(t, o.platforms.all(), try)
	}
	o.done(id)
	assert.True(t, strings.HasPrefix(o.status(id), givenUp), o.status(id))
	assert.Len(t, o.platforms.all(), 9)
}

// A call that never got through is no try that Messenger may have taken.
func TestWhatNeverArrivedIsTriedOn(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	down := newPlatforms(t, nil)
	transport := down.transport(t)
	down.Close()
	well := o.deliverer.Platforms
	o.deliverer.Platforms = deliver.Platforms(transport, o.clock)
	for range 6 {
		o.clock.Advance(o.held(id))
		assert.Zero(t, o.message(id).Progress.Open)
	}
	assert.True(t, strings.HasPrefix(o.status(id), "Queued: Messenger did not answer: "), o.status(id))
	o.deliverer.Platforms = well
	for o.status(id) != "Sent" {
		became := o.handle(o.job(id))[0]
		for _, wait := range became.held { // the breaker's
			o.clock.Advance(wait)
		}
	}
	assert.Len(t, o.platforms.all(), 1)
}

// A process that dies while it sends leaves a lease; another that gets the message waits for its end, then sends.
func TestDeliverAfterACrash(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	o.die(id)
	assert.Equal(t, 30*time.Second, o.held(id), "else nothing would bring it back")
	assert.Empty(t, o.platforms.all())
	o.clock.Advance(30 * time.Second)
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
}

// Who died may have sent: of Messenger's three tries each of theirs is one.
func TestKillsCount(t *testing.T) {
	t.Parallel()
	for kills, want := range map[int]string{0: "Sent", 2: "Sent", 3: givenUp, 5: givenUp} {
		o := newOutbox(t, status(200, ""))
		o.register(ott.Messenger, nil)
		id := o.accept(messengerHello())
		for range kills {
			o.die(id)
			o.clock.Advance(30 * time.Second)
		}
		o.done(id)
		assert.Equal(t, want, o.status(id), "after %d kills", kills)
		assert.Len(t, o.platforms.all(), map[bool]int{true: 1, false: 0}[want == "Sent"])
	}
	o := newOutbox(t, abort)
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	o.die(id)
	o.clock.Advance(30 * time.Second)
	o.clock.Advance(o.held(id))
	o.die(id)
	o.clock.Advance(30 * time.Second)
	o.done(id)
	assert.True(t, strings.HasPrefix(o.status(id), givenUp+"; Messenger did not answer: "), o.status(id))
	assert.Len(t, o.platforms.all(), 1)
}

// LINE tells a repeat by its key: it is asked as long as it remembers that.
func TestLINEIsAskedUntilTheEnd(t *testing.T) {
	t.Parallel()
	api := newLINEAPI(t)
	failing := true
	api.first = func(_ http.ResponseWriter, path string) bool {
		if failing && strings.HasSuffix(path, "/push") {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	o := newOutbox(t, api.serve)
	api.clock = o.clock
	o.register(ott.LINE, nil)
	id := o.accept(lineHello())
	for range 4 {
		o.die(id)
		o.clock.Advance(30 * time.Second)
		o.clock.Advance(o.held(id))
	}
	assert.Equal(t, 8, o.message(id).Progress.Open)
	api.mu.Lock()
	failing = false
	api.mu.Unlock()
	for o.status(id) != "Sent" {
		for _, wait := range o.handle(o.job(id))[0].held {
			o.clock.Advance(wait)
		}
	}
	assert.Equal(t, []string{"461230966842064897"}, o.message(id).Progress.PlatformIDs)
}

// LINE forgets a key after a day: a try without an answer is not repeated later than that.
func TestLINEForgetsAKey(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wait time.Duration
		want string
	}{
		"in time":  {24*time.Hour - time.Minute - time.Second, "Sent"},
		"too late": {24*time.Hour - time.Minute, "Error: given up 23h59m0s after a try without an answer, for it may have been taken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := newLINEAPI(t)
			o := newOutbox(t, api.serve)
			api.clock = o.clock
			o.register(ott.LINE, nil)
			message := decoded(t, lineHello())
			message.Validity = 7 * 24 * time.Hour
			id, answered := o.put(message, lineHello()), o.put(message, lineHello())
			o.die(id)
			m, err := o.messages.Load(t.Context(), "acme", answered)
			require.NoError(t, err)
			require.NoError(t, o.messages.Claim(t.Context(), m, o.clock.Now(), o.clock.Now().Add(30*time.Second)))
			m.Progress.Open = 0
			require.NoError(t, o.messages.Release(t.Context(), m, o.clock.Now()))
			o.clock.Advance(test.wait)
			o.done(id, answered)
			assert.Equal(t, test.want, o.status(id))
			assert.Equal(t, "Sent", o.status(answered), "what LINE answered it did not take")
		})
	}
}
