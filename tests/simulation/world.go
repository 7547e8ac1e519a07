package simulation

import (
	"sync"

	"carillon/tests/simulation/bubble"
)

// world is a run: all that its parts share. It is safe for concurrent use.
type world struct {
	*bubble.World
	scenario *Scenario
	tables   Tables
	gateway  *gateway
	queues   []*queue

	mu      sync.Mutex
	owners  map[string]*Order // by request id
	clients []*clientLog      // by order
}

// own says whose a request id is.
func (w *world) own(requestID string, o *Order) {
	w.Own(requestID, o.N)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owners[requestID] = o
}
