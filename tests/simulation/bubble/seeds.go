package bubble

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	// usually is how many seeds a run with the race detector takes, as `make test` does first; it runs more without.
	usually = 5
	// atOnce is how many seeds run at the same time: each keeps the emulator waiting about as long as itself.
	atOnce = 2
	// explained is of how many seeds that fail the traces are printed; of the others the violations alone.
	explained = 5
	progress  = 10 * time.Second
)

// Detail is how much of a run is printed.
type Detail int

// The details.
const (
	Violations Detail = iota // a line each
	Explained                // and what happened to the subject
	Everything               // all that happened to all subjects
)

// Report is what became of a run.
type Report interface {
	// Violated returns the names of the invariants that the run violates, one for each violation.
	Violated() []string
	// Counts returns how many subjects the run had, and how many calls its partner saw.
	Counts() (subjects, calls int)
	// Print writes the report.
	Print(out io.Writer, detail Detail)
}

// Seeds are the seeds that a test binary is asked to run, by its flags.
type Seeds struct {
	count *int
	first *uint64
	full  *bool
}

// NewSeeds declares the flags: -seeds, -seed, -full.
func NewSeeds() *Seeds {
	return &Seeds{
		count: flag.Int("seeds", number("SIMULATE_SEEDS", usually), "how many seeds are run"),
		first: flag.Uint64("seed", 1, "the first of them"),
		full:  flag.Bool("full", false, "print all that happens"),
	}
}

func number(variable string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

// First returns the first of the seeds.
func (s *Seeds) First() uint64 { return *s.first }

// Run runs all seeds, two at a time, and has the test fail for each that violates an invariant. world is what replays
// them: make simulate WORLD=world. run returns nil if it could not run, which it has told the test.
func (s *Seeds) Run(t *testing.T, world, endpoint string, run func(bridge *Bridge, seed uint64, full bool) Report) {
	t.Helper()
	total := &tally{Seeds: s, t: t, world: world, began: time.Now(), said: time.Now(), by: map[string]int{}}
	next := make(chan uint64)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			bridge := NewBridge(endpoint)
			defer bridge.Close()
			for seed := range next {
				total.add(seed, run(bridge, seed, *s.full))
			}
		})
	}
	for i := range *s.count {
		next <- *s.first + uint64(i)
	}
	close(next)
	all.Wait()
	for _, invariant := range slices.Sorted(maps.Keys(total.by)) {
		t.Logf("%d violations of %q", total.by[invariant], invariant)
	}
	t.Log(total)
}

// tally is what became of all seeds so far.
type tally struct {
	*Seeds
	t     *testing.T
	world string
	began time.Time

	mu                             sync.Mutex
	said                           time.Time
	seeds, failed, subjects, calls int
	by                             map[string]int // violations by invariant
}

func (s *tally) add(seed uint64, report Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if report == nil {
		return // the test says why
	}
	subjects, calls := report.Counts()
	s.seeds, s.subjects, s.calls = s.seeds+1, s.subjects+subjects, s.calls+calls
	violated := report.Violated()
	for _, invariant := range violated {
		s.by[invariant]++
	}
	if len(violated) > 0 {
		s.failed++
		s.t.Errorf("seed %d fails; replay it by: make simulate WORLD=%s SEED=%d SEEDS=1", seed, s.world, seed)
	}
	switch {
	case *s.full:
		report.Print(os.Stdout, Everything)
	case len(violated) > 0 && s.failed <= explained:
		report.Print(os.Stdout, Explained)
	case len(violated) > 0:
		report.Print(os.Stdout, Violations)
	}
	if *s.count > usually && time.Since(s.said) > progress {
		s.said = time.Now()
		fmt.Println(s)
	}
}

func (s *tally) String() string {
	return fmt.Sprintf("%d of %d seeds, %d failed: %d messages and %d calls in %v",
		s.seeds, *s.count, s.failed, s.subjects, s.calls, time.Since(s.began).Round(time.Millisecond))
}
