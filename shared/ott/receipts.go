package ott

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"
)

// ReceiptKind is what a receipt tells of messages.
type ReceiptKind string

// The kinds of receipts that Messenger sends.
const (
	DeliveredReceipt ReceiptKind = "delivered"
	ReadReceipt      ReceiptKind = "read"
)

// Receipt is what a platform tells of the messages of one conversation: those that were sent up to its watermark, and
// those that it names, were delivered or read.
type Receipt struct {
	Kind       ReceiptKind
	Watermark  time.Time // zero if it has none
	MessageIDs []string  // the platform's, those that it names
	At         time.Time // when it was
}

// Receipts is what is known of one conversation's receipts. It is made by Add, in any order, and a receipt that comes
// twice changes nothing.
type Receipts struct {
	Delivered, Read []Watermark // by time of the watermark, newest first
	Named           []Named     // newest first
}

// Watermark says that what was sent up to a time was delivered, or read, at another.
type Watermark struct{ UpTo, At time.Time }

// Named says when a message was delivered.
type Named struct {
	Mark string // of its id at the platform, which is ten times as long
	At   time.Time
}

// mark is what an id is known by, with others of one conversation.
func mark(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// Bounds of Receipts: with all of it an item stays within a write unit or two. A message whose own receipt is forgotten
// has the time of a later one.
const (
	maxWatermarks = 16
	maxNamed      = 8
)

// Add returns the receipts with one more.
func (r Receipts) Add(receipt Receipt) Receipts {
	if !receipt.Watermark.IsZero() {
		one := Watermark{UpTo: receipt.Watermark, At: receipt.At}
		switch receipt.Kind {
		case DeliveredReceipt:
			r.Delivered = addWatermark(r.Delivered, one)
		case ReadReceipt:
			r.Read = addWatermark(r.Read, one)
		}
	}
	if receipt.Kind == DeliveredReceipt {
		for _, id := range receipt.MessageIDs {
			r.Named = addNamed(r.Named, Named{Mark: mark(id), At: receipt.At})
		}
	}
	return r
}

// addWatermark keeps the watermarks that say what no other says: a later watermark that came no later says all of an
// earlier one.
func addWatermark(marks []Watermark, one Watermark) []Watermark {
	says := func(a, b Watermark) bool { return !a.UpTo.Before(b.UpTo) && !a.At.After(b.At) }
	if slices.ContainsFunc(marks, func(kept Watermark) bool { return says(kept, one) }) {
		return marks
	}
	marks = slices.DeleteFunc(slices.Clone(marks), func(kept Watermark) bool { return says(one, kept) })
	marks = append(marks, one)
	slices.SortFunc(marks, func(a, b Watermark) int { return b.UpTo.Compare(a.UpTo) })
	return marks[:min(len(marks), maxWatermarks)]
}

func addNamed(named []Named, one Named) []Named {
	named = slices.Clone(named)
	if i := slices.IndexFunc(named, func(kept Named) bool { return kept.Mark == one.Mark }); i >= 0 {
		if one.At.Before(named[i].At) {
			named[i].At = one.At
		}
	} else {
		named = append(named, one)
	}
	slices.SortFunc(named, func(a, b Named) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Mark, b.Mark)) })
	return named[:min(len(named), maxNamed)]
}

// Of returns when a message was delivered and when it was read, zero if no receipt says so: one whose call to the
// platform began at begun, and that has these ids there. The call's begin counts, not its answer: a watermark that the
// platform set meanwhile is of this message, for no other one of the conversation was under way.
func (r Receipts) Of(begun time.Time, ids []string) (delivered, read time.Time) {
	delivered, read = earliest(r.Delivered, begun), earliest(r.Read, begun)
	marks := make([]string, len(ids))
	for i, id := range ids {
		marks[i] = mark(id)
	}
	for _, named := range r.Named {
		if slices.Contains(marks, named.Mark) && (delivered.IsZero() || named.At.Before(delivered)) {
			delivered = named.At
		}
	}
	return delivered, read
}

func earliest(marks []Watermark, begun time.Time) (at time.Time) {
	for _, mark := range marks {
		if !mark.UpTo.Before(begun) && (at.IsZero() || mark.At.Before(at)) {
			at = mark.At
		}
	}
	return at
}
