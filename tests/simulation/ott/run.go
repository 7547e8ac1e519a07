// Package ott runs OTT's messages in a world that one seed drives, as package simulation does ENGAGE's pushes: the real
// handlers, stores and deliverer on the real DynamoDB emulator, and models in place of time, SQS FIFO, Lambda, Secrets
// Manager, EventBridge, Messenger and LINE. What must hold of every run (docs/contract.md §1) is checked at its end.
package ott

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"carillon/tests/simulation/bubble"
)

// Report is what became of a run.
type Report struct {
	Seed       uint64
	Scenario   string
	Profile    Profile
	Messages   int           // accepted ones
	Posts      int           // calls that the networks saw
	Lasted     time.Duration // of the run's own time
	Dead       int           // dead letters
	Violations []Violation
	Trace      []string // calls and final states: the same for the same seed

	world *world
}

// Options are those of a run.
type Options struct {
	Bridge  *bubble.Bridge
	Tables  Tables  // empty ones
	Trace   bool    // keep every call and log line
	Profile Profile // drawn by the seed if it is empty
}

// Run runs a seed in a bubble of its own, and checks it.
func Run(t *testing.T, seed uint64, options Options) *Report {
	t.Helper()
	report := &Report{Seed: seed}
	bubble.Run(t, func() { run(report, options) })
	return report
}

// afterwards is how long after the end of a message's validity a run goes on.
const afterwards = 4 * time.Minute

func run(report *Report, options Options) {
	ctx, stop := context.WithCancel(context.Background())
	scenario := newScenario(report.Seed, bubble.Beginning, options.Profile)
	w := &world{World: bubble.NewWorld(ctx, report.Seed), scenario: scenario, tables: options.Tables}
	w.Faults, w.Timeouts, w.Bridge, w.Traced = scenario.faults.Faults, timeouts, options.Bridge, options.Trace
	w.Start, w.ReadCall = w.serve, w.readCall
	w.secrets, w.bus, w.networks, w.queue = newSecrets(w), &bus{world: w}, newNetworks(w), newFIFO(w)
	w.Go(w.queue.run)
	for _, o := range scenario.Orders {
		w.clients = append(w.clients, &clientLog{order: o})
	}
	for _, p := range scenario.Properties {
		w.Go(func() { w.property(p) })
	}
	var talking []chan struct{}
	for _, c := range scenario.Convs {
		done := make(chan struct{})
		talking = append(talking, done)
		w.Go(func() {
			defer close(done)
			w.conversation(c)
		})
	}
	for _, done := range talking {
		<-done
	}
	w.finish(ctx)
	stop()
	w.Wait()
	outside := w.outside()
	for _, log := range w.clients {
		if log.id != "" {
			report.Messages++
			w.readFinal(log, outside)
		}
	}
	report.world, report.Scenario, report.Profile = w, scenario.String(), scenario.Profile
	report.Posts, report.Lasted = len(w.networks.posts), time.Since(bubble.Beginning)
	report.Dead = len(w.queue.dead)
	report.Violations = check(w)
	report.Trace = w.outcome()
}

// finish lets the run go on until nothing can happen any more: what was accepted is over or was sent, and whatever the
// clients and Messenger had in mind has happened.
func (w *world) finish(ctx context.Context) {
	last := time.Now().Add(10 * time.Minute) // receipts come within that
	for _, p := range w.scenario.Properties {
		for _, at := range p.Again {
			last = bubble.Later(last, at.Add(time.Minute))
		}
	}
	horizon := last
	for _, log := range w.clients {
		o := log.order
		if log.id == "" {
			continue
		}
		horizon = bubble.Later(horizon, log.acceptedAt.Add(o.Validity+afterwards))
		for _, after := range append(slices.Clone(o.StatusAt), o.RepeatAt) {
			last = bubble.Later(last, log.acceptedAt.Add(after+time.Minute))
		}
	}
	for time.Now().Before(horizon) {
		_ = bubble.Sleep(ctx, time.Minute) // nobody has stopped it yet
		if time.Now().After(last) && w.queue.isEmpty() && w.isSettled() && w.telling.Load() == 0 {
			return
		}
	}
	_ = bubble.Sleep(ctx, max(10*time.Minute, time.Until(last)))
}

// isSettled reports whether the networks took, or refused for good, all that was accepted.
func (w *world) isSettled() bool {
	w.networks.mu.Lock()
	defer w.networks.mu.Unlock()
	over := map[*Order]bool{}
	for _, p := range w.networks.posts {
		if !p.taken.IsZero() || p.final {
			over[p.order], over[p.mintedFor] = true, true
		}
	}
	for _, log := range w.clients {
		if log.id != "" && !over[log.order] {
			return false
		}
	}
	return true
}

// outcome is the run in lines that are the same for the same seed.
func (w *world) outcome() []string {
	var lines []string
	for _, p := range w.networks.posts {
		lines = append(lines, fmt.Sprintf("%d %s %s %s", p.begun.Sub(bubble.Beginning), p.kind, p.name(), p.outcome))
	}
	slices.Sort(lines)
	for _, log := range w.clients {
		if log.final != nil {
			lines = append(lines, fmt.Sprintf("%d %s %s", log.order.N, log.id, log.final.names()))
		}
	}
	return lines
}

// explains is how many lines of a conversation's trace Explained prints.
const explains = 80

// Violated returns the names of the invariants that the run violates, one for each violation.
func (r *Report) Violated() []string {
	var names []string
	for _, v := range r.Violations {
		names = append(names, v.Invariant)
	}
	return names
}

// Counts returns how many messages were accepted, and how many calls were seen.
func (r *Report) Counts() (subjects, calls int) { return r.Messages, r.Posts }

// Print writes the report.
func (r *Report) Print(out io.Writer, detail bubble.Detail) {
	_, _ = fmt.Fprintf(out, "seed %d: %s\n  %d messages, %d calls, %d dead letters, %v; %d violations\n",
		r.Seed, r.Scenario, r.Messages, r.Posts, r.Dead, r.Lasted.Round(time.Second), len(r.Violations))
	all := r.world.Events()
	if detail == bubble.Everything {
		for _, e := range all {
			_, _ = fmt.Fprintf(out, "  %s %s %s\n", bubble.ClockTime(e.At), r.subject(e.Subject), e.Text)
		}
	}
	told := map[*Conversation]bool{}
	for _, v := range r.Violations {
		_, _ = fmt.Fprintf(out, "%s\n", v)
		if v.order == nil || detail != bubble.Explained || told[v.order.Conv] {
			continue
		}
		told[v.order.Conv] = true
		r.explain(out, v.order.Conv)
	}
}

func (r *Report) explain(out io.Writer, c *Conversation) {
	lines := 0
	for _, e := range r.world.Events() {
		if e.Subject < 0 || r.world.scenario.Orders[e.Subject].Conv != c {
			continue
		}
		if lines++; lines > explains {
			_, _ = fmt.Fprintln(out, "      …")
			return
		}
		_, _ = fmt.Fprintf(out, "      %s %s %s\n", bubble.ClockTime(e.At), r.subject(e.Subject), e.Text)
	}
}

func (r *Report) subject(n int) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprintf("conversation %d message %d", r.world.scenario.Orders[n].Conv.N, n)
}
