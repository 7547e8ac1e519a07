package eventsource

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// startConcurrency is how many invocations a mapping has at the same time when it begins, and again when it was
	// idle.
	startConcurrency = 5
	// growEvery is how long a backlog lasts until there may be one more: 300 a minute.
	growEvery = 200 * time.Millisecond
)

// Shares returns how many of most invocations each mapping of a function may have at the same time, of those that it
// wants: all of them if there are enough for every mapping, else fewer, in proportion. Together they are no more than
// most, unless that is less than one for each.
func Shares(wanted []int, most int) []int {
	sum := 0
	for _, n := range wanted {
		sum += n
	}
	shares := slices.Clone(wanted)
	if sum <= most {
		return shares
	}
	rest := max(0, most-len(wanted)) // what is left when each has one
	for i, n := range wanted {
		shares[i] = 1 + (n-1)*rest/max(1, sum-len(wanted))
	}
	return shares
}

// slots are the rights to invoke the function, which Lambda gives more and more of while a queue has a backlog: five at
// first, up to 300 more a minute, and five again when there is little to do. The queue has a backlog from when every
// slot is taken until a receive comes back empty.
//
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
type slots struct {
	start, most int
	freed       chan struct{} // holds one when a slot was given back: there is one receiver to wait for it

	mu           sync.Mutex
	limit, taken int
	growAt       time.Time // zero without a backlog
}

func newSlots(most int) *slots {
	start := min(startConcurrency, most)
	return &slots{start: start, most: most, limit: start, freed: make(chan struct{}, 1)}
}

// take waits for a slot; false when ctx ends first.
func (s *slots) take(ctx context.Context) bool {
	for ctx.Err() == nil {
		wait, taken := s.try()
		if taken {
			return true
		}
		var grown <-chan time.Time
		if wait > 0 {
			grown = time.After(wait)
		}
		select {
		case <-s.freed:
		case <-grown:
		case <-ctx.Done():
		}
	}
	return false
}

// try takes a slot if it can. Else it returns how long it is until there is one more, 0 if that is never.
func (s *slots) try() (wait time.Duration, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken == s.limit && s.limit < s.most {
		now := time.Now()
		if s.growAt.IsZero() {
			s.growAt = now.Add(growEvery)
		}
		if now.Before(s.growAt) {
			return s.growAt.Sub(now), false
		}
		s.limit++
		s.growAt = now.Add(growEvery)
	}
	if s.taken == s.limit {
		return 0, false
	}
	s.taken++
	return 0, true
}

// give gives a slot back.
func (s *slots) give() {
	s.mu.Lock()
	s.taken--
	if s.taken == 0 && s.growAt.IsZero() {
		s.limit = s.start
	}
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// drained says that the queue has nothing to give.
func (s *slots) drained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.growAt = time.Time{}
}

func (s *slots) current() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit
}
