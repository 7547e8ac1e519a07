package store_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/fault"
	"carillon/shared/ott"
)

// Receipts are kept per conversation, whether or not its message is known, and are read back with a message to the
// millisecond.
func TestReceipts(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	conversation := message("k").Conversation("acme")
	receipts := []ott.Receipt{
		{Kind: ott.ReadReceipt, Watermark: start.Add(time.Millisecond), At: start.Add(time.Hour)},
		{
			Kind:       ott.DeliveredReceipt,
			Watermark:  start.Add(time.Second),
			MessageIDs: []string{"m-1", "m 2"},
			At:         start.Add(time.Minute),
		},
		{Kind: ott.DeliveredReceipt, MessageIDs: []string{"m-3"}, At: start.Add(3 * time.Second)},
	}
	require.NoError(t, s.AddReceipts(t.Context(), "acme", conversation, receipts[0]), "before its message is there")
	require.NoError(t, s.AddReceipts(t.Context(), "acme", conversation, receipts[1:]...))
	require.NoError(t, s.AddReceipts(t.Context(), "acme", conversation, receipts...), "again")
	want := ott.Receipts{}
	for _, r := range receipts {
		want = want.Add(r)
	}
	s.send("acme", "k", "body", start)
	assert.Equal(t, want, s.get("acme", "k").Receipts)

	s.send("globex", "k", "body", start)
	assert.Equal(t, ott.Receipts{}, s.get("globex", "k").Receipts, "another tenant's")
	m := message("other")
	m.OttID = "another person"
	_, place := s.find("acme", "other", "body", start)
	_, err := s.Put(t.Context(), "acme", place, m, sendBody("body"), start, start)
	require.NoError(t, err)
	assert.Equal(t, ott.Receipts{}, s.get("acme", "other").Receipts)
}

// Who writes the receipts of one conversation at the same time loses none.
func TestReceiptsAtTheSameTime(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	conversation := message("k").Conversation("acme")
	want := ott.Receipts{}
	var all sync.WaitGroup
	for n := range 8 {
		receipt := ott.Receipt{
			Kind: ott.DeliveredReceipt, Watermark: start.Add(time.Duration(n) * time.Second),
			MessageIDs: []string{fmt.Sprint("m-", n)}, At: start.Add(time.Duration(n) * time.Minute),
		}
		want = want.Add(receipt)
		all.Go(func() { assert.NoError(t, s.AddReceipts(t.Context(), "acme", conversation, receipt)) })
	}
	all.Wait()
	s.send("acme", "k", "body", start)
	assert.Equal(t, want, s.get("acme", "k").Receipts)
}

func TestReceiptsWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	conversation := message("k").Conversation("acme")
	receipt := ott.Receipt{Kind: ott.ReadReceipt, Watermark: start, At: start}
	require.NoError(t, s.losing("PutItem").AddReceipts(t.Context(), "acme", conversation, receipt))
	later := ott.Receipt{Kind: ott.ReadReceipt, Watermark: start.Add(time.Second), At: start.Add(time.Second)}
	require.NoError(t, s.losing("PutItem").AddReceipts(t.Context(), "acme", conversation, later))
	s.send("acme", "k", "body", start)
	assert.Equal(t, ott.Receipts{}.Add(receipt).Add(later), s.get("acme", "k").Receipts)
}

func TestReceiptsWhenOthersAlwaysWrite(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	conversation := message("k").Conversation("acme")
	receipt := ott.Receipt{Kind: ott.ReadReceipt, Watermark: start, At: start}
	busy := s.through(func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "PutItem" {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}`))
		return true
	})
	err := busy.AddReceipts(t.Context(), "acme", conversation, receipt)
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, s.AddReceipts(over, "acme", conversation, receipt))
	failing := s.through(func(w http.ResponseWriter, call emulatortest.Call) bool {
		return call.Operation == "GetItem" && refuse(w, call)
	})
	require.Error(t, failing.AddReceipts(t.Context(), "acme", conversation, receipt),
		"what could not be read is not overwritten")
	assert.Empty(t, s.all())
}

// A conversation of any length has an item of some two write units at most.
func TestReceiptsAreSmall(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	var receipts []ott.Receipt
	for n := range 100 {
		at := start.Add(time.Duration(n) * time.Second)
		for _, kind := range []ott.ReceiptKind{ott.DeliveredReceipt, ott.ReadReceipt} {
			receipts = append(receipts, ott.Receipt{
				Kind: kind, Watermark: at, At: at, MessageIDs: []string{strings.Repeat("m", 120) + fmt.Sprint(n)},
			})
		}
	}
	require.NoError(t, s.AddReceipts(t.Context(), "acme", message("k").Conversation("acme"), receipts...))
	all := s.all()
	require.Len(t, all, 1)
	for _, item := range all {
		assert.Less(t, itemSize(t, item), 2<<10)
	}
}
