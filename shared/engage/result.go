package engage

import "time"

// DestinationState is what became of one destination (docs/contract.md §2, status).
type DestinationState string

// The states of a destination. All but StatePending are final.
const (
	StatePending   DestinationState = "pending"
	StateDelivered DestinationState = "delivered"
	StateRejected  DestinationState = "rejected"  // the gateway said so
	StateFailed    DestinationState = "failed"    // the gateway refused it, or never said what became of it
	StateExpired   DestinationState = "expired"   // notBefore + ttlSeconds passed first
	StateCancelled DestinationState = "cancelled" // while it waited
)

// Result is what became of one destination. Its zero value is a pending one.
type Result struct {
	State       DestinationState
	Reason      string
	DeliveredAt time.Time // of a delivered destination: when the gateway said so
}

// IsPending reports whether the destination is still to be sent.
func (r Result) IsPending() bool { return r.State == "" || r.State == StatePending }

// Counts says how many destinations are in which state. They add up to Total.
type Counts struct {
	Total     int
	Pending   int
	Delivered int
	Rejected  int
	Failed    int
	Expired   int
	Cancelled int
}

// Count sums up the results of a chunk.
func Count(results []Result) Counts {
	var counts Counts
	for _, r := range results {
		counts.Add(r.State, 1)
	}
	return counts
}

// Add counts n more destinations of a state.
func (c *Counts) Add(state DestinationState, n int) {
	c.Total += n
	switch state {
	case StateDelivered:
		c.Delivered += n
	case StateRejected:
		c.Rejected += n
	case StateFailed:
		c.Failed += n
	case StateExpired:
		c.Expired += n
	case StateCancelled:
		c.Cancelled += n
	default:
		c.Pending += n
	}
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
