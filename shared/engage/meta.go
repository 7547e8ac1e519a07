package engage

import (
	"errors"
	"time"
)

// PushState is the state of a push (docs/contract.md §2, status).
type PushState string

// The states of a push. A cancelled one may still have chunks that were claimed before and are being sent.
const (
	PushScheduled  PushState = "scheduled"
	PushDelivering PushState = "delivering"
	PushCompleted  PushState = "completed"
	PushCancelled  PushState = "cancelled"
)

// Meta is the small part of a push that decides every race: claims, results' counts and cancellation are conditional
// writes to it alone. It stays under 1 KB with 50 chunks, which is one write unit.
type Meta struct {
	RequestID     string
	Tenant        string
	ProgramUUID   string
	CreatedAt     time.Time
	NotBefore     time.Time
	TTLSeconds    int
	KeepAfterCall bool
	CancelledAt   time.Time // zero if it is not
	DueAt         time.Time // when engage-schedule looks at it next; zero if it is final
	Chunks        []ChunkState
}

// ChunkState is where a chunk stands: never claimed (the zero value but for Size), leased, or final.
type ChunkState struct {
	Size        int
	LeasedUntil time.Time // when a claimed chunk may be claimed again; zero if it never was claimed, or is final
	Final       *Counts   // nil until every destination has its result
}

// ErrChunk says that what is kept of a chunk cannot be read, or does not fit together.
var ErrChunk = errors.New("engage: a chunk is not in the format it should be")

// DeliverBefore is when what is not delivered expires.
func (m *Meta) DeliverBefore() time.Time {
	return m.NotBefore.Add(time.Duration(m.TTLSeconds) * time.Second)
}

// Counts sums up the chunks. A chunk counts as pending until all of it is final.
func (m *Meta) Counts() Counts {
	var sum Counts
	for i, chunk := range m.Chunks {
		switch {
		case chunk.Final != nil:
			sum.add(*chunk.Final)
		case m.IsCancelled(i):
			sum.add(Counts{Total: chunk.Size, Cancelled: chunk.Size})
		default:
			sum.add(Counts{Total: chunk.Size, Pending: chunk.Size})
		}
	}
	return sum
}

// IsCancelled reports whether a chunk will never be sent because the push was cancelled before it was claimed.
func (m *Meta) IsCancelled(chunk int) bool {
	c := m.Chunks[chunk]
	return !m.CancelledAt.IsZero() && c.Final == nil && c.LeasedUntil.IsZero()
}

// IsLast reports whether nothing of the other chunks is to be sent any more.
func (m *Meta) IsLast(chunk int) bool {
	for i, other := range m.Chunks {
		if i != chunk && other.Final == nil && !m.IsCancelled(i) {
			return false
		}
	}
	return true
}

// State returns the state of the push.
func (m *Meta) State() PushState {
	switch {
	case !m.CancelledAt.IsZero():
		return PushCancelled
	case m.Finished():
		return PushCompleted
	}
	for _, chunk := range m.Chunks {
		if chunk.Final != nil || !chunk.LeasedUntil.IsZero() {
			return PushDelivering
		}
	}
	return PushScheduled
}

// Finished reports whether nothing of the push is to be sent any more.
func (m *Meta) Finished() bool { return m.Counts().Pending == 0 }
