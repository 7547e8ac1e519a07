package store_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/store"
	"carillon/shared/stackname"
)

func newMessages(t *testing.T) *store.Messages {
	t.Helper()
	return store.NewMessages(emulatortest.DynamoDB(), stackname.MessagesTable(emulatortest.Deploy(t)), clocktest.New())
}

func sendBody(text string) ott.SendBody {
	return ott.SendBody{Kept: []byte(text), Hash: sha256.Sum256([]byte(text))}
}

// put makes a message durable under a key.
func put(t *testing.T, s *store.Messages, tenant, key, body string, now time.Time) (string, error) {
	t.Helper()
	accepted, err := s.Put(t.Context(), tenant, uuid.NewString(), ott.Message{Key: key}, sendBody(body), now)
	return accepted.OttRequestID, err
}

// now is a time as the store keeps it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// docs/contract.md §1: the same messageKey with the same body within 24 h gives the first ottRequestId; with another
// body 409.
func TestMessageKey(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	first, err := put(t, s, "acme", "k", "body", start)
	require.NoError(t, err)

	again, err := put(t, s, "acme", "k", "body", start.Add(24*time.Hour-time.Millisecond))
	require.NoError(t, err)
	assert.Equal(t, first, again)
	_, err = put(t, s, "acme", "k", "other", start.Add(24*time.Hour-time.Millisecond))
	assert.True(t, fault.Is(err, fault.Conflict), "%v", err)

	other, err := put(t, s, "acme", "K", "other", start)
	require.NoError(t, err, "keys are told apart by case")
	assert.NotEqual(t, first, other)
	foreign, err := put(t, s, "globex", "k", "other", start)
	require.NoError(t, err, "each tenant has keys of its own")
	assert.NotEqual(t, first, foreign)

	later, err := put(t, s, "acme", "k", "other", start.Add(24*time.Hour))
	require.NoError(t, err, "the key is free again")
	assert.NotEqual(t, first, later)
	m, err := s.Get(t.Context(), "acme", "k")
	require.NoError(t, err)
	assert.Equal(t, later, m.OttRequestID, "the key's latest message")
	m, err = s.Get(t.Context(), "acme", first)
	require.NoError(t, err)
	assert.Equal(t, "body", string(m.Body), "the first is still there by its id")
}

func TestMessageGet(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id, err := put(t, s, "acme", "k/é#1", "body", start)
	require.NoError(t, err)
	for name, messageID := range map[string]string{
		"ottRequestId": id, "in capitals": strings.ToUpper(id), "messageKey": "k/é#1",
	} {
		m, err := s.Get(t.Context(), "acme", messageID)
		require.NoError(t, err, name)
		assert.Equal(t,
			&ott.StoredMessage{OttRequestID: id, Tenant: "acme", Body: []byte("body"), CreatedAt: start}, m, name)
		_, err = s.Get(t.Context(), "globex", messageID)
		assert.True(t, fault.Is(err, fault.NotFound), "another tenant's %s: %v", name, err)
	}
	for _, messageID := range []string{
		"", "other", uuid.NewString(), strings.Repeat("x", 101), strings.Repeat("x", 5000), "\xff", "#message#" + id,
	} {
		_, err := s.Get(t.Context(), "acme", messageID)
		assert.True(t, fault.Is(err, fault.NotFound), "%q: %v", messageID, err)
	}
	// A messageKey that looks like an id, and is another message's.
	decoy := uuid.NewString()
	_, err = put(t, s, "acme", decoy, "decoy", start)
	require.NoError(t, err)
	m, err := s.Get(t.Context(), "acme", decoy)
	require.NoError(t, err)
	assert.Equal(t, "decoy", string(m.Body))
}

func TestFiftySendsOfOneKeyMakeOneMessage(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	ids := make([]string, 50)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			accepted, err := s.Put(t.Context(), "acme", uuid.NewString(), ott.Message{Key: "k"}, sendBody("body"),
				start)
			assert.NoError(t, err)
			ids[i] = accepted.OttRequestID
		})
	}
	all.Wait()
	for _, id := range ids {
		assert.Equal(t, ids[0], id)
	}
	m, err := s.Get(t.Context(), "acme", "k")
	require.NoError(t, err)
	assert.Equal(t, ids[0], m.OttRequestID)
}

// A transaction that AWS cancels because it met another one is tried again; one that was carried out and whose answer
// was lost counts as done.
func TestPutUnderAWSsConditions(t *testing.T) {
	t.Parallel()
	const conflict = `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
		"Message":"Transaction cancelled",
		"CancellationReasons":[{"Code":"TransactionConflict","Message":"Transaction is ongoing"},{"Code":"None"}]}`
	table := stackname.MessagesTable(emulatortest.Deploy(t))
	var calls atomic.Int32
	through := func(answer func(w http.ResponseWriter, call emulatortest.Call) bool) *store.Messages {
		calls.Store(0)
		return store.NewMessages(
			emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), answer)), table,
			clocktest.New())
	}
	conflicts := func(times int32) *store.Messages {
		return through(func(w http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "TransactWriteItems" || calls.Add(1) > times {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(conflict))
			return true
		})
	}
	_, err := put(t, conflicts(3), "acme", "a", "body", now())
	require.NoError(t, err)
	_, err = put(t, conflicts(1000), "acme", "b", "body", now())
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)

	id := uuid.NewString()
	twice := through(func(_ http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation == "TransactWriteItems" {
			// The SDK's token makes AWS answer the second as the first; here the second finds what the first wrote.
			assert.Equal(t, http.StatusOK,
				call.Send(strings.Replace(call.Body, `"ClientRequestToken"`, `"Forgotten"`, 1)).Code)
		}
		return false
	})
	accepted, err := twice.Put(t.Context(), "acme", id, ott.Message{Key: "c"}, sendBody("body"), now())
	require.NoError(t, err)
	assert.Equal(t, ott.Accepted{OttRequestID: id}, accepted)
}

// A message that the queue has lost is enqueued again by a repeat of its request; one that waits or is final is not.
func TestRepeatOfALostMessage(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id, err := put(t, s, "acme", "k", "body", start)
	require.NoError(t, err)
	repeat := func(at time.Time) bool {
		accepted, err := s.Put(t.Context(), "acme", uuid.NewString(), ott.Message{Key: "k"}, sendBody("body"), at)
		require.NoError(t, err)
		require.Equal(t, id, accepted.OttRequestID)
		return accepted.Queued
	}
	assert.False(t, repeat(start.Add(time.Second)), "never queued")
	require.NoError(t, s.MarkQueued(t.Context(), "acme", id, start))
	assert.True(t, repeat(start.Add(10*time.Minute)))
	assert.False(t, repeat(start.Add(10*time.Minute+time.Millisecond)))

	claimed, err := s.Claim(t.Context(), "acme", id, start.Add(11*time.Minute), start.Add(12*time.Minute))
	require.NoError(t, err)
	assert.True(t, repeat(start.Add(22*time.Minute)), "whoever claimed it may have died, and SQS brings it back")
	assert.False(t, repeat(start.Add(23*time.Minute)))
	require.NoError(t, s.Release(t.Context(), claimed, start.Add(time.Hour)))
	assert.True(t, repeat(start.Add(time.Hour)), "it waits on purpose")
	require.NoError(t, s.Sent(t.Context(), claimed, start.Add(time.Hour)))
	assert.True(t, repeat(start.Add(5*time.Hour)))
}

func TestClaim(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id, err := put(t, s, "acme", "k", "body", start)
	require.NoError(t, err)
	claim := func(at time.Time) (*ott.StoredMessage, error) {
		return s.Claim(t.Context(), "acme", id, at, at.Add(30*time.Second))
	}
	first, err := claim(start.Add(time.Second))
	require.NoError(t, err)
	assert.Equal(t, start.Add(time.Second), first.QueuedAt, "marked as queued, if nobody did")

	busy, err := claim(start.Add(2 * time.Second))
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	assert.False(t, busy.Final())
	assert.Equal(t, start.Add(31*time.Second), busy.NotBefore.UTC())

	second, err := claim(start.Add(31 * time.Second))
	require.NoError(t, err, "the first one's time is over")
	assert.True(t, fault.Is(s.Release(t.Context(), first, start), fault.Conflict))
	assert.True(t, fault.Is(s.Failed(t.Context(), first, "late", start), fault.Conflict))
	second.Tries = 4
	require.NoError(t, s.Release(t.Context(), second, start.Add(40*time.Second)))
	_, err = claim(start.Add(39 * time.Second))
	assert.True(t, fault.Is(err, fault.Conflict), "%v", err)

	third, err := claim(start.Add(40 * time.Second))
	require.NoError(t, err)
	assert.Equal(t, 4, third.Tries)
	require.NoError(t,
		s.Failed(t.Context(), third, "no\x00 such\n\u202euser\xff"+strings.Repeat("é", 300), start.Add(41*time.Second)))
	final, err := claim(start.Add(time.Hour))
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	assert.True(t, final.Final())
	assert.Equal(t, "no such user"+strings.Repeat("é", 243)+"…", final.Reason)

	require.NoError(t, s.Sent(t.Context(), first, start.Add(42*time.Second)),
		"what was sent was sent, whoever gave it up")
	require.NoError(t, s.Sent(t.Context(), first, start.Add(43*time.Second)))
	m, err := s.Get(t.Context(), "acme", id)
	require.NoError(t, err)
	assert.Equal(t, &ott.StoredMessage{
		OttRequestID: id, Tenant: "acme", Body: []byte("body"), CreatedAt: start, QueuedAt: start.Add(time.Second),
		SentAt: start.Add(42 * time.Second), Tries: 4,
	}, m)

	_, err = s.Claim(t.Context(), "acme", uuid.NewString(), start, start)
	assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
	assert.Error(t, s.MarkQueued(t.Context(), "acme", uuid.NewString(), start))
}

// A claim that was carried out and whose answer was lost is the claimant's own when the SDK asks again.
func TestClaimWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	table := stackname.MessagesTable(emulatortest.Deploy(t))
	twice := func(_ http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation == "UpdateItem" {
			call.Send(call.Body)
		}
		return false
	}
	items := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), twice))
	s := store.NewMessages(items, table, clocktest.New())
	id, err := put(t, s, "acme", "k", "body", now())
	require.NoError(t, err)
	m, err := s.Claim(t.Context(), "acme", id, now(), now().Add(time.Minute))
	require.NoError(t, err)
	require.NoError(t, s.Sent(t.Context(), m, now()))
}

// itemSize is what DynamoDB counts of an item: the names and the values of its attributes.
func itemSize(t *testing.T, item dynamo.Item) (size int) {
	t.Helper()
	for name, value := range item {
		size += len(name)
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			size += len(v.Value)
		case *types.AttributeValueMemberB:
			size += len(v.Value)
		case *types.AttributeValueMemberN:
			size += 21 // at most
		default:
			require.Failf(t, "not counted", "%s is a %T", name, value)
		}
	}
	return size
}

// The largest body that is kept, and those about which it no longer stands beside the message, fit the 400 KB of an
// item, with the longest reason for giving them up.
func TestPutOfTheLargestMessages(t *testing.T) {
	t.Parallel()
	items, table, c := emulatortest.DynamoDB(), stackname.MessagesTable(emulatortest.Deploy(t)), clocktest.New()
	s := store.NewMessages(items, table, c)
	tenant := strings.Repeat("t", 128)
	for size, beside := range map[int]bool{8_100: true, 8_300: false, ott.MaxBody: false} {
		body := `{"messageKey":"` + fmt.Sprintf("%0100d", size) + `","from":{"senderType":"line","senderId":"1"},` +
			`"to":{"ottId":"2"},"message":{"contents":[{"type":"text","text":"`
		const end = `"}]},"validityPeriod":10080}`
		text := strings.Repeat("x", size-len(body)-len(end))
		body += text + end
		message, faults, err := ott.DecodeSend(strings.NewReader(body))
		require.NoError(t, err)
		require.Empty(t, faults)
		id := uuid.NewString()
		_, err = s.Put(t.Context(), tenant, id, message, sendBody(body), c.Now())
		require.NoError(t, err)

		m, err := s.Claim(t.Context(), tenant, id, c.Now(), c.Now().Add(time.Minute))
		require.NoError(t, err)
		assert.Equal(t, text, m.Message.Parts[0].Text)
		assert.Equal(t, c.Now().Add(7*24*time.Hour), m.ValidUntil.UTC())
		require.NoError(t, s.Failed(t.Context(), m, strings.Repeat("\U0001f514", 300), c.Now()))
		shown, err := s.Get(t.Context(), tenant, id)
		require.NoError(t, err)
		assert.Equal(t, body, string(shown.Body))

		out, err := items.GetItem(t.Context(), &dynamodb.GetItemInput{
			TableName: &table, Key: dynamo.Item{"id": dynamo.String(tenant + "#message#" + id)},
		})
		require.NoError(t, err)
		assert.Less(t, itemSize(t, out.Item), 400<<10)
		assert.Equal(t, beside, out.Item["body"] != nil, "a body of %d bytes is in the message's item", size)
	}
}
