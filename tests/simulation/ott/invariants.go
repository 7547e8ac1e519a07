package ott

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"carillon/shared/ott"
	"carillon/tests/simulation/bubble"
)

// The allowances of the invariants.
const (
	// mends is how long a fault of AWS's may hold up a message: the visibility time-out, and the lease.
	mends = visibility + 60*time.Second
	// prompt is how soon after its 201, or after the message before it, a message's first call begins.
	prompt = 3 * time.Second
	// ends is how soon after its validity a message is final.
	ends = 35 * time.Second
	// recovers is how soon after its last trouble a property's messages are tried again: a break, and a pause.
	recovers = 2*longestBreak + callTimeout
	// each is how long a message takes that nothing holds up.
	each = 2 * time.Second
)

// answersAreExpected: a message that is right is accepted, a repeat under its key has the same ottRequestId, and its
// status can be read.
func (c *checker) answersAreExpected() {
	for _, log := range c.w.clients {
		for _, problem := range log.problems {
			c.add("answers are expected", log.order, log.sentAt, "%s", problem)
		}
	}
}

// nothingIsLeft: when all is over, nothing is queued.
func (c *checker) nothingIsLeft() {
	jobs, _ := c.w.queue.waiting()
	for _, j := range jobs {
		n, known := c.w.Owner(j.ottRequestID)
		if !known {
			c.add("nothing is left in the queue", nil, j.sent, "%s", j.body)
			continue
		}
		o := c.w.scenario.Orders[n]
		if m := c.byOrder[o]; m != nil && time.Now().Before(m.validUntil.Add(c.mending(o.Conv.Property))) {
			continue
		}
		c.add("nothing is left in the queue", o, j.sent, "%s, received %d times", j.body, j.receives)
	}
}

// noDeadLetters: "AWS trouble of minutes costs minutes, not the message: … no dead letter while it is valid".
func (c *checker) noDeadLetters() {
	_, dead := c.w.queue.waiting()
	for _, j := range dead {
		n, _ := c.w.Owner(j.ottRequestID)
		c.add("no dead letters", c.w.scenario.Orders[n], j.received, "%s", j.body)
	}
}

// placesAreBounded: "no registration's endpoint can hold up another's": a property has no more calls under way than its
// share of places, and one alone while it is in trouble.
func (c *checker) placesAreBounded() {
	if c.w.Faults.Any() {
		return // a permit that a process died with is given again
	}
	for _, property := range c.w.scenario.Properties {
		var open []*post
		troubles := 0
		type change struct {
			at   time.Time
			post *post
		}
		var changes []change
		for _, p := range c.w.networks.posts {
			if p.property == property && !p.ended.IsZero() {
				changes = append(changes, change{p.begun, p}, change{p.ended, p})
			}
		}
		slices.SortStableFunc(changes, func(a, b change) int { return a.at.Compare(b.at) })
		for _, ch := range changes {
			if i := slices.Index(open, ch.post); i >= 0 {
				open = slices.Delete(open, i, i+1)
				if troubles++; ch.post.heard {
					troubles = 0
				}
				continue
			}
			open = append(open, ch.post)
			begunInTrouble := 0
			for _, p := range open {
				if troubles > maxUnderWay+3 && p.begun.Add(callTimeout).After(ch.at) {
					begunInTrouble++
				}
			}
			if len(open) > maxUnderWay || begunInTrouble > 1 {
				c.add(
					"places are bounded",
					ch.post.order,
					ch.at,
					"property %d has %d calls under way after %d troubles",
					property.N,
					len(open),
					troubles,
				)
				break
			}
		}
	}
}

// deadNetworkIsSpared: a property that does not answer, or fails, gets the calls that were under way, a few more until
// that is seen, and then one at a time, less and less often; and none of its messages more than the backoff has it.
func (c *checker) deadNetworkIsSpared() {
	for _, property := range c.w.scenario.Properties {
		for _, s := range property.spells {
			if !s.mode.unanswering() && s.mode != modeFail {
				continue
			}
			calls, of := 0, map[*Order]int{}
			for _, p := range c.w.networks.posts {
				if p.property == property && !p.begun.Before(s.from) && p.begun.Before(s.to) {
					calls++
					if p.kind.sends() {
						of[p.order]++
					}
				}
			}
			length := s.to.Sub(s.from)
			// A break is half of longestBreak at least, after five short ones.
			most := maxUnderWay + 3 + 6 + int(length/(longestBreak/2))
			if c.w.Faults.Any() {
				most *= 2
			}
			if calls > most {
				c.add("a dead network is spared", nil, s.from, "property %d that %s gets %d calls in %v, more than %d",
					property.N, s.mode, calls, length, most)
			}
			for o, n := range of {
				most := 14 + int(length/(longestWait/2))
				if c.w.Faults.Any() {
					most *= 2
				}
				// At the end of its validity a message is tried more often.
				if most += 12; n > most {
					c.add("a dead network is spared", o, s.from, "%d calls in %v, more than %d", n, length, most)
				}
			}
		}
	}
}

// orderIsKept: "Messages of one conversation … leave in the order of their 201s, also over retries".
func (c *checker) orderIsKept(conv *Conversation) {
	for i, o := range conv.Orders {
		m := c.byOrder[o]
		if m == nil {
			continue
		}
		for _, next := range conv.Orders[i+1:] {
			n := c.byOrder[next]
			if n == nil || n.sentAt.Before(m.acceptedAt) || len(n.arrivals()) == 0 {
				continue
			}
			first := n.arrivals()[0]
			for _, p := range m.arrivals() {
				if p.begun.After(first.begun) || p.arrived.After(first.arrived) {
					c.add(
						"the order is kept",
						o,
						p.arrived,
						"it arrives after message %d, at %s, whose request came %v after "+
							"its 201",
						next.N,
						bubble.ClockTime(first.arrived),
						n.sentAt.Sub(m.acceptedAt),
					)
					break
				}
			}
		}
	}
}

// neverLate: nothing is sent after validUntil.
func (c *checker) neverLate(m *message) {
	for _, p := range m.posts {
		if p.begun.After(m.validUntil.Add(c.skew)) {
			c.add("never late", m.order, p.begun, "%v after its validity", p.begun.Sub(m.validUntil))
			return
		}
	}
}

// endsFinal: nothing is lost: each 201 ends as Sent, or as Error with a reason, shortly after validityPeriod at the
// latest; and whoever asks later is told so.
func (c *checker) endsFinal(m *message) {
	for _, s := range append(slices.Clone(m.statuses), *m.final) {
		if s.has("Sent") || s.has("Error") {
			continue
		}
		if s.sent.After(m.validUntil.Add(ends + 2*c.skew)) {
			c.add("all ends final", m.order, s.at, "%v after its validity its status is %s",
				s.at.Sub(m.validUntil).Round(time.Second), s.text())
			return
		}
	}
	if failed, isFailed := m.final.find("Error"); isFailed && failed.Reason == "" {
		c.add("an error has a reason", m.order, m.final.at, "%s", m.final.text())
	}
	for _, name := range []string{"Sent", "Error"} {
		e, ended := m.final.find(name)
		most := m.validUntil.Add(ends + 2*c.skew)
		if last := lastPost(m); last != nil && name == "Sent" {
			most = bubble.Later(most, last.ended.Add(ends))
		}
		if c.w.Faults.Any() {
			most = most.Add(c.mending(m.order.Conv.Property))
		}
		if ended && e.EventDateTime.After(most) {
			c.add("all ends final", m.order, e.EventDateTime, "%s comes %v after its validity", name,
				e.EventDateTime.Sub(m.validUntil))
		}
	}
}

func lastPost(m *message) *post {
	if len(m.posts) == 0 {
		return nil
	}
	return m.posts[len(m.posts)-1]
}

// isGivenUpRightly reports whether a message may end as Error though there was time: the network refused it for good,
// Messenger left three tries without an answer, or LINE one for so long that it would not know a repeat any more.
func (m *message) isGivenUpRightly() bool {
	unanswered := 0
	isFinal := func(p *post) bool { return p.final }
	if slices.ContainsFunc(m.posts, isFinal) || slices.ContainsFunc(m.mints, isFinal) {
		return true
	}
	for _, p := range m.posts {
		// A try that a process died in counts, for nobody knows.
		if p.unanswered() || p.outcome == bubble.ErrKilled.Error() || strings.HasPrefix(p.outcome, "killed") {
			unanswered++
		}
	}
	if m.order.Conv.Property.Platform == ott.LINE { // it may be a repeat that LINE does not know any more
		failed, isFailed := m.final.find("Error")
		return isFailed && unanswered > 0 && failed.EventDateTime.Sub(m.posts[0].begun) >= keyTime-time.Hour
	}
	return unanswered >= maxUnanswered
}

// deliveredIfWell: 429, 5xx and temporary errors "are retried with backoff": a network that is well for as long as the
// longest wait has the message by then, and those before it.
func (c *checker) deliveredIfWell(m *message) {
	conv := m.order.Conv
	if m.isGivenUpRightly() || c.diedOpen(m) {
		return
	}
	spells := conv.allSpells()
	mending := c.mending(conv.Property)
	behind := slices.Index(conv.Orders, m.order)
	for _, times := range up(spells, m.acceptedAt, m.validUntil) {
		need := prompt + mending + time.Duration(behind+1)*each
		for _, s := range spells {
			if s.from.Before(times[0]) {
				// The waits double: none is longer than twice the time since the trouble began.
				need += min(longestWait, max(2*times[0].Sub(s.from), maxRetryAfter)+2*time.Second) + recovers
				break
			}
		}
		if times[1].Sub(times[0]) < need {
			continue
		}
		due := times[0].Add(need)
		if taken := m.taken(); len(taken) == 0 || taken[0].taken.After(due) {
			c.add(
				"delivered if the network is well",
				m.order,
				due,
				"it was well from %s to %s, and took nothing within %v",
				bubble.ClockTime(times[0]),
				bubble.ClockTime(times[1]),
				need,
			)
			return
		}
	}
}

// diedOpen reports whether so many tries were begun by processes that died, before a call or in it, that Messenger may
// have had the message three times for all that is known.
func (c *checker) diedOpen(m *message) bool {
	if m.order.Conv.Property.Platform != ott.Messenger || !c.w.Faults.Any() {
		return false
	}
	failed, isFailed := m.final.find("Error")
	return isFailed && strings.Contains(failed.Reason, "without an answer") && len(c.hits(m.clientLog)) > 0
}

// quietIsOnTime: "conversations do not wait for each other, and no registration's endpoint can hold up another's":
// where neither AWS nor the message's own property and person are in trouble, it leaves at once.
func (c *checker) quietIsOnTime(m *message) {
	conv := m.order.Conv
	if c.w.Faults.Any() || len(conv.allSpells()) > 0 {
		return
	}
	due := m.acceptedAt
	for _, at := range conv.Property.registeredAt {
		if since := m.acceptedAt.Sub(at); since < unseenFor+time.Second {
			due = bubble.Later(due, at.Add(unseenFor)) // its credentials may not be there yet
		}
	}
	if i := slices.Index(conv.Orders, m.order); i > 0 {
		if before := c.byOrder[conv.Orders[i-1]]; before != nil && lastPost(before) != nil {
			due = bubble.Later(due, lastPost(before).ended)
		}
	}
	switch {
	case len(m.posts) == 0:
		c.add("the quiet are on time", m.order, due, "nothing is sent")
	case m.posts[0].begun.After(due.Add(prompt)):
		c.add("the quiet are on time", m.order, due, "it is %v late", m.posts[0].begun.Sub(due))
	}
}

// lineNeverTwice: a push has a retry key, so that LINE takes a message once; a reply has none.
func (c *checker) lineNeverTwice(m *message) {
	taken := m.taken()
	if m.order.Conv.Property.Platform != ott.LINE || len(taken) < 2 {
		return
	}
	// A reply that was not answered, or with a 5xx, or whose answer died with the process, may have been taken or not.
	first := taken[0]
	unsure := !first.heard || first.status >= 500 || c.hitWithin(m, first.arrived, taken[1].begun)
	if first.kind == callReply && unsure && len(taken) == 2 {
		return
	}
	c.add("LINE never twice", m.order, taken[1].taken, "it takes a %s after a %s of %s, that was answered: %v",
		taken[1].kind, taken[0].kind, bubble.ClockTime(taken[0].taken), taken[0].heard)
}

// messengerTwiceOnlyUnanswered: "A message that Messenger did not answer is tried three times at most"; one that it
// answered is not sent again, unless the process could not write that down.
func (c *checker) messengerTwiceOnlyUnanswered(m *message) {
	if m.order.Conv.Property.Platform != ott.Messenger {
		return
	}
	unanswered := 0
	for i, p := range m.posts {
		if p.unanswered() {
			if unanswered++; unanswered > maxUnanswered {
				c.add("three unanswered tries at most", m.order, p.begun, "it is the %dth", unanswered)
				return
			}
		}
		if i == len(m.posts)-1 || !p.heard || p.taken.IsZero() {
			continue
		}
		if next := m.posts[i+1]; !c.hitWithin(m, p.arrived, next.begun) {
			c.add("twice only if unanswered", m.order, next.begun, "it was taken at %s, and answered with %d",
				bubble.ClockTime(p.taken), p.status)
			return
		}
	}
}

// statusOnlyGoesOn: what a status tells stays so: Created, Queued, Sent, Delivered, Read are added, in this order, and
// a message that is final stays what it is.
func (c *checker) statusOnlyGoesOn(m *message) {
	order := []string{"Created", "Queued", "Sent", "Delivered", "Read", "Error"}
	all := append(slices.Clone(m.statuses), *m.final)
	for i, s := range all {
		last := -1
		for _, e := range s.events {
			rank := slices.Index(order, e.Event)
			if rank <= last {
				c.add("a status only goes on", m.order, s.at, "the order of %s", s.text())
				return
			}
			last = rank
		}
		if s.has("Sent") && s.has("Error") || !s.has("Created") || !s.has("Queued") ||
			(s.has("Delivered") || s.has("Read")) && !s.has("Sent") {
			c.add("a status only goes on", m.order, s.at, "%s", s.text())
			return
		}
		for _, later := range all[i+1:] {
			if later.sent.Before(s.at) {
				continue // at the same time
			}
			for _, e := range s.events {
				if now, still := later.find(e.Event); !still ||
					e.Event != "Delivered" && e.Event != "Read" && e.Event != "Error" &&
						!now.EventDateTime.Equal(e.EventDateTime) {
					c.add("a status only goes on", m.order, later.at, "%s became %s", s.text(), later.text())
					return
				}
			}
		}
	}
}

// stateWasSaid: what the network said, and a process heard that lived on, is the message's state; no state comes from
// nowhere; and the network's ids are kept.
func (c *checker) stateWasSaid(m *message) {
	isSent := m.final.has("Sent")
	var saidSent *post
	for _, p := range m.posts {
		if p.heard && (p.status < 300 || p.status == 409) {
			saidSent = p
			if !isSent && !c.hitWithin(m, p.begun, p.ended.Add(time.Minute)) {
				c.add("the state is what was said", m.order, p.ended, "the answer was %d, its status is %s", p.status,
					m.final.text())
				return
			}
		}
	}
	if isSent && saidSent == nil {
		c.add("the state is what was said", m.order, m.final.at, "nobody said it, and its status is %s", m.final.text())
		return
	}
	if isSent {
		right := slices.ContainsFunc(m.taken(), func(p *post) bool { return slices.Contains(m.final.ids, p.mid) })
		if !right {
			c.add("the network's ids are kept", m.order, m.final.at, "%v", m.final.ids)
		}
	}
}

// receiptsAreKept: "Delivered and Read come from the platform's receipts": a message is Delivered or Read if a receipt
// that was answered with 200 says so, and not otherwise.
func (c *checker) receiptsAreKept(m *message) {
	if !m.final.has("Sent") || m.order.Conv.Property.Platform != ott.Messenger {
		return
	}
	var by *post // the call that it is recorded by
	for _, p := range m.taken() {
		if slices.Contains(m.final.ids, p.mid) {
			by = p
			break
		}
	}
	if by == nil {
		return // stateWasSaid says it
	}
	for _, kind := range []struct {
		name string
		read bool
	}{{"Delivered", false}, {"Read", true}} {
		var must, may bool
		for _, t := range c.w.told {
			if t.conv != m.order.Conv {
				continue
			}
			for _, r := range t.receipts {
				if r.read != kind.read {
					continue
				}
				named := slices.Contains(r.mids, by.mid)
				may = may || named || !r.watermark.Before(by.told.Add(-time.Millisecond))
				// No watermark is taken for later than the callback that it is in, by the clock of who got it.
				upTo := bubble.Earlier(r.watermark, t.called.Add(-c.skew))
				if !t.kept.IsZero() && (named || !upTo.Before(bubble.Later(by.taken, by.told))) {
					must = true
				}
			}
		}
		has := m.final.has(kind.name)
		if has && !may || !has && must {
			c.add(
				"receipts are kept",
				m.order,
				by.taken,
				"%s: a receipt says so: %v; its status is %s",
				kind.name,
				must,
				m.final.text(),
			)
		}
	}
}

// reasonIsPresent: "While it is retried, Queued carries the last answer as its reason; an expired message's Error does
// too."
func (c *checker) reasonIsPresent(m *message) {
	for _, p := range m.posts {
		if !p.heard || p.status < 300 || p.status == 409 || p.kind == callReply {
			continue
		}
		from := p.ended.Add(time.Second)
		for _, s := range append(slices.Clone(m.statuses), *m.final) {
			if s.sent.Before(from) || c.hitWithin(m, p.begun, from.Add(10*time.Second)) {
				continue
			}
			queued, _ := s.find("Queued")
			failed, isFailed := s.find("Error")
			switch {
			case s.has("Sent"):
			case isFailed && !strings.Contains(failed.Reason, "answered") && !strings.Contains(failed.Reason, "answer"):
				c.add("an expired message says why", m.order, s.at, "%s", s.text())
				return
			case !isFailed && queued.Reason == "":
				c.add("what waits says why", m.order, s.at, "%s", s.text())
				return
			}
		}
	}
}

// retryAfterIsHonoured: a network that asks for a wait is not asked again before it is over.
func (c *checker) retryAfterIsHonoured(m *message) {
	for i, p := range m.posts[:max(0, len(m.posts)-1)] {
		next, earliest := m.posts[i+1], p.ended.Add(p.retryAfter)
		if p.heard && p.retryAfter > 0 && next.begun.Before(earliest.Add(-2*c.skew)) &&
			!c.hitWithin(m, p.begun, next.begun) {
			c.add("Retry-After is honoured", m.order, next.begun, "%v too early", earliest.Sub(next.begun))
		}
	}
}

// eventsAreOnTheBus: "Every verified event goes to the bundle's EventBridge bus …, at least once, before the 200", under
// the tenant and the property that it is of, unchanged, with its place in the call.
func (c *checker) eventsAreOnTheBus() {
	type onBus struct {
		Tenant, OttPropertyID string
		Index                 *int
		Event                 json.RawMessage
	}
	var all []onBus
	for _, p := range c.w.bus.published {
		var e onBus
		if p.detailType != "Messenger Event" {
			continue
		}
		if err := json.Unmarshal([]byte(p.detail), &e); err != nil {
			c.add("events are on the bus", nil, p.at, "%s: %v", p.detail, err)
		}
		all = append(all, e)
	}
	for _, t := range c.w.told {
		if t.kept.IsZero() {
			c.add(
				"callbacks are answered",
				nil,
				time.Now(),
				"%s of conversation %d was never answered with 200",
				t.id,
				t.conv.N,
			)
		}
		for i, event := range t.events {
			var first *onBus
			for _, e := range all {
				if string(e.Event) == event {
					first = &e
					break
				}
			}
			property := t.conv.Property
			switch {
			case first == nil && !t.kept.IsZero():
				c.add("events are on the bus", nil, t.kept, "%s was answered with 200, and is not there", event)
			case first == nil:
			case first.Tenant != property.Tenant || first.OttPropertyID != property.ID:
				c.add("events are on the bus", nil, t.kept, "%s is of tenant %s", event, first.Tenant)
			case first.Index != nil && *first.Index != i:
				c.add("events have their place", nil, t.kept, "%s has the index %d, not %d", event, *first.Index, i)
			}
		}
	}
}
