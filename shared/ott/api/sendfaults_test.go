package api_test

import (
	"net/http"
	"strings"
	"sync/atomic"
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
	"carillon/shared/ott/store"
	"carillon/shared/permits"
	"carillon/shared/stackname"
)

// between makes the endpoints work by way of a DynamoDB that answers some calls itself.
func (s *sending) between(answer func(w http.ResponseWriter, call emulatortest.Call) bool) {
	s.t.Helper()
	s.use(emulatortest.DynamoDBAt(emulatortest.Between(s.t, emulatortest.DynamoDBEndpoint(), answer)))
}

// assertUnknown holds a key to stand for no message.
func (s *sending) assertUnknown(key string) {
	s.t.Helper()
	_, err := s.messages.Get(s.t.Context(), "tenant-1", key)
	assert.True(s.t, fault.Is(err, fault.NotFound), "%v", err)
}

// The queue does not take the job: nothing is left of the request.
func TestSendWhileTheQueueFails(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	s.outbox.fails = true
	answer := s.post(s.withKey("k"))
	assert.Equal(t, http.StatusInternalServerError, answer.StatusCode)
	assert.NotContains(t, answer.Body, "SQS")
	s.assertUnknown("k")
	s.outbox.fails = false
	id := s.accepted(s.withKey("k"))
	assert.Equal(t, []string{id}, s.outbox.ids())
}

// Whatever of DynamoDB fails: there is no message without a job. A job without a message ends by itself, and the same
// request again makes one.
func TestSendWhileDynamoDBFails(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	for name, test := range map[string]struct {
		call string
		jobs int
	}{
		"the key": {"#message#", 0}, "the registration": {`"messenger#503868699681937"`, 0},
		"the backlog": {"property#", 0}, "the message": {"PutItem", 1},
	} {
		s.outbox.queued = nil
		s.between(func(w http.ResponseWriter, c emulatortest.Call) bool {
			if !strings.Contains(c.Operation+c.Body, test.call) {
				return false
			}
			w.WriteHeader(http.StatusInternalServerError)
			return true
		})
		answer := s.post(s.withKey(name))
		assert.GreaterOrEqual(t, answer.StatusCode, 500, name)
		s.assertUnknown(name)
		require.Len(t, s.outbox.queued, test.jobs, name)
		s.use(s.Items)
		s.Clock.Advance(time.Minute)
		id := s.accepted(s.withKey(name))
		for _, of := range s.outbox.ids() {
			assert.Equal(t, id, of, "the job that was left finds the message of the next request")
		}
		assert.Len(t, s.outbox.queued, test.jobs+1)
	}
}

// The write was carried out, and its answer lost: the SDK asks again, or the client does.
func TestSendWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	s.between(func(_ http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation == "PutItem" {
			call.Send(call.Body)
		}
		return false
	})
	first := s.accepted(s.withKey("the SDK"))
	s.between(func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "PutItem" {
			return false
		}
		call.Send(call.Body)
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	assert.GreaterOrEqual(t, s.post(s.withKey("the client")).StatusCode, 500)
	s.use(s.Items)
	second := s.accepted(s.withKey("the client"))
	assert.Equal(t, []string{first, second}, s.outbox.ids(), "the first request's job is there: none is sent again")
}

// What the handler read was out of date: the write decides.
func TestSendOvertaken(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	other := ""
	s.outbox.before = func() {
		s.outbox.before = nil
		s.outbox.mu.Unlock()
		defer s.outbox.mu.Lock()
		other = s.accepted(s.withKey("k"))
	}
	assert.Equal(t, other, s.accepted(s.withKey("k")))
	s.outbox.before = func() {
		s.outbox.before = nil
		s.outbox.mu.Unlock()
		defer s.outbox.mu.Lock()
		s.accepted(s.withKey("l"))
	}
	changed := s.post(instead(s.withKey("l"), "thanks", "Thanks"))
	assert.Equal(t, http.StatusConflict, changed.StatusCode)

	// A key that was used, is free again, and was read so early that nothing of that is known.
	var stale atomic.Bool
	s.Clock.Advance(24 * time.Hour)
	s.between(func(w http.ResponseWriter, call emulatortest.Call) bool {
		if !stale.Load() || call.Operation != "GetItem" || !strings.Contains(call.Body, "#message#") {
			return false
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = w.Write([]byte(`{}`))
		return true
	})
	stale.Store(true)
	assert.Equal(t, http.StatusServiceUnavailable, s.post(s.withKey("k")).StatusCode)
	stale.Store(false)
	assert.NotEqual(t, other, s.accepted(s.withKey("k")))
}

// A message that the queue seems to have lost is put there again by a repeat of its request: as another sending, for
// the time that it is still valid.
func TestSendAgainOfALostMessage(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	id := s.accepted(messengerMessage)
	first := s.outbox.queued[0]
	s.Clock.Advance(10 * time.Minute)
	assert.Equal(t, id, s.accepted(messengerMessage))
	assert.Len(t, s.outbox.queued, 1, "it may have to wait")

	s.Clock.Advance(time.Millisecond)
	s.outbox.fails = true
	assert.Equal(t, http.StatusInternalServerError, s.post(messengerMessage).StatusCode)
	s.outbox.fails = false
	again := s.post(messengerMessage)
	assert.Equal(t, id, s.idOf(again))
	require.Len(t, s.outbox.queued, 2)
	want := first
	want.job.QueuedAt, want.sending = s.Clock.Now().UnixMilli(), again.Headers["x-request-id"]
	assert.Equal(t, want, s.outbox.queued[1])
	assert.NotEqual(t, want.sending, first.sending)
	assert.Contains(t, s.Log.String(), `"msg":"a message is put into the queue again"`)

	changed := s.post(instead(messengerMessage, "thanks", "Thanks"))
	assert.Equal(t, http.StatusConflict, changed.StatusCode)
	assert.Len(t, s.outbox.queued, 2)

	m := s.claim(id)
	m.Progress.BegunAt = s.Clock.Now()
	require.NoError(t, s.messages.Sent(t.Context(), m, s.Clock.Now()))
	s.Clock.Advance(15 * time.Minute)
	assert.Equal(t, id, s.accepted(messengerMessage))
	assert.Len(t, s.outbox.queued, 2, "it is sent")
}

// A property in trouble has so many messages waiting at most: then the caller is to come again.
func TestSendToAFullBacklog(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	table := stackname.MessagesTable(s.Stack)
	properties := store.NewProperties(s.Items, table, 10)
	known := s.accepted(s.withKey("known"))
	for range 3 {
		permit, err := properties.Take(t.Context(), store.Side(ott.Messenger, "503868699681937"), s.Clock.Now())
		require.NoError(t, err)
		require.NoError(t, properties.Return(t.Context(), permit, permits.Trouble("HTTP 500", time.Time{})))
	}
	s.accepted(s.withKey("in trouble"))
	_, err := s.Items.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: &table, Key: dynamo.Item{"id": dynamo.String("property#messenger#503868699681937")},
		UpdateExpression: aws.String("SET held = :n"), ExpressionAttributeValues: dynamo.Item{":n": dynamo.Int(20_000)},
	})
	require.NoError(t, err)
	s.outbox.queued = nil
	answer := s.post(s.withKey("too many"))
	assert.Equal(t, http.StatusTooManyRequests, answer.StatusCode)
	assert.Equal(t, "60", answer.Headers["retry-after"])
	s.assertUnknown("too many")
	assert.Empty(t, s.outbox.queued)

	assert.Equal(t, known, s.accepted(s.withKey("known")), "what is durable stands")
	assert.Contains(t, s.post(instead(s.withKey("wrong"), "503868699681937", "nobody")).Body, ott.NotSendable)
	line := instead(s.withKey("another property"), `"senderType":"messenger","senderId":"503868699681937"`,
		`"senderType":"line","senderId":"2145435435632435"`, `,"customKeys":[{"messagingType":"RESPONSE"}]`, "")
	s.accepted(line)
}
