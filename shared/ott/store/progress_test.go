package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
)

// accepted is a message that was accepted now.
func (k *kept) accepted(key string, now time.Time) *ott.StoredMessage {
	k.t.Helper()
	id := k.send("acme", key, "body", now).OttRequestID
	return k.loaded(id)
}

// loaded is a message as ott-deliver reads it.
func (k *kept) loaded(id string) *ott.StoredMessage {
	k.t.Helper()
	m, err := k.Load(k.t.Context(), "acme", id)
	require.NoError(k.t, err)
	return m
}

// claim claims a message for 30 seconds.
func (k *kept) claim(id string, at time.Time) (*ott.StoredMessage, error) {
	k.t.Helper()
	m := k.loaded(id)
	return m, k.Claim(k.t.Context(), m, at, at.Add(30*time.Second))
}

// listed are the messages of a page or channel that the index has as waiting, oldest first, each with its reason.
func (k *kept) listed(property string) []string {
	k.t.Helper()
	out, err := emulatortest.DynamoDB().Query(k.t.Context(), &dynamodb.QueryInput{
		TableName: &k.table, IndexName: aws.String("waiting"),
		KeyConditionExpression:    aws.String("waiting = :property"),
		ExpressionAttributeValues: dynamo.Item{":property": dynamo.String(property)},
	})
	require.NoError(k.t, err)
	listed := []string{}
	for _, item := range out.Items {
		id := strings.Split(dynamo.GetString(item, "id"), "#")[2]
		listed = append(listed, id+": "+dynamo.GetString(item, "reason"))
	}
	return listed
}

func TestClaim(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id := s.accepted("k", start).OttRequestID
	assert.Equal(t, ott.Progress{}, s.get("acme", id).Progress)
	first, err := s.claim(id, start.Add(time.Second))
	require.NoError(t, err)
	assert.Equal(t, 1, first.Progress.Open, "it counts as begun before anything is sent")
	assert.Equal(t, start.Add(31*time.Second), first.Progress.NotBefore)
	assert.Equal(t, start.Add(time.Second), first.Progress.OpenSince)
	assert.NotEmpty(t, first.Progress.Lease)

	busy, err := s.claim(id, start.Add(31*time.Second-time.Millisecond))
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	assert.False(t, busy.Progress.Final())
	assert.Equal(t, first.Progress, busy.Progress)

	second, err := s.claim(id, start.Add(31*time.Second))
	require.NoError(t, err, "the first one's time is over")
	assert.Equal(t, 2, second.Progress.Open, "the first one may have sent it")
	assert.Equal(t, start.Add(time.Second), second.Progress.OpenSince, "by then")
	assert.True(t, fault.Is(s.Release(t.Context(), first, start), fault.Conflict))
	assert.True(t, fault.Is(s.Failed(t.Context(), first, "late", start), fault.Conflict))
	second.Progress.Tries, second.Progress.Open, second.Progress.Reason = 4, 1, "HTTP\n500"
	require.NoError(t, s.Release(t.Context(), second, start.Add(40*time.Second)))
	waiting, err := s.claim(id, start.Add(40*time.Second-time.Millisecond))
	assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
	assert.Equal(t, ott.Progress{
		Tries: 4, Open: 1, OpenSince: start.Add(time.Second), Reason: "HTTP 500",
		NotBefore: start.Add(40 * time.Second),
	}, waiting.Progress)

	third, err := s.claim(id, start.Add(40*time.Second))
	require.NoError(t, err)
	assert.Equal(t, []any{4, 2, "HTTP 500"}, []any{third.Progress.Tries, third.Progress.Open, third.Progress.Reason})
	require.NoError(t,
		s.Failed(t.Context(), third, "no\x00 such\n\u202euser\xff"+strings.Repeat("é", 400), start.Add(41*time.Second)))
	final, err := s.claim(id, start.Add(time.Hour))
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	assert.Equal(t, ott.Progress{
		Tries: 4, Reason: "no such user" + strings.Repeat("é", 307) + "…", FailedAt: start.Add(41 * time.Second),
	}, final.Progress)
	assert.True(t, final.Progress.Final())
}

// Once every try that was begun has its answer, the next one is the first of which none is known.
func TestOpenSince(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id := s.accepted("k", start).OttRequestID
	for n := range 3 {
		at := start.Add(time.Duration(n) * time.Minute)
		m, err := s.claim(id, at)
		require.NoError(t, err)
		assert.Equal(t, []any{1, at}, []any{m.Progress.Open, m.Progress.OpenSince})
		m.Progress.Open = 0
		require.NoError(t, s.Release(t.Context(), m, at))
		assert.Zero(t, s.get("acme", id).Progress.OpenSince)
	}
}

// What was sent was sent, whoever has given it up, or has the lease by now; the first to say so is right.
func TestSent(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	ids := []string{"m-1", "m-2"}
	want := ott.Progress{
		Tries: 2, BegunAt: start.Add(41 * time.Second), SentAt: start.Add(42 * time.Second), PlatformIDs: ids,
	}
	for name, meanwhile := range map[string]func(id string){
		"nobody else": func(string) {},
		"it was given up": func(id string) {
			m, err := s.claim(id, start.Add(time.Minute))
			require.NoError(t, err)
			require.NoError(t, s.Failed(t.Context(), m, "expired", start.Add(time.Minute)))
		},
		"another has it": func(id string) { _, err := s.claim(id, start.Add(time.Minute)); require.NoError(t, err) },
		"another released": func(id string) {
			m, err := s.claim(id, start.Add(time.Minute))
			require.NoError(t, err)
			require.NoError(t, s.Release(t.Context(), m, start.Add(time.Hour)))
		},
	} {
		id := s.accepted(name, start).OttRequestID
		m, err := s.claim(id, start)
		require.NoError(t, err)
		m.Progress.Tries, m.Progress.Reason = 2, "HTTP 500"
		require.NoError(t, s.Release(t.Context(), m, start))
		m, err = s.claim(id, start)
		require.NoError(t, err)
		meanwhile(id)
		m.Progress.BegunAt, m.Progress.PlatformIDs = start.Add(41*time.Second), ids
		require.NoError(t, s.Sent(t.Context(), m, start.Add(42*time.Second)))
		m.Progress.BegunAt, m.Progress.PlatformIDs = start.Add(50*time.Second), []string{"m-3"}
		require.NoError(t, s.Sent(t.Context(), m, start.Add(51*time.Second)))
		assert.Equal(t, want, s.get("acme", id).Progress, name)

		_, err = s.claim(id, start.Add(2*time.Hour))
		assert.True(t, fault.Is(err, fault.Conflict), "%s: %v", name, err)
		assert.True(t, fault.Is(s.Failed(t.Context(), m, "late", start), fault.Conflict), name)
		assert.True(t, fault.Is(s.Release(t.Context(), m, start), fault.Conflict), name)
		assert.Equal(t, want, s.get("acme", id).Progress, name)
	}
	assert.Empty(t, s.listed("line#channel"))
}

// A platform that names no ids has none kept.
func TestSentWithoutIDs(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	m, err := s.claim(s.accepted("k", start).OttRequestID, start)
	require.NoError(t, err)
	m.Progress.BegunAt = start
	require.NoError(t, s.Sent(t.Context(), m, start))
	assert.Equal(t, ott.Progress{BegunAt: start, SentAt: start}, s.get("acme", "k").Progress)
}

// An update whose answer was lost is the writer's own when the SDK asks again, or leaves at least what it says.
func TestProgressWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	direct, start := newMessages(t), now()
	s := direct.losing("UpdateItem")
	id := s.accepted("k", start).OttRequestID
	m, err := s.claim(id, start)
	require.NoError(t, err, "its own claim")
	assert.Equal(t, 1, m.Progress.Open, "one try")
	m.Progress.Reason, m.Progress.Open = "HTTP 500", 0
	assert.True(t, fault.Is(s.Release(t.Context(), m, start), fault.Conflict), "who lost the lease looks again")
	assert.Equal(t, ott.Progress{Reason: "HTTP 500", NotBefore: start}, s.get("acme", id).Progress)

	m, err = s.claim(id, start)
	require.NoError(t, err)
	m.Progress.BegunAt = start
	require.NoError(t, s.Sent(t.Context(), m, start))
	assert.Equal(t, start, s.get("acme", id).Progress.SentAt)

	id = s.accepted("k2", start).OttRequestID
	require.NoError(t, s.Wait(t.Context(), s.loaded(id), "in trouble"))
	m, err = s.claim(id, start)
	require.NoError(t, err)
	assert.True(t, fault.Is(s.Failed(t.Context(), m, "no", start), fault.Conflict))
	assert.Equal(t, "no", s.get("acme", id).Progress.Reason)
	assert.True(t, s.get("acme", id).Progress.Final())
}

// The index `waiting` is sparse: it has what waits for another try, and nothing else of the table.
func TestWhatWaitsIsListed(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	claimed := func(key string, at time.Time) *ott.StoredMessage {
		m, err := s.claim(s.accepted(key, at).OttRequestID, at)
		require.NoError(t, err)
		return m
	}
	const property = "line#channel"
	one, two := claimed("1", start.Add(time.Second)), claimed("2", start)
	three, four := s.accepted("3", start.Add(2*time.Second)), s.accepted("4", start)
	assert.Empty(t, s.listed(property), "what is new, or under way for the first time")

	one.Progress.Reason, two.Progress.Reason = "HTTP 500", "HTTP 429"
	require.NoError(t, s.Release(t.Context(), one, start.Add(time.Minute)))
	require.NoError(t, s.Release(t.Context(), two, start.Add(time.Minute)))
	require.NoError(t, s.Wait(t.Context(), three, "in trouble"))
	assert.Equal(t, []string{
		two.OttRequestID + ": HTTP 429", one.OttRequestID + ": HTTP 500", three.OttRequestID + ": in trouble",
	}, s.listed(property), "oldest first")
	assert.Empty(t, s.listed("messenger#channel"))

	require.NoError(t, s.Wait(t.Context(), one, "in trouble"))
	assert.Contains(t, s.listed(property), one.OttRequestID+": HTTP 500", "its own reason says more")

	two, err := s.claim(two.OttRequestID, start.Add(time.Minute))
	require.NoError(t, err)
	require.NoError(t, s.Sent(t.Context(), two, start.Add(time.Minute)))
	one, err = s.claim(one.OttRequestID, start.Add(time.Minute))
	require.NoError(t, err)
	require.NoError(t, s.Failed(t.Context(), one, "refused", start.Add(time.Minute)))
	assert.Equal(t, []string{three.OttRequestID + ": in trouble"}, s.listed(property))

	// Wait changes nothing of what is final, or another's.
	before := s.all()
	require.NoError(t, s.Wait(t.Context(), one, "in trouble"))
	require.NoError(t, s.Wait(t.Context(), two, "in trouble"))
	four, err = s.claim(four.OttRequestID, start)
	require.NoError(t, err)
	before["claimed"] = s.all()["acme#progress#"+four.OttRequestID]
	require.NoError(t, s.Wait(t.Context(), four, "in trouble"))
	assert.Equal(t, []string{three.OttRequestID + ": in trouble"}, s.listed(property))
	for id, item := range s.all() {
		if !strings.Contains(id, four.OttRequestID) {
			assert.Equal(t, before[id], item)
		}
	}
	assert.Empty(t, s.get("acme", four.OttRequestID).Progress.Reason)

	// One that was listed before anybody claimed it is claimed as any other.
	three, err = s.claim(three.OttRequestID, start.Add(2*time.Second))
	require.NoError(t, err)
	assert.Equal(t, "in trouble", three.Progress.Reason)
	assert.Equal(t, 1, three.Progress.Open)
}

// An update writes the small item alone, whatever the message's size is.
func TestProgressIsSmall(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	id := s.accepted("k", start).OttRequestID
	message := s.all()["acme#message#"+id]
	m, err := s.claim(id, start)
	require.NoError(t, err)
	m.Progress.Reason = "HTTP 500"
	require.NoError(t, s.Release(t.Context(), m, start))
	m, err = s.claim(id, start)
	require.NoError(t, err)
	m.Progress.BegunAt, m.Progress.PlatformIDs = start, []string{strings.Repeat("m", 120)}
	require.NoError(t, s.Sent(t.Context(), m, start))
	assert.Equal(t, message, s.all()["acme#message#"+id])
	for key, item := range s.all() {
		if strings.Contains(key, "#progress#") {
			assert.Less(t, itemSize(t, item), 1<<10, "one write unit")
		}
	}
}
