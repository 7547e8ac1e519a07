// Package harness is what integration tests share: a running bundle, calls of its API with the demo clients' tokens,
// waiting for what happens in the background, and proxies by which AWS fails, or a function dies, at a step that a test
// names.
package harness

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/local/emulatortest"
)

// Bundle is a running bundle.
type Bundle struct {
	*local.Bundle
	// Log is what its functions and its API have logged.
	Log *Log
}

// Root returns the folder of the repository, from whichever of its packages a test runs. It panics where there is none.
func Root() string {
	root, err := emulatortest.Repository()
	if err != nil {
		panic(err)
	}
	return root
}

// Start starts a bundle, of this repository unless options.Root says otherwise; who starts it closes it. It returns
// what local.Start does.
func Start(ctx context.Context, options local.Options) (*Bundle, error) {
	b := &Bundle{Log: &Log{}}
	if options.Root == "" {
		options.Root = Root()
	}
	log := options.Log
	options.Log = func(line string) {
		b.Log.add(line)
		if log != nil {
			log(line)
		}
	}
	var err error
	b.Bundle, err = local.Start(ctx, options)
	return b, err
}

// StartFor starts a bundle for one test, which fails if it does not start.
func StartFor(t testing.TB, options local.Options) *Bundle {
	t.Helper()
	b, err := Start(t.Context(), options)
	require.NoError(t, err, "the bundle does not start")
	t.Cleanup(b.Close)
	return b
}

// Main starts a bundle for a package's tests, puts it where they look for it, runs them and ends the process. It is all
// that a TestMain has to do.
func Main(m *testing.M, options local.Options, bundle **Bundle) {
	b, err := Start(context.Background(), options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the bundle does not start:", err)
		os.Exit(1)
	}
	*bundle = b
	code := m.Run()
	b.Close()
	os.Exit(code)
}

// Log keeps the lines that a bundle logs. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	lines []string
}

func (l *Log) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// Lines returns every line so far, oldest first. A function's begin with its label and " | ".
func (l *Log) Lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// LogOf returns the lines of one function, without its label.
func (b *Bundle) LogOf(function string) []string {
	label := b.Function(function).Label() + " | "
	var own []string
	for _, line := range b.Log.Lines() {
		if text, is := strings.CutPrefix(line, label); is {
			own = append(own, text)
		}
	}
	return own
}

// Beside has so many tests of a package run at once that are parallel, unless -parallel says otherwise: for tests that
// mostly wait. It is called before the tests run.
func Beside(tests int) {
	flag.Parse()
	explicit := false
	flag.Visit(func(f *flag.Flag) { explicit = explicit || f.Name == "test.parallel" })
	if explicit {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(tests)); err != nil {
		panic(err) // go test's own flag takes a number
	}
}
