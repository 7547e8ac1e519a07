package ott_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/ott"
)

// The bounds of what is kept of a conversation's receipts.
const (
	maxWatermarks = 16
	maxNamed      = 8
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func second(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }

// drawReceipt draws any receipt; of so many ids.
func drawReceipt(t *rapid.T, ids int) ott.Receipt {
	r := ott.Receipt{
		Kind: rapid.SampledFrom([]ott.ReceiptKind{ott.DeliveredReceipt, ott.ReadReceipt}).Draw(t, "kind"),
		At:   second(rapid.IntRange(0, 30).Draw(t, "at")),
	}
	if rapid.IntRange(0, 3).Draw(t, "has a watermark") > 0 {
		r.Watermark = second(rapid.IntRange(0, 30).Draw(t, "watermark"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "names") {
		r.MessageIDs = append(r.MessageIDs, fmt.Sprint("m", rapid.IntRange(1, ids).Draw(t, "id")))
	}
	return r
}

func drawReceipts(t *rapid.T, ids, most int) []ott.Receipt {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ott.Receipt { return drawReceipt(t, ids) }), 0, most).
		Draw(t, "receipts")
}

func addAll(receipts []ott.Receipt) (all ott.Receipts) {
	for _, receipt := range receipts {
		all = all.Add(receipt)
	}
	return all
}

// expected is what a message is to have of all receipts that there were: the earliest that is of it.
func expected(receipts []ott.Receipt, begun time.Time, id string) (delivered, read time.Time) {
	for _, r := range receipts {
		upTo := !r.Watermark.IsZero() && !r.Watermark.Before(begun)
		named := false
		for _, of := range r.MessageIDs {
			named = named || of == id
		}
		earlier := func(at *time.Time) {
			if at.IsZero() || r.At.Before(*at) {
				*at = r.At
			}
		}
		switch {
		case r.Kind == ott.DeliveredReceipt && (upTo || named):
			earlier(&delivered)
		case r.Kind == ott.ReadReceipt && upTo:
			earlier(&read)
		}
	}
	return delivered, read
}

// A platform may send receipts in any order, and each of them several times: while there are few, a message has the
// earliest that is of it.
func TestReceiptsInAnyOrderSayTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		receipts := drawReceipts(t, maxNamed, maxWatermarks)
		again := append([]ott.Receipt(nil), receipts...)
		for range rapid.IntRange(0, 5).Draw(t, "repeats") {
			if len(receipts) > 0 {
				again = append(again, rapid.SampledFrom(receipts).Draw(t, "repeat"))
			}
		}
		shuffled := rapid.Permutation(again).Draw(t, "order")
		begun := second(rapid.IntRange(-1, 31).Draw(t, "begun"))
		id := fmt.Sprint("m", rapid.IntRange(1, maxNamed+1).Draw(t, "of"))

		delivered, read := expected(receipts, begun, id)
		for _, all := range []ott.Receipts{addAll(receipts), addAll(shuffled)} {
			gotDelivered, gotRead := all.Of(begun, []string{id})
			require.Equal(t, delivered, gotDelivered)
			require.Equal(t, read, gotRead)
		}
		require.Equal(t, addAll(receipts).Named, addAll(shuffled).Named)
	})
}

// However many receipts there are, little is kept; and what a watermark told of a message never gets untold.
func TestReceiptsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		receipts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ott.Receipt {
			r := drawReceipt(t, 40)
			// Later watermarks come later, so that few say all of others.
			if !r.Watermark.IsZero() {
				r.At = r.Watermark.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "late")) * time.Second)
			}
			return r
		}), 0, 120).Draw(t, "receipts")
		begun := second(rapid.IntRange(-1, 31).Draw(t, "begun"))
		var all ott.Receipts
		for i, receipt := range receipts {
			deliveredBefore, readBefore := all.Of(begun, nil)
			all = all.Add(receipt)
			require.LessOrEqual(t, len(all.Delivered), maxWatermarks)
			require.LessOrEqual(t, len(all.Read), maxWatermarks)
			require.LessOrEqual(t, len(all.Named), maxNamed)
			delivered, read := all.Of(begun, nil)
			require.False(t, !deliveredBefore.IsZero() && delivered.IsZero(), "undelivered")
			require.False(t, !readBefore.IsZero() && read.IsZero(), "unread")

			// What is known is true, or of a later receipt.
			mustDelivered, mustRead := expected(receipts[:i+1], begun, "")
			require.Equal(t, mustDelivered.IsZero(), delivered.IsZero())
			require.Equal(t, mustRead.IsZero(), read.IsZero())
			require.False(t, delivered.Before(mustDelivered))
			require.False(t, read.Before(mustRead))
		}
	})
}

// One more receipt never makes a message delivered, or read, later than it was; and of two messages the one that was
// sent later is not delivered sooner by a watermark.
func TestReceiptsAreMonotone(t *testing.T) {
	notLater := func(a, b time.Time) bool { return b.IsZero() || (!a.IsZero() && !a.After(b)) }
	rapid.Check(t, func(t *rapid.T) {
		receipts := drawReceipts(t, maxNamed, maxWatermarks-1)
		all := addAll(receipts)
		more := all.Add(drawReceipt(t, maxNamed))
		begun := second(rapid.IntRange(-1, 31).Draw(t, "begun"))
		ids := []string{fmt.Sprint("m", rapid.IntRange(1, maxNamed).Draw(t, "of"))}
		delivered, read := all.Of(begun, ids)
		deliveredThen, readThen := more.Of(begun, ids)
		require.True(t, notLater(deliveredThen, delivered))
		require.True(t, notLater(readThen, read))

		later := begun.Add(time.Duration(rapid.IntRange(0, 10).Draw(t, "later")) * time.Second)
		delivered, read = all.Of(begun, nil)
		deliveredLater, readLater := all.Of(later, nil)
		require.True(t, notLater(delivered, deliveredLater))
		require.True(t, notLater(read, readLater))
	})
}

func TestReceiptsOf(t *testing.T) {
	receipts := addAll([]ott.Receipt{
		{Kind: ott.DeliveredReceipt, Watermark: second(10), MessageIDs: []string{"first", "second"}, At: second(11)},
		{Kind: ott.ReadReceipt, Watermark: second(5), At: second(20)},
		{Kind: ott.DeliveredReceipt, MessageIDs: []string{"third"}, At: second(30)},
		{Kind: ott.ReadReceipt, MessageIDs: []string{"third"}, At: second(31)}, // read receipts name nothing
		{Kind: "reaction", Watermark: second(1000), MessageIDs: []string{"fourth"}, At: second(1000)},
	})
	none := time.Time{}
	for name, test := range map[string]struct {
		begun           time.Time
		ids             []string
		delivered, read time.Time
	}{
		"before both watermarks":      {second(1), nil, second(11), second(20)},
		"at the watermark":            {second(5), nil, second(11), second(20)},
		"between the two":             {second(6), nil, second(11), none},
		"after both":                  {second(12), nil, none, none},
		"named, by a clock that lags": {second(12), []string{"second"}, second(11), none},
		"named alone":                 {second(25), []string{"third"}, second(30), none},
		"one of its ids is named":     {second(25), []string{"x", "third"}, second(30), none},
		"of another kind":             {second(25), []string{"fourth"}, none, none},
	} {
		delivered, read := receipts.Of(test.begun, test.ids)
		assert.Equal(t, test.delivered, delivered, name)
		assert.Equal(t, test.read, read, name)
	}
	delivered, read := ott.Receipts{}.Of(second(0), []string{"first"})
	assert.Zero(t, delivered)
	assert.Zero(t, read)
}

// Add leaves the receipts that it is called on as they are: they may be in another's hands.
func TestAddChangesNothingElse(t *testing.T) {
	before := addAll([]ott.Receipt{
		{Kind: ott.DeliveredReceipt, Watermark: second(1), MessageIDs: []string{"a"}, At: second(5)},
		{Kind: ott.DeliveredReceipt, Watermark: second(3), MessageIDs: []string{"b"}, At: second(6)},
	})
	same := addAll([]ott.Receipt{
		{Kind: ott.DeliveredReceipt, Watermark: second(1), MessageIDs: []string{"a"}, At: second(5)},
		{Kind: ott.DeliveredReceipt, Watermark: second(3), MessageIDs: []string{"b"}, At: second(6)},
	})
	before.Add(ott.Receipt{
		Kind: ott.DeliveredReceipt, Watermark: second(9), MessageIDs: []string{"a", "c"}, At: second(2),
	})
	assert.Equal(t, same, before)
}
