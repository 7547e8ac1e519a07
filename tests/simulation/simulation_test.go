package simulation_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/tests/simulation"
)

// usually is how many seeds a run of all tests takes.
const usually = 100

var (
	seeds = flag.Int("seeds", number("SIMULATE_SEEDS", usually), "how many seeds are run")
	first = flag.Uint64("seed", uint64(number("SIMULATE_SEED", 1)), "the first of them") //nolint:gosec // G115: not negative
	trace = flag.Bool("full", os.Getenv("SIMULATE_TRACE") != "", "print all that happens")
)

func number(variable string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

func TestMain(m *testing.M) { emulatortest.Main(m) }

// atOnce is how many seeds run at the same time: each keeps the emulator waiting about as long as itself.
const atOnce = 2

func TestSeeds(t *testing.T) {
	model := emulatortest.Deploy(t)
	var done, pushes, posts, failed atomic.Int64
	started := time.Now()
	next := make(chan uint64)
	var printing sync.Mutex
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			bridge := simulation.NewBridge(emulatortest.DynamoDBEndpoint())
			defer bridge.Close()
			for seed := range next {
				report := run(t, model, bridge, seed, *trace)
				pushes.Add(int64(report.Pushes))
				posts.Add(int64(report.Posts))
				printing.Lock()
				if len(report.Violations) > 0 || *trace {
					report.Print(os.Stdout, *trace)
				}
				if len(report.Violations) > 0 {
					failed.Add(1)
					t.Errorf("seed %d fails; replay it by: make simulate SEED=%d SEEDS=1", seed, seed)
				}
				if n := done.Add(1); *seeds > usually && n%500 == 0 {
					fmt.Printf("%d of %d seeds, %d failed, %d pushes, %v\n",
						n, *seeds, failed.Load(), pushes.Load(), time.Since(started).Round(time.Second))
				}
				printing.Unlock()
			}
		})
	}
	for i := range *seeds {
		next <- *first + uint64(i) //nolint:gosec // G115: not negative
	}
	close(next)
	all.Wait()
	t.Logf("%d seeds, %d failed: %d pushes and %d POSTs in %v",
		done.Load(), failed.Load(), pushes.Load(), posts.Load(), time.Since(started).Round(time.Millisecond))
}

// The same seed gives the same run: the same POSTs at the same times, and the same final states.
func TestASeedGivesTheSameRun(t *testing.T) {
	model := emulatortest.Deploy(t)
	bridge := simulation.NewBridge(emulatortest.DynamoDBEndpoint())
	defer bridge.Close()
	for i := range 12 {
		seed := *first + uint64(i) //nolint:gosec // G115: not negative
		once, again := run(t, model, bridge, seed, false), run(t, model, bridge, seed, false)
		assert.Equal(t, once.Trace, again.Trace, "seed %d, %s", seed, once.Profile)
	}
}

func run(t *testing.T, model string, bridge *simulation.Bridge, seed uint64, trace bool) *simulation.Report {
	t.Helper()
	tables, drop, err := simulation.CreateTables(t.Context(), emulatortest.DynamoDB(), model)
	require.NoError(t, err)
	defer drop()
	return simulation.Run(t, seed, simulation.Options{Bridge: bridge, Tables: tables, Trace: trace})
}
