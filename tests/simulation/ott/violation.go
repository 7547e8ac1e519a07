package ott

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"carillon/tests/simulation/bubble"
)

// Violation is something that must not be.
type Violation struct {
	Invariant string
	Seed      uint64
	At        time.Time
	What      string

	order *Order // nil if it is of no message
}

func (v Violation) String() string {
	text := fmt.Sprintf("  VIOLATION of %q, seed %d", v.Invariant, v.Seed)
	if v.order != nil {
		text += fmt.Sprintf(", conversation %d, message %d", v.order.Conv.N, v.order.N)
	}
	return text + fmt.Sprintf(", at %s: %s", bubble.ClockTime(v.At), v.What)
}

// message is a message at the end of a run.
type message struct {
	*clientLog
	posts      []*post // in the order in which they were begun
	mints      []*post // calls for a token to send it with
	createdAt  time.Time
	validUntil time.Time
}

// arrivals are the calls of the message that arrived.
func (m *message) arrivals() []*post {
	return slices.DeleteFunc(slices.Clone(m.posts), func(p *post) bool { return p.arrived.IsZero() })
}

// taken are the calls by which the network took the message.
func (m *message) taken() []*post {
	return slices.DeleteFunc(slices.Clone(m.posts), func(p *post) bool { return p.taken.IsZero() })
}

// checker holds a run to what must hold of each.
type checker struct {
	w          *world
	skew       time.Duration // how far a process's clock may be off
	messages   []*message    // accepted ones, in the order in which they were sent
	byOrder    map[*Order]*message
	violations []Violation
}

func check(w *world) []Violation {
	c := &checker{w: w, skew: w.scenario.faults.Skew, byOrder: map[*Order]*message{}}
	posts := w.networks.posts
	slices.SortStableFunc(posts, func(a, b *post) int { return a.begun.Compare(b.begun) })
	for _, log := range w.clients {
		if log.id == "" {
			continue
		}
		m := &message{clientLog: log}
		for _, p := range posts {
			switch log.order {
			case p.order:
				m.posts = append(m.posts, p)
			case p.mintedFor:
				m.mints = append(m.mints, p)
			}
		}
		if log.final != nil {
			created, _ := log.final.find("Created")
			m.createdAt, m.validUntil = created.EventDateTime, created.EventDateTime.Add(log.order.Validity)
		}
		slices.SortFunc(log.statuses, func(a, b status) int { return a.sent.Compare(b.sent) })
		c.messages = append(c.messages, m)
		c.byOrder[log.order] = m
	}
	c.answersAreExpected()
	c.nothingIsLeft()
	c.noDeadLetters()
	c.placesAreBounded()
	c.deadNetworkIsSpared()
	c.eventsAreOnTheBus()
	for _, conv := range w.scenario.Convs {
		c.orderIsKept(conv)
	}
	for _, m := range c.messages {
		if m.final == nil {
			continue // answersAreExpected says it
		}
		c.neverLate(m)
		c.endsFinal(m)
		c.deliveredIfWell(m)
		c.quietIsOnTime(m)
		c.lineNeverTwice(m)
		c.messengerTwiceOnlyUnanswered(m)
		c.statusOnlyGoesOn(m)
		c.stateWasSaid(m)
		c.receiptsAreKept(m)
		c.reasonIsPresent(m)
		c.retryAfterIsHonoured(m)
	}
	slices.SortStableFunc(c.violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(number(a.order), number(b.order)), a.At.Compare(b.At))
	})
	return c.violations
}

func number(o *Order) int {
	if o == nil {
		return -1
	}
	return o.N
}

func (c *checker) add(invariant string, o *Order, at time.Time, what string, args ...any) {
	c.violations = append(c.violations, Violation{
		Invariant: invariant, Seed: c.w.scenario.Seed, At: at, What: fmt.Sprintf(what, args...), order: o,
	})
}

// hits returns when AWS's trouble met a message.
func (c *checker) hits(log *clientLog) []time.Time {
	var times []time.Time
	for _, id := range append(slices.Clone(log.lambdaIDs), log.id) {
		own, _ := c.w.Hits(id)
		for _, h := range own {
			times = append(times, h.At)
		}
	}
	f := &c.w.Faults
	for at := f.StormFrom; at.Before(f.StormTo); at = at.Add(time.Second) {
		times = append(times, at)
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// hitWithin returns whether AWS's trouble met a message within a time.
func (c *checker) hitWithin(m *message, from, to time.Time) bool {
	return slices.ContainsFunc(
		c.hits(m.clientLog),
		func(at time.Time) bool { return !at.Before(from) && !at.After(to) },
	)
}

// mending returns how long AWS's trouble may hold up the messages of a property: what a killed process had comes again
// after the visibility time-out, and a permit of its is free after two windows.
func (c *checker) mending(p *Property) time.Duration {
	var times []time.Time
	for _, log := range c.w.clients {
		if log.order.Conv.Property == p {
			times = append(times, c.hits(log)...)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	var sum time.Duration
	var last time.Time
	for _, at := range times {
		if at.Sub(last) > 30*time.Second {
			sum, last = sum+mends, at
		}
	}
	return sum
}
