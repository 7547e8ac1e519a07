// Package bubble is what simulated worlds have in common: a bubble of testing/synctest in which hours take no time,
// dice that one seed throws, processes that die, and the way out to the real DynamoDB emulator.
package bubble

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Beginning is when every run begins.
var Beginning = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)

// Run runs a world in a bubble of its own, from Beginning on.
func Run(t *testing.T, world func()) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		if Sleep(context.Background(), time.Until(Beginning)) != nil {
			return
		}
		world()
	})
}

// Faults are the probabilities of the platform's faults that every world knows.
type Faults struct {
	Throttled, AnswerLost, Slow float64       // of a DynamoDB call
	Killed                      float64       // of a call of any kind, before or after its effect
	SendFails, EntryRefused     float64       // of a call of another service, and of an entry of it
	Skew                        time.Duration // of a process's clock, either way
	StormFrom, StormTo          time.Time     // when DynamoDB throttles most calls
	ColdStart                   time.Duration // at most
}

// Any reports whether the platform has any trouble.
func (f *Faults) Any() bool { return f.Killed > 0 || f.Throttled > 0 }

// World is a run: all that its parts share. Its exported fields are set before anything of it starts. It is safe for
// concurrent use.
//
// A run is about subjects, which have numbers: pushes, say, or messages. What belongs to a subject is found by an id.
type World struct {
	Seed     uint64
	Faults   Faults
	Bridge   *Bridge
	Traced   bool                                                 // keep every call and log line
	Ctx      context.Context                                      //nolint:containedctx // over when the run is
	Timeouts map[string]time.Duration                             // of functions, by kind
	Start    func(*Process)                                       // starts a process: sets its Serves
	ReadCall func(p *Process, operation string, body []byte) Call // finds out what a call of DynamoDB is of
	Died     func(p *Process, why string)                         // is told of each death; may be nil
	running  sync.WaitGroup                                       // the goroutines that the run has started
	mu       sync.Mutex                                           // of all below
	seen     map[string]int                                       // how often each thing has happened
	pools    map[string][]*Process                                // idle ones, by kind
	owners   map[string]int                                       // subjects, by id
	events   []Event
	hits     map[string][]Hit // by id
	global   []Hit            // what hits every subject
}

// NewWorld returns a world in which nothing has happened yet.
func NewWorld(ctx context.Context, seed uint64) *World {
	return &World{
		Seed: seed, Ctx: ctx,
		seen: map[string]int{}, pools: map[string][]*Process{}, owners: map[string]int{}, hits: map[string][]Hit{},
	}
}

// Event is a line of the trace.
type Event struct {
	At      time.Time
	Subject int // -1 if it is of none
	Text    string
}

// Hit is a fault of the platform that a subject was hit by.
type Hit struct {
	At   time.Time
	What string
}

// Go starts a goroutine of the run.
func (w *World) Go(f func()) { w.running.Go(f) }

// Wait waits for the goroutines that the run has started.
func (w *World) Wait() { w.running.Wait() }

// Dice returns the dice of something that happens, for the time that it does.
func (w *World) Dice(names ...string) Dice {
	key := strings.Join(names, "\x00")
	w.mu.Lock()
	n := w.seen[key]
	w.seen[key]++
	w.mu.Unlock()
	return Throw(w.Seed, append(slices.Clone(names), fmt.Sprint(n))...)
}

// Count returns how often something has happened before.
func (w *World) Count(names ...string) int {
	key := "count\x00" + strings.Join(names, "\x00")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[key]++
	return w.seen[key] - 1
}

// Own says whose an id is.
func (w *World) Own(id string, subject int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owners[id] = subject
}

// Owner returns whose an id is, if it is anybody's.
func (w *World) Owner(id string) (subject int, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	subject, known = w.owners[id]
	return subject, known
}

// Say adds a line to the trace of the subject that an id belongs to, or to nobody's.
func (w *World) Say(id, format string, args ...any) {
	subject, known := w.Owner(id)
	if !known {
		subject = -1
	}
	w.SayOf(subject, format, args...)
}

// SayOf adds a line to the trace of a subject.
func (w *World) SayOf(subject int, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, Event{time.Now(), subject, fmt.Sprintf(format, args...)})
}

// Hit notes that the platform's trouble met a subject.
func (w *World) Hit(id, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.Say(id, "fault: %s", what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits[id] = append(w.hits[id], Hit{time.Now(), what})
}

// HitAll notes trouble that may meet any subject.
func (w *World) HitAll(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.Say("", "fault: %s", what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.global = append(w.global, Hit{time.Now(), what})
}

// Hits returns what met the subject of an id, and what may have met all.
func (w *World) Hits(id string) (own, global []Hit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hits[id], w.global
}

// Events returns the trace, in the order of time.
func (w *World) Events() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.events, func(a, b Event) int { return a.At.Compare(b.At) })
	return w.events
}
