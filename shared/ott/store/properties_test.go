package store_test

import (
	"errors"
	"net/http"
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
)

func (k *kept) properties(limit int) *store.Properties {
	return store.NewProperties(emulatortest.DynamoDB(), k.table, limit)
}

func TestSide(t *testing.T) {
	assert.NotEqual(t, store.Side(ott.LINE, "1"), store.Side(ott.Messenger, "1"))
	assert.NotEqual(t, store.Side(ott.LINE, "1"), store.Side(ott.LINE, "2"))
}

// Permits count per property, in an item that is no message's.
func TestPropertiesHavePermits(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	properties := s.properties(2)
	side := store.Side(ott.LINE, "channel")
	for range 2 {
		_, err := properties.Take(t.Context(), side, start)
		require.NoError(t, err)
	}
	_, err := properties.Take(t.Context(), side, start)
	assert.True(t, fault.Is(err, fault.TooManyRequests), "%v", err)
	_, err = properties.Take(t.Context(), store.Side(ott.Messenger, "channel"), start)
	require.NoError(t, err)
	_, err = properties.Take(t.Context(), side, start.Add(time.Minute))
	require.NoError(t, err, "a permit is held for 30 s at most")
	assert.Len(t, s.all(), 2)
	assert.Contains(t, s.all(), "property#line#channel")
}

// While a property is in trouble, and only then, the messages that wait for it are counted; beyond 20,000 none is
// taken.
func TestAdmit(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	properties := s.properties(10)
	side := store.Side(ott.LINE, "channel")
	held := func() int64 { return dynamo.GetInt(s.all()["property#line#channel"], "held") }
	admit := func() error { return properties.Admit(t.Context(), ott.LINE, "channel") }
	trouble := func(n int) {
		for range n {
			permit, err := properties.Take(t.Context(), side, start)
			require.NoError(t, err)
			require.NoError(t, properties.Return(t.Context(), permit, permits.Trouble("HTTP 500", time.Time{})))
		}
	}
	require.NoError(t, admit())
	assert.Empty(t, s.all(), "a property that is well costs no write")
	trouble(2)
	require.NoError(t, admit())
	assert.Zero(t, held())
	trouble(1)
	require.NoError(t, admit())
	require.NoError(t, admit())
	assert.EqualValues(t, 2, held())
	require.NoError(t, properties.Admit(t.Context(), ott.Messenger, "channel"))

	_, err := emulatortest.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: dynamo.Item{"id": dynamo.String("property#line#channel")},
		UpdateExpression: aws.String("SET held = :n"), ExpressionAttributeValues: dynamo.Item{":n": dynamo.Int(19_999)},
	})
	require.NoError(t, err)
	require.NoError(t, admit())
	full := admit()
	require.True(t, fault.Is(full, fault.TooManyRequests), "%v", full)
	refused, ok := errors.AsType[*fault.Error](full)
	require.True(t, ok)
	assert.Equal(t, time.Minute, refused.RetryAfter)
	assert.EqualValues(t, 20_000, held())
	require.NoError(t, properties.Admit(t.Context(), ott.LINE, "another channel"))

	probe, err := properties.Take(t.Context(), side, start)
	require.NoError(t, err)
	require.NoError(t, properties.Return(t.Context(), probe, permits.Well()))
	require.NoError(t, admit(), "it is well again")
	assert.EqualValues(t, 19_999, held(), "one of them is sent")
	trouble(3)
	require.NoError(t, admit())
	require.True(t, fault.Is(admit(), fault.TooManyRequests), "the others still wait")
}

func TestAdmitWhenDynamoDBFails(t *testing.T) {
	t.Parallel()
	s := newMessages(t)
	for _, operation := range []string{"GetItem", "UpdateItem"} {
		for range 3 {
			side := store.Side(ott.LINE, operation)
			permit, err := s.properties(10).Take(t.Context(), side, now())
			require.NoError(t, err)
			require.NoError(t, s.properties(10).Return(t.Context(), permit, permits.Trouble("", time.Time{})))
		}
		items := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
			func(w http.ResponseWriter, call emulatortest.Call) bool {
				return call.Operation == operation && refuse(w, call)
			}))
		err := store.NewProperties(items, s.table, 0).Admit(t.Context(), ott.LINE, operation)
		require.Error(t, err, operation)
		assert.False(t, fault.Is(err, fault.TooManyRequests), "what is not known is no bound that is reached")
	}
}
