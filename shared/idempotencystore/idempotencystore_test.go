package idempotencystore_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
	"carillon/shared/idempotencystore"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// records is a table of records of its own.
type records struct {
	*idempotencystore.Store
	t      *testing.T
	client *dynamodb.Client
	table  string
}

func newRecords(t *testing.T) records {
	t.Helper()
	table := stackname.IdempotencyTable(emulatortest.Deploy(t))
	client := emulatortest.DynamoDB()
	return records{idempotencystore.New(client, table, clock.System{}), t, client, table}
}

// get returns a record as it is kept.
func (r records) get(key string) dynamo.Item {
	r.t.Helper()
	consistent := true
	out, err := r.client.GetItem(
		r.t.Context(),
		&dynamodb.GetItemInput{
			TableName:      &r.table,
			Key:            dynamo.Item{"key": dynamo.String(key)},
			ConsistentRead: &consistent,
		},
	)
	require.NoError(r.t, err)
	return out.Item
}

// put writes a record as a process that died left it.
func (r records) put(key, id string, lockedUntil, expiresAt time.Time, answer string) {
	r.t.Helper()
	hash := body("a")
	item := dynamo.Item{
		"key": dynamo.String(key), "bodyHash": dynamo.Bytes(hash[:]), "requestId": dynamo.String(id),
		"lockedUntil": dynamo.Int(lockedUntil.UnixMilli()), "expiresAt": dynamo.EpochSeconds(expiresAt),
	}
	if answer != "" {
		item["answer"] = dynamo.String(answer)
	}
	_, err := r.client.PutItem(r.t.Context(), &dynamodb.PutItemInput{TableName: &r.table, Item: item})
	require.NoError(r.t, err)
}

// begin begins a request with the body "a" under a new id, and must not have to wait.
func (r records) begin(key string) *idempotency.Operation {
	r.t.Helper()
	operation, err := r.Begin(r.t.Context(), key, body("a"), uuid.NewString())
	require.NoError(r.t, err)
	return operation
}

func body(text string) [32]byte { return sha256.Sum256([]byte(text)) }

var created = httpapi.JSON(http.StatusCreated, map[string]string{"text": "José <&> \u2028"}).With("location", "/x")

func TestFreshRequestAndItsReplay(t *testing.T) {
	r := newRecords(t)
	before := time.Now()
	first, err := r.Begin(t.Context(), "k", body("a"), "id-1")
	require.NoError(t, err)
	assert.Equal(t, "id-1", first.ID)
	assert.Nil(t, first.Answer, "it has to be done")
	kept := r.get("k")
	assert.WithinRange(
		t,
		time.UnixMilli(dynamo.GetInt(kept, "lockedUntil")),
		before.Add(10*time.Second-time.Millisecond),
		time.Now().Add(10*time.Second),
	)
	assert.WithinRange(
		t,
		time.Unix(dynamo.GetInt(kept, "expiresAt"), 0),
		before.Add(24*time.Hour-time.Second),
		time.Now().Add(24*time.Hour),
	)

	require.NoError(t, first.Record.Complete(t.Context(), created))
	for range 2 {
		again, err := r.Begin(t.Context(), "k", body("a"), "id-2")
		require.NoError(t, err)
		assert.Equal(t, "id-1", again.ID)
		assert.Equal(t, created, again.Answer, "the first answer, whole")
	}
}

func TestAnswersOfEveryShapeAreReplayed(t *testing.T) {
	r := newRecords(t)
	for name, answer := range map[string]*httpapi.Response{
		"without a body":    httpapi.Empty(http.StatusNoContent),
		"without headers":   {Status: http.StatusOK, Body: "x"},
		"a refusal":         httpapi.JSON(http.StatusBadRequest, "no"),
		"a body of 300 KiB": {Status: http.StatusOK, Body: strings.Repeat("x", 300<<10), Header: map[string]string{"a": "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, r.begin(name).Record.Complete(t.Context(), answer))
			replayed := r.begin(name).Answer
			require.NotNil(t, replayed)
			assert.Equal(t, answer.Status, replayed.Status)
			assert.Equal(t, answer.Body, replayed.Body)
			replayed.With("x-request-id", "1") // as every answer is given one
			for name, value := range answer.Header {
				assert.Equal(t, value, replayed.Header[name])
			}
		})
	}
}

func TestSameKeyWithAnotherBody(t *testing.T) {
	r := newRecords(t)
	operation := r.begin("k")
	for _, state := range []string{"being done", "done"} {
		_, err := r.Begin(t.Context(), "k", body("b"), "id-2")
		assert.True(t, fault.Is(err, fault.Conflict), "%s: %v", state, err)
		require.NoError(t, operation.Record.Complete(t.Context(), created))
	}
	other := r.begin("K")
	assert.Nil(t, other.Answer, "keys differ by case")
}

// However many send a request at once, it is done once and all get that answer.
func TestConcurrentSendersDoItOnce(t *testing.T) {
	r := newRecords(t)
	var done atomic.Int64
	answers := make([]string, 20)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() {
			operation, err := r.Begin(t.Context(), "k", body("a"), fmt.Sprint("id-", i))
			if !assert.NoError(t, err) {
				return
			}
			if operation.Answer == nil {
				done.Add(1)
				answer := &httpapi.Response{Status: http.StatusOK, Body: operation.ID}
				if !assert.NoError(t, operation.Record.Complete(t.Context(), answer)) {
					return
				}
				operation.Answer = answer
			}
			answers[i] = operation.Answer.Body
		})
	}
	group.Wait()
	assert.EqualValues(t, 1, done.Load())
	for _, answer := range answers {
		assert.Equal(t, answers[0], answer)
	}
}

// A sender that comes while the request is done waits for its answer.
func TestWaitingForTheAnswer(t *testing.T) {
	r := newRecords(t)
	operation := r.begin("k")
	var group sync.WaitGroup
	waiting := make(chan struct{})
	group.Go(func() {
		close(waiting)
		again, err := r.Begin(t.Context(), "k", body("a"), "id-2")
		if assert.NoError(t, err) {
			assert.Equal(t, created, again.Answer)
		}
	})
	<-waiting
	require.NoError(t, operation.Record.Complete(t.Context(), created))
	group.Wait()
}

func TestWaitingLongerThanTheCallerHas(t *testing.T) {
	r := newRecords(t)
	r.begin("k")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := r.Begin(ctx, "k", body("a"), "id-2")
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
}

// A process that died left its lock. The next sender takes the request over, under the id it was begun with.
func TestTakingOver(t *testing.T) {
	r := newRecords(t)
	r.put("k", "id-1", time.Now(), time.Now().Add(time.Hour), "")
	operation := r.begin("k")
	assert.Equal(t, "id-1", operation.ID)
	assert.Nil(t, operation.Answer)
	assert.Greater(
		t,
		dynamo.GetInt(r.get("k"), "lockedUntil"),
		time.Now().Add(5*time.Second).UnixMilli(),
		"it is locked again",
	)
	require.NoError(t, operation.Record.Complete(t.Context(), created))
	assert.Equal(t, created, r.begin("k").Answer)
}

func TestTakingOverIsForOne(t *testing.T) {
	r := newRecords(t)
	r.put("k", "id-1", time.Now().Add(-time.Minute), time.Now().Add(time.Hour), "")
	var taken atomic.Int64
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			operation, err := r.Begin(t.Context(), "k", body("a"), uuid.NewString())
			if !assert.NoError(t, err) {
				return
			}
			assert.Equal(t, "id-1", operation.ID)
			if operation.Answer == nil {
				taken.Add(1)
				assert.NoError(t, operation.Record.Complete(t.Context(), created))
			}
		})
	}
	group.Wait()
	assert.EqualValues(t, 1, taken.Load())
}

func TestTakingOverNeedsTheSameBody(t *testing.T) {
	r := newRecords(t)
	r.put("k", "id-1", time.Now().Add(-time.Minute), time.Now().Add(time.Hour), "")
	_, err := r.Begin(t.Context(), "k", body("b"), "id-2")
	assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
}

func TestExpiredRecordCountsAsNone(t *testing.T) {
	r := newRecords(t)
	for name, answer := range map[string]string{"done": `{"Status":200,"Header":{},"Body":"old"}`, "begun": ""} {
		t.Run(name, func(t *testing.T) {
			r.put(name, "id-1", time.Now().Add(time.Minute), time.Now(), answer)
			operation, err := r.Begin(t.Context(), name, body("another"), "id-2")
			require.NoError(t, err)
			assert.Equal(t, "id-2", operation.ID)
			assert.Nil(t, operation.Answer)
			assert.NotContains(t, r.get(name), "answer")
		})
	}
}

func TestRelease(t *testing.T) {
	r := newRecords(t)
	first := r.begin("k")
	require.NoError(t, first.Record.Release(t.Context()))
	again := r.begin("k")
	assert.Equal(t, first.ID, again.ID, "the same request goes on at once")
	assert.Nil(t, again.Answer)
	require.NoError(t, again.Record.Complete(t.Context(), created))
	require.NoError(t, first.Record.Release(t.Context()), "who is late does no harm")
	assert.Equal(t, created, r.begin("k").Answer)
}

func TestAbandon(t *testing.T) {
	r := newRecords(t)
	first := r.begin("k")
	require.NoError(t, first.Record.Forget(t.Context()))
	assert.Empty(t, r.get("k"))
	require.NoError(t, first.Record.Forget(t.Context()), "twice is once")
	require.NoError(t, first.Record.Release(t.Context()))
	assert.Empty(t, r.get("k"), "releasing writes no record")

	corrected, err := r.Begin(t.Context(), "k", body("b"), "id-2")
	require.NoError(t, err, "the key can be used for a corrected request")
	assert.Equal(t, "id-2", corrected.ID)

	// Who abandoned the first is not the second's.
	require.NoError(t, first.Record.Forget(t.Context()))
	require.NoError(t, first.Record.Release(t.Context()))
	require.NoError(t, first.Record.Complete(t.Context(), created))
	kept := r.get("k")
	assert.Equal(t, "id-2", dynamo.GetString(kept, "requestId"))
	assert.NotContains(t, kept, "answer")
	assert.NotZero(t, dynamo.GetInt(kept, "lockedUntil"))

	require.NoError(t, corrected.Record.Complete(t.Context(), created))
	require.NoError(t, corrected.Record.Forget(t.Context()))
	assert.NotEmpty(t, r.get("k"), "what is done stays")
}

// Two who did it, one of them slow: the first answer stands.
func TestCompleteTwice(t *testing.T) {
	r := newRecords(t)
	operation := r.begin("k")
	require.NoError(t, operation.Record.Complete(t.Context(), created))
	require.NoError(t, operation.Record.Complete(t.Context(), httpapi.Empty(http.StatusTeapot)))
	assert.Equal(t, created, r.begin("k").Answer)
}

// The SDK's retry of a claim that had reached the table finds its own record.
func TestClaimThatWasSentTwice(t *testing.T) {
	r := newRecords(t)
	r.put("k", "id-1", time.Now().Add(10*time.Second), time.Now().Add(time.Hour), "")
	start := time.Now()
	operation, err := r.Begin(t.Context(), "k", body("a"), "id-1")
	require.NoError(t, err)
	assert.Equal(t, "id-1", operation.ID)
	assert.Less(t, time.Since(start), 5*time.Second, "it does not wait for itself")
}

func TestTableThatIsNotThere(t *testing.T) {
	_, err := idempotencystore.New(emulatortest.DynamoDB(), "no-such-table", clock.System{}).
		Begin(t.Context(), "k", body("a"), "id-1")
	var missing *types.ResourceNotFoundException
	require.ErrorAs(t, err, &missing)
	assert.False(t, fault.Is(err, fault.Unavailable), "no retry would help")
}

// A lock is one holder's at a time; who waits has it as soon as it is given back.
func TestLock(t *testing.T) {
	r := newRecords(t)
	var inside, most atomic.Int64
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			unlock, err := r.Lock(t.Context(), "lock", fmt.Sprint("holder-", i))
			if !assert.NoError(t, err) {
				return
			}
			most.Store(max(most.Load(), inside.Add(1)))
			inside.Add(-1)
			over, cancel := context.WithCancel(t.Context())
			cancel()
			assert.NoError(t, unlock(over), "it is given back though the request's time is over")
		})
	}
	group.Wait()
	assert.EqualValues(t, 1, most.Load())
	assert.Empty(t, r.get("lock"))
}

// Who died with a lock keeps it for ten seconds.
func TestLockOfAHolderThatDied(t *testing.T) {
	r := newRecords(t)
	now := clocktest.New()
	locks := idempotencystore.New(r.client, r.table, now)
	lost, err := locks.Lock(t.Context(), "lock", "first")
	require.NoError(t, err)
	start := now.Now()
	unlock, err := locks.Lock(t.Context(), "lock", "second")
	require.NoError(t, err)
	assert.InDelta(t, 10*time.Second, now.Now().Sub(start), float64(400*time.Millisecond))
	require.NoError(t, lost(t.Context()), "whose lock was taken over does no harm")
	assert.Equal(t, "second", dynamo.GetString(r.get("lock"), "requestId"))
	require.NoError(t, unlock(t.Context()))
	assert.Empty(t, r.get("lock"))
}

func TestLockThatTheSDKTookTwice(t *testing.T) {
	r := newRecords(t)
	for range 2 {
		_, err := r.Lock(t.Context(), "lock", "holder")
		require.NoError(t, err)
	}
}

func TestLockThatIsNotGivenBackInTime(t *testing.T) {
	r := newRecords(t)
	_, err := r.Lock(t.Context(), "lock", "first")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = r.Lock(ctx, "lock", "second")
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
}

func TestOpenWithoutItsTable(t *testing.T) {
	t.Setenv("IDEMPOTENCY_TABLE", "")
	var env environment.Variables
	idempotencystore.Open(&env, aws.Config{})
	assert.EqualError(t, env.Err(), "environment: IDEMPOTENCY_TABLE is not set")
}
