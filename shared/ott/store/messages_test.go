package store_test

import (
	"crypto/sha256"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
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

// kept is a stack's messages, and what tests do with them.
type kept struct {
	*store.Messages
	t     *testing.T
	table string
}

func newMessages(t *testing.T) *kept {
	t.Helper()
	return newMessagesAt(t, emulatortest.DynamoDB())
}

// newMessagesAt is newMessages by way of another client.
func newMessagesAt(t *testing.T, items *dynamodb.Client) *kept {
	t.Helper()
	table := stackname.MessagesTable(emulatortest.Deploy(t))
	return &kept{store.NewMessages(items, table, clocktest.New()), t, table}
}

func sendBody(text string) ott.SendBody {
	return ott.SendBody{Kept: []byte(text), Hash: sha256.Sum256([]byte(text))}
}

// message is a message of a key's, valid for an hour.
func message(key string) ott.Message {
	return ott.Message{
		Key: key, Platform: ott.LINE, SenderID: "channel", OttID: "person", Validity: time.Hour,
		Parts: []ott.Part{{Type: ott.TextPart, Text: "hello"}},
	}
}

// find returns the message that a key stands for, and else the place of a new one.
func (k *kept) find(tenant, key, body string, now time.Time) (ott.Accepted, ott.Place) {
	k.t.Helper()
	accepted, place, err := k.Find(k.t.Context(), tenant, key, sendBody(body), now)
	if fault.Is(err, fault.NotFound) {
		require.Zero(k.t, accepted)
		require.NotZero(k.t, place)
		return accepted, place
	}
	require.NoError(k.t, err)
	require.Zero(k.t, place)
	return accepted, place
}

// send makes a message durable under a key, or finds it, as ott-send does.
func (k *kept) send(tenant, key, body string, now time.Time) ott.Accepted {
	k.t.Helper()
	accepted, place := k.find(tenant, key, body, now)
	if place == (ott.Place{}) {
		return accepted
	}
	accepted, err := k.put(tenant, key, body, place, now)
	require.NoError(k.t, err)
	return accepted
}

// put makes a message durable at a place.
func (k *kept) put(tenant, key, body string, at ott.Place, now time.Time) (ott.Accepted, error) {
	k.t.Helper()
	return k.Put(k.t.Context(), tenant, at, message(key), sendBody(body), now, now.Add(20*time.Millisecond))
}

// get returns a message that there is.
func (k *kept) get(tenant, keyOrID string) *ott.StoredMessage {
	k.t.Helper()
	m, err := k.Get(k.t.Context(), tenant, keyOrID)
	require.NoError(k.t, err)
	return m
}

// all are the items of the table by their ids.
func (k *kept) all() map[string]dynamo.Item {
	k.t.Helper()
	out, err := emulatortest.DynamoDB().Scan(k.t.Context(), &dynamodb.ScanInput{
		TableName: &k.table, ConsistentRead: aws.Bool(true),
	})
	require.NoError(k.t, err)
	all := map[string]dynamo.Item{}
	for _, item := range out.Items {
		all[dynamo.GetString(item, "id")] = item
	}
	return all
}

// now is a time as the store keeps it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// docs/contract.md §1: the same messageKey with the same body within 24 h gives the first ottRequestId; with another
// body 409.
func TestMessageKey(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	first := s.send("acme", "k", "body", start)
	_, err := uuid.Parse(first.OttRequestID)
	require.NoError(t, err)
	assert.Equal(t, ott.Accepted{OttRequestID: first.OttRequestID}, first)
	assert.Len(t, s.all(), 1, "one write makes a message durable")

	end := start.Add(24 * time.Hour)
	last := end.Add(-time.Millisecond)
	assert.Equal(t, first, s.send("acme", "k", "body", last))
	conflict := s.send("acme", "k", "other", last)
	assert.True(t, conflict.Conflict)
	assert.Len(t, s.all(), 1)

	other := s.send("acme", "K", "other", start)
	assert.False(t, other.Conflict, "keys are told apart by case")
	foreign := s.send("globex", "k", "other", start)
	assert.False(t, foreign.Conflict, "each tenant has keys of its own")
	ids := map[string]bool{first.OttRequestID: true, other.OttRequestID: true, foreign.OttRequestID: true}
	assert.Len(t, ids, 3)

	// The key is free again, as often as a day is over.
	for n, body := range []string{"other", "third", "body"} {
		end := start.Add(time.Duration(n+1) * 24 * time.Hour)
		assert.True(t, s.send("acme", "k", body, end.Add(-time.Millisecond)).Conflict, "while it is another's")
		later := s.send("acme", "k", body, end)
		require.False(t, later.Conflict)
		assert.NotContains(t, ids, later.OttRequestID)
		ids[later.OttRequestID] = true
		assert.Equal(t, later, s.send("acme", "k", body, end.Add(time.Hour)))
		assert.True(t, s.send("acme", "k", "never", end.Add(time.Hour)).Conflict)
		assert.Equal(t, later.OttRequestID, s.get("acme", "k").OttRequestID, "the key's latest message")
		m := s.get("acme", later.OttRequestID)
		assert.Equal(t, body, string(m.Body))
		assert.Equal(t, end, m.CreatedAt)
		assert.Equal(t, end.Add(time.Hour), m.ValidUntil)
	}
	m := s.get("acme", first.OttRequestID)
	assert.Equal(t, "body", string(m.Body), "the first is still there by its id, as it was")
	assert.Equal(t, start, m.CreatedAt)
	assert.Equal(t, start.Add(time.Hour), m.ValidUntil)
}

func TestMessageGet(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id := s.send("acme", "k/é#1", "body", start).OttRequestID
	want := message("k/é#1")
	want.Validity = 0
	for name, messageID := range map[string]string{
		"ottRequestId": id, "in capitals": strings.ToUpper(id), "messageKey": "k/é#1",
	} {
		assert.Equal(t, &ott.StoredMessage{
			OttRequestID: id, Tenant: "acme", Body: []byte("body"), Message: want, ValidUntil: start.Add(time.Hour),
			CreatedAt: start, QueuedAt: start.Add(20 * time.Millisecond),
		}, s.get("acme", messageID), name)
		_, err := s.Get(t.Context(), "globex", messageID)
		assert.True(t, fault.Is(err, fault.NotFound), "another tenant's %s: %v", name, err)
	}
	loaded, err := s.Load(t.Context(), "acme", id)
	require.NoError(t, err)
	assert.Equal(t, want, loaded.Message)
	assert.Empty(t, loaded.Body, "what is sent is the message")
	for _, tenant := range []string{"globex", "acme#message", ""} {
		_, err = s.Load(t.Context(), tenant, id)
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
	}
	for _, messageID := range []string{
		"", "other", uuid.NewString(), strings.Repeat("x", 101), strings.Repeat("x", 5000), "\xff", "#message#" + id,
	} {
		_, err := s.Get(t.Context(), "acme", messageID)
		assert.True(t, fault.Is(err, fault.NotFound), "%q: %v", messageID, err)
	}
	// A messageKey that looks like an id, and is another message's.
	decoy := uuid.NewString()
	s.send("acme", decoy, "decoy", start)
	assert.Equal(t, "decoy", string(s.get("acme", decoy).Body))
	s.send("acme", id, "a key that is another's id", start)
	assert.Equal(t, "body", string(s.get("acme", id).Body), "an id comes first")
}

func TestFiftySendsOfOneKeyMakeOneMessage(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	for name, at := range map[string]time.Time{"a new key": start, "a key that is free again": start.Add(24 * time.Hour)} {
		ids := make([]string, 50)
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() {
				accepted, place, err := s.Find(t.Context(), "acme", "k", sendBody("body"), at)
				if fault.Is(err, fault.NotFound) {
					accepted, err = s.put("acme", "k", "body", place, at)
				}
				assert.NoError(t, err)
				assert.False(t, accepted.Conflict)
				ids[i] = accepted.OttRequestID
			})
		}
		all.Wait()
		for _, id := range ids {
			assert.Equal(t, ids[0], id, name)
		}
		require.Equal(t, ids[0], s.get("acme", "k").OttRequestID, name)
	}
}

// What Find read may be out of date: Put decides.
func TestPutAtAPlaceThatIsTaken(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	_, place := s.find("acme", "k", "body", start)
	first, err := s.put("acme", "k", "body", place, start)
	require.NoError(t, err)
	again, err := s.put("acme", "k", "body", place, start.Add(time.Minute))
	require.NoError(t, err)
	assert.Equal(t, first, again)
	other, err := s.put("acme", "k", "other", place, start.Add(time.Minute))
	require.NoError(t, err)
	assert.True(t, other.Conflict)
	assert.Equal(t, start, s.get("acme", "k").CreatedAt, "nothing of the first has changed")
	assert.Equal(t, "body", string(s.get("acme", "k").Body))

	next := start.Add(24 * time.Hour)
	_, err = s.put("acme", "k", "body", place, next)
	assert.True(t, fault.Is(err, fault.Conflict), "a former message's place: %v", err)

	_, second := s.find("acme", "k", "body", next)
	assert.NotEqual(t, place, second)
	accepted, err := s.put("acme", "k", "second", second, next)
	require.NoError(t, err)
	assert.Equal(t, ott.Accepted{OttRequestID: second.OttRequestID}, accepted)
	again, err = s.put("acme", "k", "second", second, next.Add(time.Minute))
	require.NoError(t, err)
	assert.Equal(t, accepted, again)
	other, err = s.put("acme", "k", "other", second, next.Add(time.Minute))
	require.NoError(t, err)
	assert.True(t, other.Conflict)
	assert.Equal(t, "second", string(s.get("acme", "k").Body))
	assert.Equal(t, next, s.get("acme", "k").CreatedAt)

	_, err = s.put("acme", "gone", "body", ott.Place{OttRequestID: uuid.NewString(), Uses: 1}, next)
	assert.True(t, fault.Is(err, fault.Conflict), "the key's first message, with its time to live over: %v", err)
}

// A message that the queue has lost is to be enqueued again by a repeat of its request; one that waits or is final is
// not.
func TestRepeatOfALostMessage(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id := s.send("acme", "k", "body", start).OttRequestID
	queued := start.Add(20 * time.Millisecond)
	lost := func(at time.Time) *ott.StoredMessage {
		accepted, _ := s.find("acme", "k", "body", at)
		require.Equal(t, id, accepted.OttRequestID)
		return accepted.Lost
	}
	assert.Nil(t, lost(queued.Add(10*time.Minute)))
	m := lost(queued.Add(10*time.Minute + time.Millisecond))
	require.NotNil(t, m)
	assert.Equal(t, []any{id, "acme", start, start.Add(time.Hour), ott.LINE, "channel", "person"}, []any{
		m.OttRequestID, m.Tenant, m.CreatedAt, m.ValidUntil, m.Message.Platform, m.Message.SenderID, m.Message.OttID,
	}, "with all that a job says")
	accepted, err := s.put("acme", "k", "body", ott.Place{OttRequestID: id}, queued.Add(11*time.Minute))
	require.NoError(t, err)
	assert.NotNil(t, accepted.Lost, "Put says it as well")

	claimed, err := s.Load(t.Context(), "acme", id)
	require.NoError(t, err)
	require.NoError(t, s.Claim(t.Context(), claimed, start.Add(11*time.Minute), start.Add(12*time.Minute)))
	assert.Nil(t, lost(start.Add(22*time.Minute)), "whoever claimed it may have died, and SQS brings it back")
	assert.NotNil(t, lost(start.Add(22*time.Minute+time.Millisecond)))
	require.NoError(t, s.Release(t.Context(), claimed, start.Add(40*time.Minute)))
	assert.Nil(t, lost(start.Add(50*time.Minute)), "it waits on purpose")
	assert.NotNil(t, lost(start.Add(50*time.Minute+time.Millisecond)))
	assert.Nil(t, lost(start.Add(time.Hour)), "nobody needs it any more")

	require.NoError(t, s.Sent(t.Context(), claimed, start.Add(45*time.Minute)))
	assert.Nil(t, lost(start.Add(59*time.Minute)))
}

// What became of a message is not taken for what becomes of the next one of its id, whose place is free for the former
// one's time to live is over.
func TestAnIDIsGivenAgain(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id := s.send("acme", "k", "body", start).OttRequestID
	m := s.get("acme", id)
	require.NoError(t, s.Claim(t.Context(), m, start, start.Add(time.Minute)))
	require.NoError(t, s.Sent(t.Context(), m, start))
	_, err := emulatortest.DynamoDB().DeleteItem(t.Context(), &dynamodb.DeleteItemInput{
		TableName: &s.table, Key: dynamo.Item{"id": dynamo.String("acme#message#" + id)},
	})
	require.NoError(t, err)

	later := start.Add(32 * 24 * time.Hour)
	require.Equal(t, id, s.send("acme", "k", "body", later).OttRequestID)
	assert.Equal(t, ott.Progress{}, s.get("acme", id).Progress)
	require.NoError(t, s.Claim(t.Context(), s.get("acme", id), later, later.Add(time.Minute)))
}

// Every item ends by itself: a message and what became of it after 30 days, its receipts not before it.
func TestItemsEndByThemselves(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	large := noise(ott.MaxBody)
	_, place := s.find("acme", "k", large, start)
	m := message("k")
	m.Parts[0].Text = large
	_, err := s.Put(t.Context(), "acme", place, m, sendBody(large), start, start)
	require.NoError(t, err)
	stored := s.get("acme", "k")
	require.NoError(t, s.Claim(t.Context(), stored, start, start.Add(time.Minute)))
	require.NoError(t, s.AddReceipts(t.Context(), "acme", stored.Message.Conversation("acme"),
		ott.Receipt{Kind: ott.ReadReceipt, Watermark: start, At: start}))
	waiting := s.send("acme", "waits", "body", start)
	require.NoError(t, s.Wait(t.Context(), s.get("acme", waiting.OttRequestID), "in trouble"))
	all := s.all()
	require.Len(t, all, 6, "two messages, their progress, a body, receipts")
	for id, item := range all {
		end := time.Unix(dynamo.GetInt(item, "expiresAt"), 0)
		least := start.Add(30 * 24 * time.Hour).Truncate(time.Second)
		assert.False(t, end.Before(least), id)
		assert.True(t, end.Before(least.Add(26*time.Hour)), id)
	}
}
