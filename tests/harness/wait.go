package harness

import (
	"fmt"
	"testing"
	"time"
)

const (
	// patience is how long a test waits for what the background brings about: many times what it takes on a quiet
	// machine.
	patience = 90 * time.Second
	// pollInterval is how often it looks.
	pollInterval = 20 * time.Millisecond
)

// Eventually asks again and again, in the test's own goroutine, until done is true, and returns what was seen then. The
// test ends with what was last seen when that does not come about in 90 seconds.
func Eventually[T any](t testing.TB, what string, ask func() (seen T, done bool)) T {
	t.Helper()
	return within(t, patience, what, ask)
}

// Within is Eventually for a time of the test's own.
func Within[T any](t testing.TB, limit time.Duration, what string, ask func() (seen T, done bool)) T {
	t.Helper()
	return within(t, limit, what, ask)
}

func within[T any](t testing.TB, limit time.Duration, what string, ask func() (T, bool)) T {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(pollInterval) {
		seen, done := ask()
		if done {
			return seen
		}
		if time.Now().After(end) {
			t.Fatalf("it did not come about in %v: %s; last seen: %s", limit, what, shown(seen))
		}
	}
}

// shown writes what was seen, a long one cut.
func shown(seen any) string {
	const limit = 2000
	text := fmt.Sprintf("%+v", seen)
	if len(text) > limit {
		return text[:limit] + "…"
	}
	return text
}

// Reached waits until a fault has happened: see Fault.Strikes.
func Reached(t testing.TB, struck <-chan struct{}) {
	t.Helper()
	select {
	case <-struck:
	case <-time.After(patience):
		t.Fatal("the step was not reached")
	}
}
