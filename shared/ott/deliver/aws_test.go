package deliver_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/ott"
	"carillon/shared/queue"
)

// trouble is DynamoDB that fails calls as a test says.
type trouble struct {
	fail atomic.Value // func(operationAndBody string) bool
}

func (f *trouble) on(text string) {
	f.when(func(call string) bool { return strings.Contains(call, text) })
}

func (f *trouble) when(fails func(call string) bool) { f.fail.Store(fails) }

func (f *trouble) off() { f.when(func(string) bool { return false }) }

func (f *trouble) client(t *testing.T) *dynamodb.Client {
	t.Helper()
	f.off()
	return emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if !f.fail.Load().(func(string) bool)(call.Operation + call.Body) {
				return false
			}
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}))
}

// What updates of DynamoDB are of.
const (
	aClaim   = "SET lease = :lease"
	aRelease = "SET notBefore = :at"
	aSent    = "sentAt = if_not_exists"
	aFailure = "SET failedAt = :at"
	aPermit  = "ADD #now :one"
	aReturn  = "ADD #now :less"
)

// What AWS fails to do costs a moment, not the message.
func TestDeliverWhileAWSFails(t *testing.T) {
	t.Parallel()
	var down trouble
	answers := status(200, "")
	o := newOutboxOn(t, down.client(t), func(n int, w http.ResponseWriter, r *http.Request, body string) {
		answers(n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())

	for _, call := range []string{aPermit, "GetItem", "#message#", `"messenger#`, aClaim} {
		down.on(call)
		assert.Equal(t, time.Second, o.held(id), call)
		assert.Equal(t, "Queued", o.status(id))
		assert.Contains(t, o.log.String(), `"msg":"a message has to wait for AWS"`)
	}
	assert.Empty(t, o.platforms.all())
	assert.Zero(t, o.message(id).Progress.Open)

	down.on(aReturn)
	answers = status(400, "")
	refused := o.accept(messengerHello())
	o.done(refused)
	assert.Equal(t, "Error: Messenger answered 400", o.status(refused))
	assert.Contains(t, o.log.String(), `"msg":"a permit counts until its window is over"`)

	down.on(aFailure)
	refused = o.accept(messengerHello())
	assert.Equal(t, time.Second, o.held(refused))
	down.off()
	assert.Equal(t, 30*time.Second, o.held(refused), "its lease is not over")
	o.clock.Advance(30 * time.Second)
	o.done(refused)
	assert.Equal(t, "Error: Messenger answered 400", o.status(refused))

	answers = status(500, "")
	down.on(aRelease)
	assert.Equal(t, time.Second, o.held(id))
	down.off()
	assert.Equal(t, 30*time.Second, o.held(id))
	o.clock.Advance(30 * time.Second)
	answers = status(200, "")
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
	assert.Len(t, o.platforms.all(), 1+2+2)
}

// If SQS does not take it that a job is held, the job comes after the queue's visibility time-out, and is logged.
func TestDeliverWhileSQSFails(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(500, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	o.holds.fails = true
	assert.Equal(t, []came{{failed: true}}, o.handle(o.job(id)))
	assert.Contains(t, o.log.String(), `"msg":"a message could not be handled"`)
	assert.Equal(t, "Queued: Messenger answered 500", o.status(id))
}

// The platform has taken it: that is said again and again, for the next try would be a copy.
func TestSentIsRecordedAgain(t *testing.T) {
	t.Parallel()
	var down trouble
	o := newOutboxOn(t, down.client(t), status(200, `{"message_id":"m"}`))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	times := 0
	down.when(func(call string) bool {
		if strings.Contains(call, aSent) {
			times++
		}
		return strings.Contains(call, aSent) && times <= 5
	})
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
	assert.Equal(t, []string{"m"}, o.message(id).Progress.PlatformIDs)
	assert.Len(t, o.platforms.all(), 1, "no copy")
	assert.Equal(t, 6, times)
	assert.Len(t, o.clock.Slept(), 5)
}

// Only when DynamoDB fails for as long as the function may run there is a second copy: Messenger has no idempotency
// key.
func TestSentIsNotRecorded(t *testing.T) {
	t.Parallel()
	var down trouble
	o := newOutboxOn(t, down.client(t), status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	times := 0
	down.when(func(call string) bool {
		if strings.Contains(call, aSent) {
			if times++; times == 3 {
				cancel() // the function's time is over
			}
		}
		return strings.Contains(call, aSent)
	})
	o.ctx = ctx
	assert.Equal(t, time.Second, o.held(id))
	o.ctx = t.Context()
	down.off()
	assert.Equal(t, 1, o.message(id).Progress.Open)
	o.clock.Advance(o.held(id))
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
	assert.Len(t, o.platforms.all(), 2)
}

// While DynamoDB is down a job waits a little longer each time, for as long as its message is valid; then it ends by
// itself, and its message with it. There is no dead letter.
func TestDynamoDBIsDown(t *testing.T) {
	t.Parallel()
	var down trouble
	o := newOutboxOn(t, down.client(t), status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	job, end := o.job(id), o.clock.Now().Add(30*time.Minute)
	down.on("")
	longest := time.Duration(0)
	for o.count = 1; o.clock.Now().Before(end); o.count++ {
		require.Less(t, o.count, 200)
		wait := o.heldJob(job)
		assert.LessOrEqual(t, wait, 30*time.Second)
		if o.count > 6 && end.Sub(o.clock.Now()) > 30*time.Second {
			assert.GreaterOrEqual(t, wait, 15*time.Second)
		}
		longest = max(longest, wait)
		o.clock.Advance(wait)
	}
	assert.Greater(t, longest, 15*time.Second)
	o.heldJob(job) // another may have it under way
	o.clock.Advance(30 * time.Second)
	o.heldJob(job)
	o.clock.Advance(time.Millisecond)
	assert.Equal(t, []came{{}}, o.handle(job), "whoever reads the message sees that it is over")
	assert.True(t, o.message(id).IsExpired(o.clock.Now()))
	assert.Empty(t, o.platforms.all())

	// Minutes cost minutes.
	down.off()
	o.count = 1
	id = o.accept(messengerHello())
	down.on("")
	for range 5 {
		o.clock.Advance(o.held(id))
		o.count++
	}
	down.off()
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))

	o.count = 200
	down.on("")
	assert.Equal(t, queue.MaxDelay, o.held(id), "a very old one is patient")
}

// An update whose answer was lost is found again, or was its own: nothing is sent twice, nothing waits for ever.
func TestDeliverWhereAnswersAreLost(t *testing.T) {
	t.Parallel()
	answers := status(200, "")
	items := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(_ http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation == "UpdateItem" && !strings.Contains(call.Body, "#now") {
				call.Send(call.Body) // and once more, as the SDK does
			}
			return false
		}))
	o := newOutboxOn(t, items, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		answers(n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))

	answers = status(503, "")
	id = o.accept(messengerHello())
	o.clock.Advance(o.held(id))
	assert.Equal(t, "Queued: Messenger answered 503", o.status(id))
	answers = status(400, "")
	assert.Equal(t, time.Second, o.held(id), "who lost the lease looks again")
	o.done(id)
	assert.Equal(t, "Error: Messenger answered 400", o.status(id))
	assert.Len(t, o.platforms.all(), 3)
}
