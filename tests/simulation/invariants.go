package simulation

import (
	"fmt"
	"time"
)

// Violation is something that must not be.
type Violation struct {
	Invariant string
	Seed      uint64
	RequestID string
	Chunk     int // -1 if it is of no chunk
	At        time.Time
	What      string

	order int
}

func (v Violation) String() string {
	text := fmt.Sprintf("  VIOLATION of %q, seed %d", v.Invariant, v.Seed)
	if v.order >= 0 {
		text += fmt.Sprintf(", push %d %s", v.order, v.RequestID)
	}
	if v.Chunk >= 0 {
		text += fmt.Sprintf(", chunk %d", v.Chunk)
	}
	return text + fmt.Sprintf(", at %s: %s", clockTime(v.At), v.What)
}

func check(w *world, e *ending) []Violation { return nil }
