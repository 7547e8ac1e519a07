package store_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/store"
)

// through is the store by way of an endpoint that answers some calls itself.
func (k *kept) through(answer func(w http.ResponseWriter, call emulatortest.Call) bool) *kept {
	k.t.Helper()
	items := emulatortest.DynamoDBAt(emulatortest.Between(k.t, emulatortest.DynamoDBEndpoint(), answer))
	return &kept{store.NewMessages(items, k.table, clocktest.New()), k.t, k.table}
}

// losing is the store whose client repeats each call of an operation, for the answer to the first one is lost.
func (k *kept) losing(operation string) *kept {
	k.t.Helper()
	return k.through(func(_ http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation == operation {
			// The SDK's token makes AWS answer the second as the first; here the second finds what the first wrote.
			answer := call.Send(strings.Replace(call.Body, `"ClientRequestToken"`, `"Forgotten"`, 1))
			assert.Equal(k.t, http.StatusOK, answer.Code, answer.Body.String())
		}
		return false
	})
}

// A write that was carried out and whose answer was lost counts as done.
func TestPutWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	first := s.losing("PutItem").send("acme", "k", "body", start)
	assert.Equal(t, ott.Accepted{OttRequestID: s.get("acme", "k").OttRequestID}, first)
	assert.Len(t, s.all(), 1)

	next := start.Add(24 * time.Hour)
	second := s.losing("TransactWriteItems").send("acme", "k", "second", next)
	assert.Equal(t, ott.Accepted{OttRequestID: s.get("acme", "k").OttRequestID}, second)
	assert.NotEqual(t, first, second)
	assert.Len(t, s.all(), 2)
	assert.Equal(t, "second", string(s.get("acme", "k").Body))
	assert.Equal(t, "body", string(s.get("acme", first.OttRequestID).Body))
}

// A transaction that AWS cancels because it met another one is tried again.
func TestPutUnderAWSsConditions(t *testing.T) {
	t.Parallel()
	const conflict = `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
		"Message":"Transaction cancelled",
		"CancellationReasons":[{"Code":"TransactionConflict","Message":"Transaction is ongoing"},{"Code":"None"}]}`
	s, start := newMessages(t), now()
	s.send("acme", "k", "body", start)
	conflicts := func(times int32) *kept {
		var calls atomic.Int32
		return s.through(func(w http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "TransactWriteItems" || calls.Add(1) > times {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(conflict))
			return true
		})
	}
	next := start.Add(24 * time.Hour)
	_, place := s.find("acme", "k", "body", next)
	_, err := conflicts(1000).put("acme", "k", "body", place, next)
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
	assert.Equal(t, start, s.get("acme", "k").CreatedAt)
	accepted, err := conflicts(3).put("acme", "k", "body", place, next)
	require.NoError(t, err)
	assert.Equal(t, place.OttRequestID, accepted.OttRequestID)
	assert.Equal(t, next, s.get("acme", "k").CreatedAt)
}

// Whatever call fails, nothing but its error is said: in the end all is there, or nothing that is shown.
func TestPutWhileDynamoDBFails(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	s.send("acme", "k", "body", start)
	next := start
	for _, operation := range []string{"GetItem", "PutItem", "TransactWriteItems"} {
		next = next.Add(24 * time.Hour)
		failing := s.through(func(w http.ResponseWriter, call emulatortest.Call) bool {
			return call.Operation == operation && refuse(w, call)
		})
		for key, at := range map[string]time.Time{"new": start, "k": next} {
			_, place, err := failing.Find(t.Context(), "acme", key, sendBody("body"), at)
			if operation == "GetItem" {
				require.Error(t, err)
				assert.False(t, fault.Is(err, fault.NotFound), "what could not be read is not taken for free")
				continue
			}
			_, err = failing.put("acme", key, "body", place, at)
			if (operation == "PutItem") == (key == "new") {
				require.Error(t, err, "%s of %s", operation, key)
				assert.False(t, fault.Is(err, fault.Conflict))
			}
		}
	}
	_, err := s.through(func(w http.ResponseWriter, call emulatortest.Call) bool {
		return strings.Contains(call.Body, "#progress#") && refuse(w, call)
	}).Get(t.Context(), "acme", "k")
	require.Error(t, err, "a message whose progress cannot be read is not shown as one that has none")
	_, err = s.through(func(w http.ResponseWriter, call emulatortest.Call) bool {
		return strings.Contains(call.Body, "#receipts#") && refuse(w, call)
	}).Get(t.Context(), "acme", "k")
	require.Error(t, err)
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
		case *types.AttributeValueMemberL:
			size += 3
			for _, element := range v.Value {
				size += 1 + itemSize(t, dynamo.Item{"": element})
			}
		default:
			require.Failf(t, "not counted", "%s is a %T", name, value)
		}
	}
	return size
}

// textMessage is a body of a size, and the text in it.
func textMessage(size int) (body, text string) {
	begin := `{"messageKey":"` + fmt.Sprintf("%0100d", size) + `","from":{"senderType":"line","senderId":"1"},` +
		`"to":{"ottId":"2"},"message":{"contents":[{"type":"text","text":"`
	const end = `"}]},"validityPeriod":10080}`
	text = noise(size - len(begin) - len(end))
	return begin + text + end, text
}

// noise is a text that deflating makes little smaller, without quotes and backslashes.
func noise(size int) string {
	random := rand.New(rand.NewPCG(1, 2))
	letters := make([]byte, size)
	for i := range letters {
		letters[i] = byte('#' + random.IntN('Z'-'#'))
	}
	return string(letters)
}

// The largest body that is kept, and those about which it no longer stands beside the message, fit the 400 KB of an
// item; and what becomes of them fits one write unit, with the longest reason for giving them up.
func TestPutOfTheLargestMessages(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	tenant := strings.Repeat("t", 128)
	for size, beside := range map[int]bool{
		8_100: true, 100_000: true, 190 << 10: true, 245 << 10: false, ott.MaxBody: false,
	} {
		body, text := textMessage(size)
		m := message(fmt.Sprintf("%0100d", size))
		m.Parts[0].Text, m.Validity = text, 7*24*time.Hour
		_, place := s.find(tenant, m.Key, body, start)
		accepted, err := s.Put(t.Context(), tenant, place, m, sendBody(body), start, start)
		require.NoError(t, err)
		id := accepted.OttRequestID
		assert.Equal(t, accepted, s.send(tenant, m.Key, body, start), "it is found by its hash")

		loaded, err := s.Load(t.Context(), tenant, id)
		require.NoError(t, err)
		require.NoError(t, s.Claim(t.Context(), loaded, start, start.Add(time.Minute)))
		assert.Equal(t, text, loaded.Message.Parts[0].Text)
		assert.Equal(t, start.Add(7*24*time.Hour), loaded.ValidUntil)
		loaded.Progress.Reason = strings.Repeat("\U0001f514", 400)
		require.NoError(t, s.Release(t.Context(), loaded, start))
		waiting := s.get(tenant, id)
		assert.Equal(t, body, string(waiting.Body))
		require.NoError(t, s.Claim(t.Context(), loaded, start, start.Add(time.Minute)))
		require.NoError(t, s.Failed(t.Context(), loaded, strings.Repeat("\U0001f514", 400), start))
		assert.Equal(t, body, string(s.get(tenant, m.Key).Body))

		item := s.all()[tenant+"#message#"+id]
		assert.Less(t, itemSize(t, item), 400<<10)
		assert.Equal(t, beside, item["bodyId"] == nil, "a body of %d bytes is in the message's item", size)
	}
	for id, item := range s.all() {
		assert.Less(t, itemSize(t, item), 400<<10, id)
		if strings.Contains(id, "#progress#") {
			assert.Less(t, itemSize(t, item), 2<<10, id)
		}
	}
}

// A message that is refused, for its key stands for another, leaves the body of that one as it is.
func TestTheBodyOfARefusedMessageIsNotAnothers(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	first, text := textMessage(ott.MaxBody)
	second := strings.Replace(first, text, strings.ToLower(text), 1)
	m := message("k")
	m.Parts[0].Text = text
	_, place := s.find("acme", "k", first, start)
	put := func(body string, at ott.Place, now time.Time) ott.Accepted {
		accepted, err := s.Put(t.Context(), "acme", at, m, sendBody(body), now, now)
		require.NoError(t, err)
		return accepted
	}
	id := put(first, place, start).OttRequestID
	assert.True(t, put(second, place, start).Conflict, "Find of the other one read too early")
	assert.Equal(t, first, string(s.get("acme", "k").Body))

	next := start.Add(24 * time.Hour)
	_, again := s.find("acme", "k", second, next)
	put(second, again, next)
	assert.True(t, put(first, again, next).Conflict)
	assert.Equal(t, second, string(s.get("acme", "k").Body))
	assert.Equal(t, first, string(s.get("acme", id).Body))
}

// retrying is a client of an endpoint that tries as often as functions' do, without their waits.
func retrying(endpoint string) *dynamodb.Client {
	options := emulatortest.DynamoDBAt(endpoint).Options()
	options.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
	return dynamodb.New(options)
}

// With the SDK's own retries a moment's fault is none.
func TestPutThroughTheSDKsRetries(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	endpoint := emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			return calls.Add(1)%2 == 1 && lose(w, call)
		})
	items := retrying(endpoint)
	s := newMessagesAt(t, items)
	start := now()
	first := s.send("acme", "k", "body", start)
	assert.False(t, first.Conflict)
	second := s.send("acme", "k", "other", start.Add(24*time.Hour))
	assert.False(t, second.Conflict)
	assert.Equal(t, second.OttRequestID, s.get("acme", "k").OttRequestID)
	m := s.get("acme", "k")
	require.NoError(t, s.Claim(t.Context(), m, start, start.Add(time.Minute)))
	require.NoError(t, s.Sent(t.Context(), m, start))
	assert.True(t, s.get("acme", "k").Progress.Final())
}
