package engage

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
)

// PushState is the state of a push (contract.md §2, status).
type PushState string

// The states of a push. A cancelled one may still have chunks that were claimed before and are being sent.
const (
	PushScheduled  PushState = "scheduled"
	PushDelivering PushState = "delivering"
	PushCompleted  PushState = "completed"
	PushCancelled  PushState = "cancelled"
)

// Meta is the small item of a push that decides every race: claims, results' counts and cancellation are conditional
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

// DeliverBefore is when what is not delivered expires.
func (m *Meta) DeliverBefore() time.Time {
	return m.NotBefore.Add(time.Duration(m.TTLSeconds) * time.Second)
}

// Counts sums up the chunks. A chunk counts as pending until all of it is final.
func (m *Meta) Counts() Counts {
	var sum Counts
	for _, chunk := range m.Chunks {
		switch {
		case chunk.Final != nil:
			sum.add(*chunk.Final)
		case m.cancelled(chunk):
			sum.add(Counts{Total: chunk.Size, Cancelled: chunk.Size})
		default:
			sum.add(Counts{Total: chunk.Size, Pending: chunk.Size})
		}
	}
	return sum
}

// cancelled reports whether a chunk will never be sent because the push was cancelled before it was claimed.
func (m *Meta) cancelled(chunk ChunkState) bool {
	return !m.CancelledAt.IsZero() && chunk.Final == nil && chunk.LeasedUntil.IsZero()
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

// chunkAttribute is the attribute of a chunk's state: absent, a number (leased until, in epoch ms) or a string (final counts).
func chunkAttribute(i int) string { return "c" + strconv.Itoa(i) }

func encodeFinal(c Counts) string {
	return fmt.Sprintf("%d,%d,%d,%d", c.Delivered, c.Rejected, c.Failed, c.Expired)
}

func decodeFinal(text string, size int) *Counts {
	counts := Counts{Total: size}
	_, err := fmt.Sscanf(text, "%d,%d,%d,%d", &counts.Delivered, &counts.Rejected, &counts.Failed, &counts.Expired)
	if err != nil {
		return nil
	}
	return &counts
}

// encodeSizes writes the chunks' sizes, or nothing where they are all 500 but the last.
func encodeSizes(sizes []int) string {
	for _, size := range sizes[:len(sizes)-1] {
		if size != chunkDestinations {
			return strings.Trim(strings.ReplaceAll(fmt.Sprint(sizes), " ", ","), "[]")
		}
	}
	return ""
}

func decodeSizes(text string, chunks, total int) []int {
	sizes := make([]int, chunks)
	fields := strings.Split(text, ",")
	for i := range sizes {
		switch {
		case text != "" && i < len(fields):
			sizes[i], _ = strconv.Atoi(fields[i]) // what encodeSizes wrote
		case i < chunks-1:
			sizes[i] = chunkDestinations
		default:
			sizes[i] = total - chunkDestinations*(chunks-1)
		}
	}
	return sizes
}

func decodeMeta(item dynamo.Item) *Meta {
	m := &Meta{
		RequestID:     dynamo.GetString(item, "requestId"),
		Tenant:        dynamo.GetString(item, "tenant"),
		ProgramUUID:   dynamo.GetString(item, "programUuid"),
		CreatedAt:     getMillis(item, "createdAt"),
		NotBefore:     getMillis(item, "notBefore"),
		TTLSeconds:    int(dynamo.GetInt(item, "ttlSeconds")),
		KeepAfterCall: dynamo.GetBool(item, "keepAfterCall"),
		CancelledAt:   getMillis(item, "cancelledAt"),
		DueAt:         getMillis(item, "dueAt"),
	}
	sizes := decodeSizes(dynamo.GetString(item, "sizes"), int(dynamo.GetInt(item, "chunks")), int(dynamo.GetInt(item, "total")))
	for i, size := range sizes {
		chunk := ChunkState{Size: size}
		switch item[chunkAttribute(i)].(type) {
		case *types.AttributeValueMemberN:
			chunk.LeasedUntil = getMillis(item, chunkAttribute(i))
		case *types.AttributeValueMemberS:
			chunk.Final = decodeFinal(dynamo.GetString(item, chunkAttribute(i)), size)
		}
		m.Chunks = append(m.Chunks, chunk)
	}
	return m
}

// millis is a time as the pushes table has it: epoch milliseconds, rounded up, so that nothing happens before its time.
func millis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

func getMillis(item dynamo.Item, name string) time.Time {
	if ms := dynamo.GetInt(item, name); ms != 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}
