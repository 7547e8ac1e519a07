package engage

import (
	"strconv"
	"time"
)

// DestinationState is what became of one destination (contract.md §2, status).
type DestinationState string

// The states of a destination. All but StatePending are final.
const (
	StatePending   DestinationState = "pending"
	StateDelivered DestinationState = "delivered"
	StateRejected  DestinationState = "rejected"  // the gateway said so
	StateFailed    DestinationState = "failed"    // the gateway refused the whole chunk
	StateExpired   DestinationState = "expired"   // notBefore + ttlSeconds passed first
	StateCancelled DestinationState = "cancelled" // before it was claimed
)

// Result is what became of one destination. Its zero value is a pending one.
type Result struct {
	State       DestinationState
	Reason      string
	DeliveredAt time.Time // of a delivered destination: when the gateway said so
}

// pending reports whether the destination is still to be sent.
func (r Result) pending() bool { return r.State == "" || r.State == StatePending }

// encodeResults writes the results of a chunk, in the order of its destinations.
func encodeResults(results []Result) ([]byte, error) {
	encoder := getEncoder()
	defer encoders.Put(encoder)
	return encoder.encodeColumns(len(results), nil, []column{
		func(i int) (string, bool) { return string(results[i].State), !results[i].pending() },
		func(i int) (string, bool) { return results[i].Reason, results[i].Reason != "" },
		func(i int) (string, bool) {
			at := results[i].DeliveredAt
			return strconv.FormatInt(at.UnixMilli(), 36), !at.IsZero()
		},
	})
}

// decodeResults reads what encodeResults wrote.
func decodeResults(encoded []byte) ([]Result, error) {
	r, rows, _, err := readColumns(encoded)
	if err != nil {
		return nil, err
	}
	results := make([]Result, rows)
	for i := range results {
		state, there := r.text()
		if !there {
			state = string(StatePending)
		}
		results[i].State = DestinationState(state)
	}
	for i := range results {
		results[i].Reason, _ = r.text()
	}
	for i := range results {
		text, there := r.text()
		if !there {
			continue
		}
		at, err := strconv.ParseInt(text, 36, 64)
		if err != nil {
			return nil, errChunk
		}
		results[i].DeliveredAt = time.UnixMilli(at).UTC()
	}
	return results, r.end()
}

// Counts says how many destinations are in which state. They add up to Total.
type Counts struct {
	Total     int `json:"total"`
	Pending   int `json:"pending"`
	Delivered int `json:"delivered"`
	Rejected  int `json:"rejected"`
	Failed    int `json:"failed"`
	Expired   int `json:"expired"`
	Cancelled int `json:"cancelled"`
}

func countResults(results []Result) Counts {
	counts := Counts{Total: len(results)}
	for _, r := range results {
		switch r.State {
		case StateDelivered:
			counts.Delivered++
		case StateRejected:
			counts.Rejected++
		case StateFailed:
			counts.Failed++
		case StateExpired:
			counts.Expired++
		case StateCancelled:
			counts.Cancelled++
		default:
			counts.Pending++
		}
	}
	return counts
}

func (c *Counts) add(other Counts) {
	c.Total += other.Total
	c.Pending += other.Pending
	c.Delivered += other.Delivered
	c.Rejected += other.Rejected
	c.Failed += other.Failed
	c.Expired += other.Expired
	c.Cancelled += other.Cancelled
}
