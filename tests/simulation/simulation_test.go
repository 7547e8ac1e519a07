package simulation_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/tests/simulation"
)

// usually is how many seeds a run with the race detector takes, as `make test` does first; it runs more without.
const usually = 5

var (
	seeds = flag.Int("seeds", number("SIMULATE_SEEDS", usually), "how many seeds are run")
	first = flag.Uint64("seed", 1, "the first of them")
	full  = flag.Bool("full", false, "print all that happens")
)

func number(variable string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

func TestMain(m *testing.M) { emulatortest.Main(m) }

const (
	// atOnce is how many seeds run at the same time: each keeps the emulator waiting about as long as itself.
	atOnce = 2
	// explained is of how many seeds that fail the traces are printed; of the others the violations alone.
	explained = 5
	progress  = 10 * time.Second
)

func TestSeeds(t *testing.T) {
	model := emulatortest.Deploy(t)
	total := &tally{t: t, began: time.Now(), said: time.Now(), by: map[string]int{}}
	next := make(chan uint64)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			bridge := simulation.NewBridge(emulatortest.DynamoDBEndpoint())
			defer bridge.Close()
			for seed := range next {
				total.add(run(t, model, bridge, seed, *full))
			}
		})
	}
	for i := range *seeds {
		next <- *first + uint64(i)
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
	t     *testing.T
	began time.Time

	mu                           sync.Mutex
	said                         time.Time
	seeds, failed, pushes, posts int
	by                           map[string]int // violations by invariant
}

func (s *tally) add(report *simulation.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if report == nil {
		return // the test says why
	}
	s.seeds, s.pushes, s.posts = s.seeds+1, s.pushes+report.Pushes, s.posts+report.Posts
	for _, violation := range report.Violations {
		s.by[violation.Invariant]++
	}
	if len(report.Violations) > 0 {
		s.failed++
		s.t.Errorf("seed %d fails; replay it by: make simulate SEED=%d SEEDS=1", report.Seed, report.Seed)
	}
	switch {
	case *full:
		report.Print(os.Stdout, simulation.Everything)
	case len(report.Violations) > 0 && s.failed <= explained:
		report.Print(os.Stdout, simulation.Explained)
	case len(report.Violations) > 0:
		report.Print(os.Stdout, simulation.Violations)
	}
	if *seeds > usually && time.Since(s.said) > progress {
		s.said = time.Now()
		fmt.Println(s)
	}
}

func (s *tally) String() string {
	return fmt.Sprintf("%d of %d seeds, %d failed: %d pushes and %d POSTs in %v",
		s.seeds, *seeds, s.failed, s.pushes, s.posts, time.Since(s.began).Round(time.Millisecond))
}

// The same seed gives the same run: the same POSTs at the same times, and the same final states.
func TestASeedGivesTheSameRun(t *testing.T) {
	model := emulatortest.Deploy(t)
	bridge := simulation.NewBridge(emulatortest.DynamoDBEndpoint())
	defer bridge.Close()
	for i := range 3 {
		seed := *first + uint64(i)
		once, again := run(t, model, bridge, seed, false), run(t, model, bridge, seed, false)
		require.NotNil(t, once)
		require.NotNil(t, again)
		assert.Equal(t, once.Trace, again.Trace, "seed %d, %s", seed, once.Profile)
	}
}

// run runs a seed on tables of its own. It returns nil if there are none.
func run(t *testing.T, model string, bridge *simulation.Bridge, seed uint64, full bool) *simulation.Report {
	t.Helper()
	tables, drop, err := simulation.CreateTables(t.Context(), emulatortest.DynamoDB(), model)
	defer drop()
	if !assert.NoError(t, err) {
		return nil
	}
	return simulation.Run(t, seed, simulation.Options{Bridge: bridge, Tables: tables, Trace: full})
}
