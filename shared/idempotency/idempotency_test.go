package idempotency_test

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

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/attribute"
	"carillon/shared/awsconfig"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// records is a table of records of its own.
type records struct {
	*idempotency.Store
	t      *testing.T
	client *dynamodb.Client
	table  string
}

func newRecords(t *testing.T) records {
	t.Helper()
	table := emulatortest.Deploy(t) + "-idempotency"
	client := emulatortest.DynamoDB()
	return records{idempotency.NewStore(client, table), t, client, table}
}

// get returns a record as it is kept.
func (r records) get(key string) attribute.Item {
	r.t.Helper()
	consistent := true
	out, err := r.client.GetItem(r.t.Context(), &dynamodb.GetItemInput{TableName: &r.table, Key: attribute.Item{"key": attribute.String(key)}, ConsistentRead: &consistent})
	require.NoError(r.t, err)
	return out.Item
}

// put writes a record as a process that died left it.
func (r records) put(key, id string, lockedUntil, expiresAt time.Time, answer string) {
	r.t.Helper()
	hash := body("a")
	item := attribute.Item{
		"key": attribute.String(key), "bodyHash": attribute.Bytes(hash[:]), "requestId": attribute.String(id),
		"lockedUntil": attribute.Int(lockedUntil.UnixMilli()), "expiresAt": attribute.EpochSeconds(expiresAt),
	}
	if answer != "" {
		item["answer"] = attribute.String(answer)
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
	assert.WithinRange(t, time.UnixMilli(attribute.GetInt(kept, "lockedUntil")), before.Add(10*time.Second-time.Millisecond), time.Now().Add(10*time.Second))
	assert.WithinRange(t, time.Unix(attribute.GetInt(kept, "expiresAt"), 0), before.Add(24*time.Hour-time.Second), time.Now().Add(24*time.Hour))

	require.NoError(t, first.Complete(t.Context(), created))
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
			require.NoError(t, r.begin(name).Complete(t.Context(), answer))
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
		require.NoError(t, operation.Complete(t.Context(), created))
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
				if !assert.NoError(t, operation.Complete(t.Context(), answer)) {
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
	require.NoError(t, operation.Complete(t.Context(), created))
	group.Wait()
}

func TestWaitingLongerThanTheCallerHas(t *testing.T) {
	r := newRecords(t)
	r.begin("k")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := r.Begin(ctx, "k", body("a"), "id-2")
	require.Error(t, err)
	// On a slow machine the time ends within a call, which means the same to the caller.
	assert.True(t, fault.Is(err, fault.Unavailable) || awsconfig.IsUnavailable(err), "%v", err)
}

// A process that died left its lock. The next sender takes the request over, under the id it was begun with.
func TestTakingOver(t *testing.T) {
	r := newRecords(t)
	r.put("k", "id-1", time.Now(), time.Now().Add(time.Hour), "")
	operation := r.begin("k")
	assert.Equal(t, "id-1", operation.ID)
	assert.Nil(t, operation.Answer)
	assert.Greater(t, attribute.GetInt(r.get("k"), "lockedUntil"), time.Now().Add(5*time.Second).UnixMilli(), "it is locked again")
	require.NoError(t, operation.Complete(t.Context(), created))
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
				assert.NoError(t, operation.Complete(t.Context(), created))
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
	require.NoError(t, first.Release(t.Context()))
	again := r.begin("k")
	assert.Equal(t, first.ID, again.ID, "the same request goes on at once")
	assert.Nil(t, again.Answer)
	require.NoError(t, again.Complete(t.Context(), created))
	require.NoError(t, first.Release(t.Context()), "who is late does no harm")
	assert.Equal(t, created, r.begin("k").Answer)
}

func TestAbandon(t *testing.T) {
	r := newRecords(t)
	first := r.begin("k")
	require.NoError(t, first.Abandon(t.Context()))
	assert.Empty(t, r.get("k"))
	require.NoError(t, first.Abandon(t.Context()), "twice is once")
	require.NoError(t, first.Release(t.Context()))
	assert.Empty(t, r.get("k"), "releasing writes no record")

	corrected, err := r.Begin(t.Context(), "k", body("b"), "id-2")
	require.NoError(t, err, "the key can be used for a corrected request")
	assert.Equal(t, "id-2", corrected.ID)

	// Who abandoned the first is not the second's.
	require.NoError(t, first.Abandon(t.Context()))
	require.NoError(t, first.Release(t.Context()))
	require.Error(t, first.Complete(t.Context(), created))
	kept := r.get("k")
	assert.Equal(t, "id-2", attribute.GetString(kept, "requestId"))
	assert.NotContains(t, kept, "answer")
	assert.NotZero(t, attribute.GetInt(kept, "lockedUntil"))

	require.NoError(t, corrected.Complete(t.Context(), created))
	require.NoError(t, corrected.Abandon(t.Context()))
	assert.NotEmpty(t, r.get("k"), "what is done stays")
}

// Two who did it, one of them slow: the first answer stands.
func TestCompleteTwice(t *testing.T) {
	r := newRecords(t)
	operation := r.begin("k")
	require.NoError(t, operation.Complete(t.Context(), created))
	require.NoError(t, operation.Complete(t.Context(), httpapi.Empty(http.StatusTeapot)))
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
	_, err := idempotency.NewStore(emulatortest.DynamoDB(), "no-such-table").Begin(t.Context(), "k", body("a"), "id-1")
	var failure *fault.Error
	require.Error(t, err)
	assert.NotErrorAs(t, err, &failure)
}
