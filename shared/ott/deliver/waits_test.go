package deliver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/ott"
	"carillon/shared/ott/store"
	"carillon/shared/queue"
)

// 429 and 5xx are retried with backoff until the validity period is over; the last answer is the reason all the while,
// and in the end.
func TestDeliverUntilItExpires(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		status(503, fmt.Sprintf(`{"error":{"message":"Try %d","code":1200}}`, n+1))(n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	expiry := o.clock.Now().Add(30 * time.Minute)
	tries := 0
	for least := time.Duration(0); o.clock.Now().Before(expiry); tries++ {
		left := expiry.Sub(o.clock.Now())
		wait := o.held(id)
		require.Len(t, o.platforms.all(), tries+1, "each time that it comes it is tried")
		last := fmt.Sprintf("Messenger answered 503: Try %d (code 1200)", tries+1)
		require.Equal(t, "Queued: "+last, o.status(id))
		assert.Equal(t, tries+1, o.message(id).Progress.Tries)
		assert.Positive(t, wait)
		assert.LessOrEqual(t, wait, queue.MaxDelay)
		assert.LessOrEqual(t, wait, max(left/2+time.Second, 2*time.Second), "no longer than half of what is left")
		if wait < left/2 {
			assert.GreaterOrEqual(t, wait, least, "each wait is at least as long as half the last one could be")
		}
		least = min(wait/2, left/4)
		o.clock.Advance(wait)
	}
	assert.Greater(t, tries, 8)
	assert.Less(t, tries, 30)
	o.done(id)
	assert.Equal(t, fmt.Sprintf("Error: expired; Messenger answered 503: Try %d (code 1200)", tries), o.status(id))
	assert.Len(t, o.platforms.all(), tries, "nothing is sent once it has expired")
}

// One that expires before it was ever tried says no more than that.
func TestDeliverTooLate(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	last, late := o.accept(messengerHello()), o.accept(messengerHello())
	o.clock.Advance(30*time.Minute - time.Millisecond)
	o.done(last)
	assert.Equal(t, "Sent", o.status(last))
	o.clock.Advance(time.Millisecond)
	o.done(late)
	assert.Equal(t, "Error: expired", o.status(late))
	assert.Len(t, o.platforms.all(), 1)
}

// Not sooner than the platform wishes, whatever brings the job.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		answers := []func(int, http.ResponseWriter, *http.Request, string){
			status(429, "", "Retry-After", "1000"), status(400, `{"error":{"code":613,"message":"calls"}}`),
			status(200, ""),
		}
		answers[n](n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	assert.Equal(t, 1000*time.Second, o.held(id), "longer than SQS would delay a message")
	assert.Equal(t, "Queued: Messenger answered 429", o.status(id))
	o.clock.Advance(900*time.Second + time.Millisecond)
	assert.Equal(t, 100*time.Second, o.held(id), "the rest of Retry-After, in whole seconds: never early")
	assert.Len(t, o.platforms.all(), 1)
	o.clock.Advance(100 * time.Second)
	wait := o.held(id)
	assert.LessOrEqual(t, wait, 2*time.Second)
	assert.Equal(t, "Queued: Messenger answered 400: calls (code 613)", o.status(id))
	o.clock.Advance(wait)
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
	assert.Len(t, o.platforms.all(), 3)
}

// A wish that is longer than the message is valid ends with it.
func TestRetryAfterTheEnd(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(429, `{"error":{"message":"Slow down","code":4}}`, "Retry-After", "3600"))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	o.clock.Advance(10 * time.Minute)
	assert.Equal(t, 20*time.Minute, o.held(id))
	o.clock.Advance(20 * time.Minute)
	o.done(id)
	assert.Equal(t, "Error: expired; Messenger answered 429: Slow down (code 4)", o.status(id))
	assert.Len(t, o.platforms.all(), 1)
}

// A message whose time is short is not lost to the long waits that it has come to.
func TestHalfOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	for left, most := range map[time.Duration]time.Duration{
		30 * time.Minute: queue.MaxDelay, 10 * time.Minute: 5 * time.Minute, 9 * time.Second: 5 * time.Second,
		1500 * time.Millisecond: time.Second, 700 * time.Millisecond: time.Second,
	} {
		t.Run(left.String(), func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t, status(503, ""))
			o.register(ott.Messenger, nil)
			id := o.accept(messengerHello())
			m, err := o.messages.Load(t.Context(), "acme", id)
			require.NoError(t, err)
			require.NoError(t, o.messages.Claim(t.Context(), m, o.clock.Now(), o.clock.Now().Add(time.Second)))
			m.Progress.Tries, m.Progress.Open = 40, 0
			require.NoError(t, o.messages.Release(t.Context(), m, o.clock.Now()))
			o.clock.Advance(30*time.Minute - left)
			wait := o.held(id)
			assert.LessOrEqual(t, wait, most)
			if left > time.Minute {
				assert.GreaterOrEqual(t, wait, min(most, queue.MaxDelay/2))
			}
		})
	}
}

// A job that comes before its message, which ott-send writes after it, is held a second at a time; one whose message
// never comes ends by itself.
func TestAJobThatComesBeforeItsMessage(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	now := o.clock.Now()
	m := decoded(t, messengerHello())
	job := encoded(t, ott.NewJob("acme", uuid.NewString(), m, now, now, now.Add(30*time.Minute)))
	holds := 0
	for o.clock.Now().Before(now.Add(14 * time.Second)) {
		assert.Equal(t, time.Second, o.heldJob(job))
		holds++
		o.clock.Advance(time.Second)
	}
	assert.Greater(t, holds, 8)
	o.clock.Advance(now.Add(15 * time.Second).Sub(o.clock.Now()))
	assert.Equal(t, []came{{}}, o.handle(job))
	assert.Contains(t, o.log.String(), `"msg":"the message of a job was never accepted"`)

	id := o.accept(messengerHello())
	foreign := strings.Replace(o.job(id), `"acme"`, `"globex"`, 1)
	assert.Equal(t, time.Second, o.heldJob(foreign), "another tenant's is none")
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
}

// As a rule the message comes within the invocation that waits for it, so that it costs no second.
func TestAJobThatComesAMomentBeforeItsMessage(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	now, m := o.clock.Now(), decoded(t, messengerHello())
	m.Key = uuid.NewString()
	_, place, err := o.messages.Find(t.Context(), "acme", m.Key, ott.SendBody{}, now)
	require.Error(t, err)
	o.clock.BeforeSleep(func(time.Time) {
		if len(o.clock.Slept()) == 2 {
			_, err := o.messages.Put(t.Context(), "acme", place, m, ott.SendBody{Kept: []byte("{}")}, now, now)
			assert.NoError(t, err)
		}
	})
	job := ott.NewJob("acme", place.OttRequestID, m, now, now, now.Add(30*time.Minute))
	assert.Equal(t, []came{{}}, o.handle(encoded(t, job)))
	assert.Equal(t, "Sent", o.status(place.OttRequestID))
	assert.Less(t, o.clock.Now().Sub(now), 500*time.Millisecond)
}

// A job that has come very often waits long, so that it does not come a thousand times while its message is valid.
func TestPatience(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(503, ""))
	o.register(ott.Messenger, nil)
	m := decoded(t, messengerHello())
	m.Validity = 7 * 24 * time.Hour
	now := o.clock.Now()
	unwritten := encoded(t, ott.NewJob("acme", uuid.NewString(), m, now, now, now.Add(time.Hour)))
	id := o.put(m, "")
	o.count = 199
	assert.Equal(t, time.Second, o.heldJob(unwritten))
	assert.Equal(t, time.Second, o.held(id))
	for _, count := range []int{200, 999, 5000} {
		o.count = count
		assert.Equal(t, queue.MaxDelay, o.heldJob(unwritten), "at the receive %d", count)
		assert.Equal(t, queue.MaxDelay, o.held(id), "at the receive %d", count)
	}
	o.clock.Advance(7*24*time.Hour - time.Minute)
	left := now.Add(m.Validity).Sub(o.clock.Now()) // less than a minute: looking for what is unwritten took its time
	held := o.held(id)
	assert.GreaterOrEqual(t, held, left.Truncate(time.Millisecond)-time.Millisecond, "not before its end")
	assert.Less(t, held, left+time.Second+time.Millisecond, "nor past it, but for the rest of a second")
	assert.Less(t, int(7*24*time.Hour/queue.MaxDelay), 1000-200, "of a week, with the queue's maxReceiveCount of 1,000")
}

// A property has so many calls under way at most; who gets none waits, a little longer each time, and is not listed: it
// has its turn soon.
func TestNoPermitLeft(t *testing.T) {
	t.Parallel()
	var o *outbox
	var waiting, other string
	o = newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		if n == 0 {
			o.count = 1
			assert.Equal(t, []came{{true, []time.Duration{time.Second}}}, o.handle(o.job(waiting)))
			o.count = 6
			held := o.handle(o.job(waiting))[0].held
			if assert.Len(t, held, 1) {
				assert.GreaterOrEqual(t, held[0], 15*time.Second)
				assert.LessOrEqual(t, held[0], 30*time.Second)
			}
			o.count = 1
			assert.Equal(t, []came{{}}, o.handle(o.job(other)), "of another property")
		}
		status(200, "")(n, w, r, body)
	})
	o.deliverer.Properties = store.NewProperties(emulatortest.DynamoDB(), o.table, 1)
	o.register(ott.Messenger, nil)
	o.register(ott.Messenger, func(r *ott.Registration) { r.PropertyID = "2" })
	first := o.accept(messengerHello())
	waiting, other = o.accept(messengerHello()), o.accept(strings.Replace(messengerHello(), pageID, "2", 1))
	o.done(first)
	assert.Equal(t, "Sent", o.status(other))
	assert.Equal(t, "Queued", o.status(waiting))
	assert.Equal(t, ott.Progress{}, o.message(waiting).Progress, "nothing of it is written")
	o.done(waiting)
	assert.Equal(t, "Sent", o.status(waiting))
}
