package engage

import (
	"errors"
	"time"
)

// PushState is the state of a push (docs/contract.md §2, status).
type PushState string

// The states of a push. A cancelled one may still have chunks in a POST that was under way.
const (
	PushScheduled  PushState = "scheduled"
	PushDelivering PushState = "delivering"
	PushCompleted  PushState = "completed"
	PushCancelled  PushState = "cancelled"
)

// Meta is the small part of a push that decides every race: claims, waits, ends and cancellation are conditional writes
// to it alone. In fair weather it stays under 1 KB with 50 chunks, which is one write unit.
type Meta struct {
	Terms

	RequestID   string
	Tenant      string
	ProgramUUID string
	CreatedAt   time.Time
	CancelledAt time.Time // zero if it is not
	DueAt       time.Time // when engage-schedule looks at it next; zero if it is final
	EnqueuedAt  time.Time // when jobs of it were sent last, as far as engage-schedule has to know
	Chunks      []ChunkState
}

// Phase is where a chunk stands.
type Phase int

// The phases of a chunk. A chunk goes from Unclaimed to Leased, from there to Waiting and back as often as it is sent
// again, and ends as Final.
const (
	Unclaimed Phase = iota // nobody has claimed it yet
	Leased                 // a process has claimed it, for one POST
	Waiting                // it is to be sent again
	Final                  // every destination has its result
)

// ChunkState is where a chunk stands. Its zero value but for Counts is a chunk that nobody has claimed.
type ChunkState struct {
	Phase Phase
	// Until is when the lease of a leased chunk ends, and when a waiting one is to be sent again.
	Until time.Time
	// Claims is how often it was claimed again after the first time: a later holder has the higher number.
	Claims int
	// Attempt is the number of the next POST with a webhook-id of its own: 0 is that of the whole chunk, the later ones
	// carry what the gateway wants again.
	Attempt int
	// Tries is how many POSTs under that webhook-id there were.
	Tries int
	// Last is what the gateway said last, if anything.
	Last GatewayAnswer
	// Counts are those of the chunk's destinations.
	Counts Counts
	// Rest is, of a final chunk, what became of all destinations without a result of their own; RestSize is how many
	// these are.
	Rest     Result
	RestSize int
}

// Waits reports whether the chunk is to be claimed before anything else becomes of it: it is neither final nor in a
// POST that may be under way.
func (c ChunkState) Waits(now time.Time) bool {
	return c.Phase == Unclaimed || c.Phase == Waiting || c.Phase == Leased && c.Until.Before(now)
}

// ErrChunk says that what is kept of a chunk cannot be read, or does not fit together.
var ErrChunk = errors.New("engage: a chunk is not in the format it should be")

// Counts sums up the chunks.
func (m *Meta) Counts() Counts {
	var sum Counts
	for i, chunk := range m.Chunks {
		counts := chunk.Counts
		if m.IsCancelled(i) {
			counts.Cancelled += counts.Pending
			counts.Pending = 0
		}
		sum.add(counts)
	}
	return sum
}

// IsCancelled reports whether nothing of a chunk will be sent any more because the push was cancelled while the chunk
// waited. A chunk that was in a POST then is not: it ends with what the POST brings.
func (m *Meta) IsCancelled(chunk int) bool {
	return !m.CancelledAt.IsZero() && m.Chunks[chunk].Waits(m.CancelledAt)
}

// IsAbandoned reports whether a chunk of a cancelled push was left by a process that died in a POST: it is not sent
// again.
func (m *Meta) IsAbandoned(chunk int, now time.Time) bool {
	c := m.Chunks[chunk]
	return !m.CancelledAt.IsZero() && !m.IsCancelled(chunk) && c.Phase == Leased && c.Until.Before(now)
}

// IsEnded reports whether nothing of a chunk will be sent any more.
func (m *Meta) IsEnded(chunk int) bool { return m.Chunks[chunk].Phase == Final || m.IsCancelled(chunk) }

// IsLast reports whether nothing of the other chunks is to be sent any more.
func (m *Meta) IsLast(chunk int) bool {
	for i := range m.Chunks {
		if i != chunk && !m.IsEnded(i) {
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
		if chunk.Phase != Unclaimed {
			return PushDelivering
		}
	}
	return PushScheduled
}

// Finished reports whether nothing of the push is to be sent any more.
func (m *Meta) Finished() bool { return m.Counts().Pending == 0 }
