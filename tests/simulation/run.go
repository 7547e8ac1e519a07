// Package simulation runs ENGAGE's delivery in a world that one seed drives: the real handlers, stores, scheduler and
// deliverer on the real DynamoDB emulator, and models in place of time, SQS, EventBridge Scheduler, Lambda and the
// device gateway. The same seed gives the same run; what must hold of every run (docs/contract.md §2) is checked at its
// end.
//
// A run happens in a bubble of testing/synctest, so that its hours take no time. Its calls to DynamoDB leave the bubble
// by a Bridge; its time stands still meanwhile. Each choice is drawn from the seed and from what the choice is about
// (type bubble.Dice), so it does not matter in which order goroutines run.
package simulation

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon/shared/engage"
	"carillon/shared/engage/store"
	"carillon/tests/simulation/bubble"
)

// Report is what became of a run.
type Report struct {
	Seed       uint64
	Scenario   string
	Profile    Profile
	Pushes     int           // accepted ones
	Posts      int           // that the gateway saw
	Lasted     time.Duration // of the run's own time
	Dead       int           // dead letters
	Violations []Violation
	Trace      []string // POSTs and final states: the same for the same seed

	world *world
}

// Options are those of a run.
type Options struct {
	Bridge *bubble.Bridge
	Tables Tables // empty ones
	Trace  bool   // keep every call and log line
}

// Run runs a seed in a bubble of its own, and checks it.
func Run(t *testing.T, seed uint64, options Options) *Report {
	t.Helper()
	report := &Report{Seed: seed}
	bubble.Run(t, func() { run(report, options) })
	return report
}

func run(report *Report, options Options) {
	ctx, stop := context.WithCancel(context.Background())
	scenario := newScenario(report.Seed, bubble.Beginning)
	w := &world{World: bubble.NewWorld(ctx, report.Seed), scenario: scenario, tables: options.Tables,
		owners: map[string]*Order{}}
	w.Faults, w.Timeouts, w.Bridge, w.Traced = scenario.faults.Faults, timeouts, options.Bridge, options.Trace
	w.Start, w.ReadCall = w.serve, w.readCall
	w.Died = func(p *bubble.Process, why string) {
		if p.Kind == kindSchedule {
			w.HitAll("%s dies: %s", p.ID, why)
		}
	}
	w.gateway = &gateway{world: w, taken: map[string]bool{}}
	w.queues = queuesOf(w)
	for _, q := range w.queues {
		q.slots, q.changed = pollersAtFirst, make(chan struct{}, 1)
		w.Go(q.run)
	}
	w.Go(w.schedule)
	last := bubble.Beginning
	for _, o := range scenario.Orders {
		log := &clientLog{order: o}
		w.clients = append(w.clients, log)
		w.Go(func() { w.client(log) })
		for _, at := range slices.Concat([]time.Time{o.SendAt.Add(2 * time.Minute)}, o.CancelAt, o.StatusAt) {
			last = bubble.Later(last, at)
		}
	}
	outside := w.pushesOutside()
	for time.Now().Before(scenario.horizon) {
		_ = bubble.Sleep(ctx, time.Minute) // nobody has stopped it yet
		if time.Now().After(last) && w.isQuiet(outside) {
			break
		}
	}
	stop()
	w.Wait()
	end := w.end(outside)
	report.world, report.Scenario, report.Profile = w, scenario.String(), scenario.Profile
	report.Posts, report.Lasted = len(w.gateway.posts), time.Since(bubble.Beginning)
	report.Pushes = len(end.pushes)
	for _, q := range w.queues {
		report.Dead += len(q.dead)
	}
	report.Violations = check(w, end)
	report.Trace = w.outcome(end)
}

// isQuiet reports whether nothing can happen any more: nothing is queued, and nothing is due.
func (w *world) isQuiet(pushes *store.Pushes) bool {
	for _, q := range w.queues {
		if !q.isEmpty() {
			return false
		}
	}
	return w.stillDue(pushes) == nil
}

// stillDue returns the pushes that are in the due index.
func (w *world) stillDue(pushes *store.Pushes) []string {
	var due []string
	for partition := range store.DuePartitions {
		ids, err := pushes.Due(context.Background(), partition, bubble.Beginning.Add(1000*time.Hour), 100)
		if err != nil {
			panic(err)
		}
		due = append(due, ids...)
	}
	return due
}

// ending is how all is at the end of a run.
type ending struct {
	due    []string
	pushes []*finalPush
	byID   map[string]*finalPush
}

// finalPush is a push at the end of a run.
type finalPush struct {
	log   *clientLog
	meta  *engage.Meta
	rows  []engage.Row
	posts []*post
}

// chunkOf returns the chunk of the destination at a place.
func (p *finalPush) chunkOf(place int) int {
	for i, chunk := range p.meta.Chunks {
		if place < chunk.Counts.Total {
			return i
		}
		place -= chunk.Counts.Total
	}
	return -1
}

// end reads every push that is durable, whether or not its client knows of it.
func (w *world) end(pushes *store.Pushes) *ending {
	e := &ending{due: w.stillDue(pushes), byID: map[string]*finalPush{}}
	for _, log := range w.clients {
		for _, id := range log.requestIDs {
			final := &finalPush{log: log}
			for next := ""; ; {
				page, err := pushes.Page(context.Background(), "", id, engage.MaxPage, next)
				if err != nil {
					break // not durable
				}
				final.meta = page.Meta
				final.rows = append(final.rows, page.Rows...)
				if next = page.Next; next == "" {
					break
				}
			}
			if final.meta != nil {
				e.pushes = append(e.pushes, final)
				e.byID[id] = final
			}
		}
	}
	posts := w.gateway.posts
	slices.SortStableFunc(posts, func(a, b *post) int { return a.begun.Compare(b.begun) })
	for _, p := range posts {
		if final := e.byID[p.requestID]; final != nil {
			final.posts = append(final.posts, p)
		}
	}
	return e
}

// outcome is the run in lines that are the same for the same seed.
func (w *world) outcome(e *ending) []string {
	var lines []string
	for _, p := range w.gateway.posts {
		lines = append(
			lines,
			fmt.Sprintf("%d %s %d %s", p.begun.Sub(bubble.Beginning), p.id, len(p.numbers), p.outcome),
		)
	}
	slices.Sort(lines)
	for _, push := range e.pushes {
		states := make([]string, len(push.rows))
		for i, row := range push.rows {
			states[i] = string(row.State)
		}
		lines = append(lines, fmt.Sprintf("%s %s %+v %s",
			push.meta.RequestID, push.meta.State(), push.meta.Counts(), strings.Join(states, ",")))
	}
	return lines
}

// explains is how many lines of a push's trace Explained prints.
const explains = 60

// Violated returns the names of the invariants that the run violates, one for each violation.
func (r *Report) Violated() []string {
	var names []string
	for _, v := range r.Violations {
		names = append(names, v.Invariant)
	}
	return names
}

// Counts returns how many pushes were accepted, and how many calls were seen.
func (r *Report) Counts() (subjects, calls int) { return r.Pushes, r.Posts }

// Print writes the report.
func (r *Report) Print(out io.Writer, detail bubble.Detail) {
	w := r.world
	_, _ = fmt.Fprintf(out, "seed %d: %s\n  %d pushes, %d POSTs, %d dead letters, %v; %d violations\n",
		r.Seed, r.Scenario, r.Pushes, r.Posts, r.Dead, r.Lasted.Round(time.Second), len(r.Violations))
	events := w.Events()
	if detail == bubble.Everything {
		for _, e := range events {
			_, _ = fmt.Fprintf(out, "  %s %s %s\n", bubble.ClockTime(e.At), orderName(e.Subject), e.Text)
		}
	}
	told := map[int]bool{}
	for _, v := range r.Violations {
		_, _ = fmt.Fprintf(out, "%s\n", v)
		if v.order < 0 || detail != bubble.Explained || told[v.order] {
			continue
		}
		told[v.order] = true
		r.explain(out, v.order)
	}
}

func (r *Report) explain(out io.Writer, order int) {
	lines := 0
	for _, e := range r.world.Events() {
		if e.Subject != order {
			continue
		}
		if lines++; lines > explains {
			_, _ = fmt.Fprintln(out, "      …")
			return
		}
		_, _ = fmt.Fprintf(out, "      %s %s\n", bubble.ClockTime(e.At), e.Text)
	}
}

func orderName(n int) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprintf("push %d", n)
}
