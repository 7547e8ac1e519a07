package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// beginning is when every run begins.
var beginning = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)

// world is a run: all that its parts share. It is safe for concurrent use.
type world struct {
	scenario *Scenario
	tables   Tables
	bridge   *Bridge
	gateway  *gateway
	queues   []*queue
	trace    bool
	ctx      context.Context // over when the run is
	running  sync.WaitGroup  // the goroutines that the run has started

	mu      sync.Mutex
	seen    map[string]int // how often each thing has happened
	pools   map[kind][]*process
	owners  map[string]*Order // by request id
	events  []event
	hits    map[string][]hit // by request id
	global  []hit            // what hits every push
	clients []*clientLog     // by order
}

// event is a line of the trace.
type event struct {
	at    time.Time
	order int // -1 if it is no push's
	text  string
}

// hit is a fault of the platform that a push was hit by.
type hit struct {
	at   time.Time
	what string
}

// start starts a goroutine of the run.
func (w *world) start(f func()) { w.running.Go(f) }

// dice returns the dice of something that happens, for the time that it does.
func (w *world) dice(names ...string) dice {
	key := strings.Join(names, "\x00")
	w.mu.Lock()
	n := w.seen[key]
	w.seen[key]++
	w.mu.Unlock()
	return throw(w.scenario.Seed, append(slices.Clone(names), fmt.Sprint(n))...)
}

// count returns how often something has happened before.
func (w *world) count(names ...string) int {
	key := "count\x00" + strings.Join(names, "\x00")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[key]++
	return w.seen[key] - 1
}

// say adds a line to the trace.
func (w *world) say(requestID, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	order := -1
	if o := w.owners[requestID]; o != nil {
		order = o.N
	}
	w.events = append(w.events, event{time.Now(), order, fmt.Sprintf(format, args...)})
}

// sayOf adds a line to the trace of an order.
func (w *world) sayOf(o *Order, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, event{time.Now(), o.N, fmt.Sprintf(format, args...)})
}

// own says whose a request id is.
func (w *world) own(requestID string, o *Order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owners[requestID] = o
}

// hit notes that the platform's trouble met a push.
func (w *world) hit(requestID, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.say(requestID, "fault: %s", what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits[requestID] = append(w.hits[requestID], hit{time.Now(), what})
}

// hitAll notes trouble that may meet any push.
func (w *world) hitAll(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.say("", "fault: %s", what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.global = append(w.global, hit{time.Now(), what})
}

// sleep lets a time of the run pass. It returns the context's error if that is over first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func formatUUID(b [16]byte) string { return uuid.UUID(b).String() }
