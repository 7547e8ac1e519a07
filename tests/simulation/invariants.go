package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"carillon/shared/engage"
	"carillon/shared/engage/api"
	"carillon/tests/simulation/bubble"
)

// Violation is something that must not be.
type Violation struct {
	Invariant string
	Seed      uint64
	RequestID string
	Chunk     int // -1 if it is of no chunk
	At        time.Time
	What      string

	order int // -1 if it is of no push
}

func (v Violation) String() string {
	text := fmt.Sprintf("  VIOLATION of %q, seed %d", v.Invariant, v.Seed)
	if v.order >= 0 {
		text += fmt.Sprintf(", push %d %s", v.order, v.RequestID)
	}
	if v.Chunk >= 0 {
		text += fmt.Sprintf(", chunk %d", v.Chunk)
	}
	return text + fmt.Sprintf(", at %s: %s", bubble.ClockTime(v.At), v.What)
}

// The allowances of the invariants.
const (
	// longestWait is the longest wait between two tries: 30 s (docs/contract.md §2), or half of what is left of the
	// ttl.
	longestWait = 30 * time.Second
	// round is for a breaker that tries one chunk before the others, or for the queue.
	round = 5 * time.Second
	// hangs is for POSTs that were begun while the gateway hung, and end in it.
	hangs = 20 * time.Second
	// sweeps is how long engage-schedule needs to mend what a fault broke.
	sweeps = 150 * time.Second
	// prompt is how soon after its time a push's first POST begins.
	prompt = time.Second
	// claimAhead is until how long before notBefore a cancellation holds.
	claimAhead = 500 * time.Millisecond
	// lastAttempt is the number of the last of the five attempts that destinations have; the first is 0.
	lastAttempt = 4
)

// checker holds a run to what must hold of each.
type checker struct {
	w          *world
	e          *ending
	skew       time.Duration // how far a process's clock may be off
	violations []Violation
}

func check(w *world, e *ending) []Violation {
	c := &checker{w: w, e: e, skew: w.scenario.faults.Skew}
	c.answersAreExpected()
	c.acceptedIsDurable()
	c.oneRequestForOneOrder()
	c.sameIDSameBody()
	c.nothingIsLeft()
	c.hangingIsBounded()
	for _, push := range e.pushes {
		c.notBeforeIsKept(push)
		c.neverEarly(push)
		c.neverLate(push)
		c.deliveredInTime(push)
		c.firstPostIsPrompt(push)
		c.oneAtATime(push)
		c.resultsAreNotSentAgain(push)
		c.attemptsEnd(push)
		c.retryAfterIsHonoured(push)
		c.deadGatewayIsSpared(push)
		c.cancelledIsNotSent(push)
		c.cancelHoldsUntilClaimed(push)
		c.cancelHoldsWhileRetrying(push)
		c.cancelAddsUp(push)
		c.statusAddsUp(push)
		c.statusAgreesWithRows(push)
		c.endsFinal(push)
		c.stateIsWhatWasSaid(push)
		c.stateWasSaid(push)
	}
	slices.SortStableFunc(c.violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.order, b.order), a.At.Compare(b.At))
	})
	return c.violations
}

func (c *checker) add(invariant string, push *finalPush, chunk int, at time.Time, what string, args ...any) {
	v := Violation{
		Invariant: invariant, Seed: c.w.scenario.Seed, Chunk: chunk, At: at, What: fmt.Sprintf(what, args...),
		order: -1,
	}
	if push != nil {
		v.RequestID, v.order = push.meta.RequestID, push.log.order.N
	}
	c.violations = append(c.violations, v)
}

// hitWithin returns whether the platform's trouble met a push within a time.
func (c *checker) hitWithin(push *finalPush, from, to time.Time) bool {
	from = from.Add(-2 * c.skew) // a process told it, by its own clock
	within := func(h bubble.Hit) bool { return !h.At.Before(from) && !h.At.After(to) }
	own, all := c.w.Hits(push.meta.RequestID)
	return slices.ContainsFunc(own, within) || slices.ContainsFunc(all, within)
}

// mending returns how long the platform's trouble may hold up a push: a round of sweeps for each time that it met the
// push, and a minute for each sweep that was not.
func (c *checker) mending(push *finalPush) time.Duration {
	var sum time.Duration
	var last time.Time
	own, all := c.w.Hits(push.meta.RequestID)
	for _, h := range own {
		if h.At.Sub(last) > time.Minute {
			sum, last = sum+sweeps, h.At
		}
	}
	for _, h := range all {
		if h.At.After(push.meta.NotBefore.Add(-2*sweeps)) && h.At.Before(push.meta.DeliverBefore()) {
			sum += sweeps
		}
	}
	return sum
}

// numbersOf returns the bNumbers of a chunk.
func numbersOf(push *finalPush, chunk int) []string {
	var numbers []string
	for i, row := range push.rows {
		if push.chunkOf(i) == chunk {
			numbers = append(numbers, row.BNumber)
		}
	}
	return numbers
}

// postsOf returns the POSTs of a chunk, in the order in which they were begun.
func postsOf(push *finalPush, chunk int) []*post {
	var posts []*post
	for _, p := range push.posts {
		if p.chunk == chunk {
			posts = append(posts, p)
		}
	}
	return posts
}

// answersAreExpected: a push that is right is accepted, and no request of a client is refused for another reason than
// the contract has (docs/contract.md §2, the table of errors).
func (c *checker) answersAreExpected() {
	for _, log := range c.w.clients {
		for _, problem := range log.problems {
			c.add("answers are expected", nil, -1, log.sentAt, "push %d: %s", log.order.N, problem)
		}
	}
	for _, p := range c.w.gateway.posts {
		if p.signedBadly != "" {
			c.add("POSTs are signed", nil, -1, p.begun, "%s: %s", p.id, p.signedBadly)
		}
	}
}

// acceptedIsDurable: "Answers only once the push is durable."
func (c *checker) acceptedIsDurable() {
	for _, log := range c.w.clients {
		if log.requestID != "" && c.e.byID[log.requestID] == nil {
			c.add("accepted is durable", nil, -1, log.acceptedAt, "push %d, %s", log.order.N, log.requestID)
		}
	}
}

// oneRequestForOneOrder: "Idempotency-Key: … pushes nothing"; what was sent again under its key is one push.
func (c *checker) oneRequestForOneOrder() {
	sent := map[int][]string{}
	for _, p := range c.w.gateway.posts {
		if p.order != nil && !slices.Contains(sent[p.order.N], p.requestID) {
			sent[p.order.N] = append(sent[p.order.N], p.requestID)
		}
	}
	for n, ids := range sent {
		if len(ids) > 1 {
			c.add("one request for one order", c.e.byID[ids[0]], -1, bubble.Beginning, "push %d was sent as %v", n, ids)
		}
	}
}

// sameIDSameBody: webhook-id is "the same on every retry", so what it names is the same too.
func (c *checker) sameIDSameBody() {
	bodies := map[string]string{}
	for _, p := range c.w.gateway.posts {
		if body, known := bodies[p.id]; known && body != p.body {
			c.add("same webhook-id, same body", c.e.byID[p.requestID], p.chunk, p.begun, "%s has another body", p.id)
		}
		bodies[p.id] = p.body
	}
}

// nothingIsLeft: "A job that is lost is found by the table", and when all is final nothing is due and nothing queued.
func (c *checker) nothingIsLeft() {
	for _, id := range c.e.due {
		c.add("nothing is left in the due index", c.e.byID[id], -1, time.Now(), "%s", id)
	}
	for _, q := range c.w.queues {
		for _, m := range q.messages {
			if m.receives > 0 && m.visible.After(time.Now()) {
				continue // a process died with it of late: nobody can have it before its visibility time-out is over
			}
			c.add("nothing is left in a queue", c.e.byID[m.requestID], -1, time.Now(), "%s holds %s", q.name, m.body)
		}
		for _, m := range q.dead {
			if !c.w.scenario.faults.Any() {
				c.add("no dead letters", c.e.byID[m.requestID], -1, time.Now(), "%s: %s", q.name, m.body)
			}
		}
	}
}

// hangingIsBounded: a gateway side that hangs holds no more than its share of places (docs/design.md, planned: permits
// by tenant).
func (c *checker) hangingIsBounded() {
	type change struct {
		at   time.Time
		by   int
		post *post
	}
	changes := map[string][]change{}
	for _, p := range c.w.gateway.posts {
		if p.mode == modeHang && p.order != nil {
			name := p.order.Tenant.Name
			changes[name] = append(changes[name], change{p.begun, 1, p}, change{p.ended, -1, p})
		}
	}
	for name, list := range changes {
		slices.SortStableFunc(
			list,
			func(a, b change) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.by, b.by)) },
		)
		open, most, at := 0, 0, time.Time{}
		for _, ch := range list {
			if open += ch.by; open > most {
				most, at = open, ch.at
			}
		}
		if most > maxHanging {
			c.add(
				"hanging is bounded",
				nil,
				-1,
				at,
				"%s has %d POSTs under way that hang, more than %d",
				name,
				most,
				maxHanging,
			)
		}
	}
}

// notBeforeIsKept: "notBefore: … absent, null or past = now".
func (c *checker) notBeforeIsKept(push *finalPush) {
	o, kept := push.log.order, push.meta.NotBefore
	if !o.NotBefore.IsZero() && kept.Equal(o.NotBefore) {
		return
	}
	answered := push.log.acceptedAt
	if answered.IsZero() {
		return // nobody knows when it was accepted
	}
	switch {
	case o.NotBefore.After(answered.Add(c.skew)):
		c.add("notBefore is kept", push, -1, answered, "%v became %v", o.NotBefore, kept)
	case kept.Before(push.log.sentAt.Add(-c.skew)), kept.After(answered.Add(c.skew + time.Millisecond)):
		c.add("notBefore is kept", push, -1, answered, "now became %v", kept)
	}
}

// neverEarly: "Never delivered before notBefore."
func (c *checker) neverEarly(push *finalPush) {
	for _, p := range push.posts {
		if p.begun.Before(push.meta.NotBefore.Add(-c.skew)) {
			c.add("never early", push, p.chunk, p.begun, "%v before its time", push.meta.NotBefore.Sub(p.begun))
		}
		if !p.notBefore.Equal(push.meta.NotBefore) {
			c.add("the body tells notBefore", push, p.chunk, p.begun, "%v is not %v", p.notBefore, push.meta.NotBefore)
		}
	}
}

// neverLate: "never after notBefore + ttlSeconds (then the destination is expired)".
func (c *checker) neverLate(push *finalPush) {
	for _, p := range push.posts {
		if p.begun.After(push.meta.DeliverBefore().Add(c.skew)) {
			c.add(
				"never late",
				push,
				p.chunk,
				p.begun,
				"%v after deliverBefore",
				p.begun.Sub(push.meta.DeliverBefore()),
			)
		}
	}
}

// deliveredInTime: "the same chunk again, backoff with full jitter up to 30 s … until deliverBefore". A gateway side
// that is up for as long as the longest wait has the push by then.
func (c *checker) deliveredInTime(push *finalPush) {
	o, expiry := push.log.order, push.meta.DeliverBefore()
	if !push.meta.CancelledAt.IsZero() {
		return
	}
	from := bubble.Later(push.meta.NotBefore, bubble.Later(push.meta.CreatedAt, push.log.acceptedAt))
	mending := c.mending(push)
	for chunk := range push.meta.Chunks {
		posts, numbers := postsOf(push, chunk), numbersOf(push, chunk)
		for _, times := range o.Tenant.up(from, expiry) {
			need := round + mending
			if times[0].After(from) {
				need += max(time.Second, min(longestWait, expiry.Sub(times[0])/2))
				for _, s := range o.Tenant.spells {
					if s.to.Equal(times[0]) && (s.mode == modeHang || s.mode == modeSlow) {
						need += hangs
					}
				}
				for _, p := range posts {
					if p.retryAfter > 0 && p.begun.Before(times[0]) {
						need = max(need, p.ended.Add(p.retryAfter*11/10).Sub(times[0])+round+mending)
					}
				}
			}
			if times[1].Sub(times[0]) < need {
				continue
			}
			missing := slices.DeleteFunc(slices.Clone(numbers), func(number string) bool {
				return slices.ContainsFunc(posts, func(p *post) bool {
					return p.meaning(number) != saidNothing && p.ended.Before(times[0].Add(need)) ||
						p.attempt >= lastAttempt && p.begun.Before(times[0])
				})
			})
			if len(missing) > 0 {
				c.add(
					"delivered in time",
					push,
					chunk,
					times[0].Add(need),
					"the gateway side was up from %s to %s, and within %v %d of %d destinations had no result: %s",
					bubble.ClockTime(
						times[0],
					),
					bubble.ClockTime(times[1]),
					need,
					len(missing),
					len(numbers),
					missing[0],
				)
				break
			}
		}
	}
}

// firstPostIsPrompt: no provider's trouble is another's (docs/design.md): beside any noisy one a quiet one's first POST
// comes when it is time.
func (c *checker) firstPostIsPrompt(push *finalPush) {
	o := push.log.order
	profile := c.w.scenario.Profile
	if o.Tenant.Noisy || profile != NoisyNeighbour && profile != GatewayTrouble || !push.meta.CancelledAt.IsZero() ||
		push.log.acceptedAt.IsZero() {
		return
	}
	due := bubble.Later(push.meta.NotBefore, push.log.acceptedAt)
	if up := o.Tenant.up(due.Add(-30*time.Second), due.Add(prompt)); len(up) != 1 ||
		up[0][1].Sub(up[0][0]) < 30*time.Second+prompt {
		return // its own trouble
	}
	for chunk := range push.meta.Chunks {
		posts := postsOf(push, chunk)
		switch {
		case len(posts) == 0:
			c.add("the first POST is prompt", push, chunk, due, "there is none")
		case posts[0].begun.After(due.Add(prompt)):
			c.add("the first POST is prompt", push, chunk, due, "it is %v late", posts[0].begun.Sub(due))
		}
	}
}

// oneAtATime: "One POST per chunk"; two processes never send the same chunk at the same time (docs/design.md, leases).
func (c *checker) oneAtATime(push *finalPush) {
	for chunk := range push.meta.Chunks {
		posts := postsOf(push, chunk)
		for i, p := range posts[:max(0, len(posts)-1)] {
			if next := posts[i+1]; next.begun.Add(2 * c.skew).Before(p.ended) {
				c.add(
					"one POST of a chunk at a time",
					push,
					chunk,
					next.begun,
					"%s begins %s while %s has %s under way",
					next.process,
					next.id,
					p.process,
					p.id,
				)
			}
		}
	}
}

// resultsAreNotSentAgain: "recorded per bNumber, each for itself; retry, an item that is odd in any way, and a bNumber
// without a result, are sent again (alone) under webhook-id {requestId}.{chunk}.{attempt}". Only a process that died,
// or could not write down what it had heard, may send an answered POST again, and then under the same id.
func (c *checker) resultsAreNotSentAgain(push *finalPush) {
	for chunk := range push.meta.Chunks {
		posts := postsOf(push, chunk)
		for i, p := range posts {
			if !p.heard || !p.answered {
				continue
			}
			for _, later := range posts[i+1:] {
				if later.begun.Before(p.ended) || c.hitWithin(push, p.begun, later.begun) {
					continue
				}
				n := slices.IndexFunc(
					later.numbers,
					func(number string) bool { return p.meaning(number) != saidNothing },
				)
				switch {
				case n >= 0:
					c.add(
						"results are not sent again",
						push,
						chunk,
						later.begun,
						"%s has %s, which %s had answered: %s",
						later.id,
						later.numbers[n],
						p.id,
						p.meaning(later.numbers[n]),
					)
				case later.id == p.id:
					c.add("an answered POST is not sent again", push, chunk, later.begun, "%s", later.id)
				default:
					continue
				}
				break
			}
		}
	}
}

// attemptsEnd: "five attempts at most, then failed with that as the reason".
func (c *checker) attemptsEnd(push *finalPush) {
	for _, p := range push.posts {
		if p.attempt > lastAttempt {
			c.add("attempts end", push, p.chunk, p.begun, "%s", p.id)
			return
		}
	}
}

// retryAfterIsHonoured: "Retry-After honoured (never earlier …)".
func (c *checker) retryAfterIsHonoured(push *finalPush) {
	for chunk := range push.meta.Chunks {
		posts := postsOf(push, chunk)
		for i, p := range posts[:max(0, len(posts)-1)] {
			next, earliest := posts[i+1], p.ended.Add(p.retryAfter)
			if p.heard && p.retryAfter > 0 && next.begun.Before(earliest.Add(-2*c.skew)) &&
				!c.hitWithin(push, p.begun, next.begun) {
				c.add("Retry-After is honoured", push, chunk, next.begun, "%v too early", earliest.Sub(next.begun))
			}
		}
	}
}

// deadGatewayIsSpared: backoff: a chunk is POSTed a logarithmic number of times, then once in 15 s on the average, to a
// gateway side that is dead; twice that is too often.
func (c *checker) deadGatewayIsSpared(push *finalPush) {
	for _, s := range push.log.order.Tenant.spells {
		if !s.mode.isDead() {
			continue
		}
		limit := 12 + int(s.to.Sub(s.from)/(7*time.Second))
		for chunk := range push.meta.Chunks {
			n := 0
			for _, p := range postsOf(push, chunk) {
				if !p.begun.Before(s.from) && p.begun.Before(s.to) {
					n++
				}
			}
			if n > limit {
				c.add(
					"a dead gateway is spared",
					push,
					chunk,
					s.from,
					"%d POSTs in %v, more than %d",
					n,
					s.to.Sub(s.from),
					limit,
				)
			}
		}
	}
}

// cancelledIsNotSent: DELETE "cancels every destination that has no final result and is not in a POST under way": what
// ends as cancelled was not sent after the answer. A chunk that was claimed then is under way, and said to be pending:
// its POST may begin up to claimAhead later, and fail, and then it is cancelled.
func (c *checker) cancelledIsNotSent(push *finalPush) {
	// From the claim's time to its write, and from the answer's read to its arrival.
	const written = 300 * time.Millisecond
	for _, cancel := range push.log.cancels {
		from := cancel.at
		if cancel.body.Counts.Pending > 0 {
			from = from.Add(claimAhead + written + c.skew)
		}
		if cancel.status != 200 {
			continue
		}
		for i, row := range push.rows {
			if row.State != engage.StateCancelled {
				continue
			}
			for _, p := range push.posts {
				if p.begun.After(from) && slices.Contains(p.numbers, row.BNumber) {
					c.add("cancelled is not sent", push, push.chunkOf(i), p.begun, "%s is sent %v after the answer",
						row.BNumber, p.begun.Sub(cancel.at))
					return
				}
			}
		}
	}
}

// cancelHoldsUntilClaimed: "It holds until 0.5 s before notBefore."
func (c *checker) cancelHoldsUntilClaimed(push *finalPush) {
	for _, cancel := range push.log.cancels {
		sentBefore := slices.ContainsFunc(push.posts, func(p *post) bool { return p.begun.Before(cancel.at) })
		inTime := cancel.at.Before(push.meta.NotBefore.Add(-claimAhead - 2*c.skew))
		if cancel.status == 404 || cancel.status == 409 && inTime && !sentBefore {
			c.add(
				"DELETE holds until 0.5 s before notBefore",
				push,
				-1,
				cancel.at,
				"it answered %d, %v before notBefore",
				cancel.status,
				push.meta.NotBefore.Sub(cancel.at),
			)
		}
	}
}

// cancelHoldsWhileRetrying: DELETE cancels "what waits, and what keeps failing"; "409 when nothing was left to cancel".
func (c *checker) cancelHoldsWhileRetrying(push *finalPush) {
	const near = 600 * time.Millisecond // claimed for a POST, or about to be written down
	for _, cancel := range push.log.cancels {
		if cancel.status != 409 {
			continue
		}
		for chunk := range push.meta.Chunks {
			var before, after, during int
			answered := map[string]bool{}
			for _, p := range postsOf(push, chunk) {
				switch {
				case p.ended.Before(cancel.sent.Add(-near)):
					before++
					for _, number := range p.numbers {
						answered[number] = answered[number] || p.meaning(number) != saidNothing
					}
				case p.begun.After(cancel.at.Add(near + 2*c.skew)):
					after++
				default:
					during++
				}
			}
			waits := slices.ContainsFunc(numbersOf(push, chunk), func(number string) bool { return !answered[number] })
			if before > 0 && after > 0 && during == 0 && waits && !c.hitWithin(push, push.meta.CreatedAt, cancel.at) {
				c.add(
					"DELETE holds while a chunk is retried",
					push,
					chunk,
					cancel.at,
					"it answered 409 between two POSTs",
				)
				return
			}
		}
	}
}

// cancelAddsUp: "200 with requestId, state and counts, again 200 when repeated".
func (c *checker) cancelAddsUp(push *finalPush) {
	cancels := slices.Clone(push.log.cancels)
	slices.SortFunc(cancels, func(a, b answered[api.Summary]) int { return a.at.Compare(b.at) })
	held := time.Time{}
	for _, cancel := range cancels {
		if cancel.status != 200 {
			if !held.IsZero() && held.Before(cancel.sent) {
				c.add("DELETE is again 200 when repeated", push, -1, cancel.at, "it answered %d", cancel.status)
			}
			continue
		}
		held = cancel.at
		n := cancel.body.Counts
		if sum := n.Pending + n.Delivered + n.Rejected + n.Failed + n.Expired + n.Cancelled; sum != n.Total ||
			n.Total != len(push.rows) || cancel.body.State != engage.PushCancelled {
			c.add("DELETE adds up", push, -1, cancel.at, "%s %+v", cancel.body.State, n)
		}
		if final := push.meta.Counts(); final.Cancelled < n.Cancelled || final.Delivered < n.Delivered {
			c.add("DELETE adds up", push, -1, cancel.at, "%+v became %+v", n, final)
		}
	}
}

// statusAddsUp: "counts that always add up to total", and final ones that do not fall.
func (c *checker) statusAddsUp(push *finalPush) {
	for _, status := range push.log.statuses {
		n, final := status.body.Counts, push.meta.Counts()
		if sum := n.Pending + n.Delivered + n.Rejected + n.Failed + n.Expired + n.Cancelled; sum != n.Total ||
			n.Total != len(push.rows) {
			c.add("GET adds up", push, -1, status.at, "%+v", n)
		}
		if n.Delivered > final.Delivered || n.Rejected > final.Rejected || n.Failed > final.Failed ||
			n.Expired > final.Expired || n.Cancelled > final.Cancelled {
			c.add("GET adds up", push, -1, status.at, "%+v became %+v", n, final)
		}
	}
}

// statusAgreesWithRows: counts "agree with the rows of the same answer".
func (c *checker) statusAgreesWithRows(push *finalPush) {
	for _, status := range push.log.statuses {
		if len(status.body.Destinations) < status.body.Counts.Total {
			continue // a page of it
		}
		states := map[engage.DestinationState]int{}
		for _, row := range status.body.Destinations {
			states[row.State]++
		}
		n := status.body.Counts
		if states[engage.StatePending] != n.Pending || states[engage.StateDelivered] != n.Delivered ||
			states[engage.StateRejected] != n.Rejected || states[engage.StateFailed] != n.Failed ||
			states[engage.StateExpired] != n.Expired || states[engage.StateCancelled] != n.Cancelled {
			c.add("GET's counts agree with its rows", push, -1, status.at, "%+v, but %v", n, states)
		}
	}
}

// endsFinal: every destination ends in one final state, and the push with them.
func (c *checker) endsFinal(push *finalPush) {
	numbers := map[string]bool{}
	for i, row := range push.rows {
		numbers[row.BNumber] = true
		switch row.State {
		case engage.StateDelivered,
			engage.StateRejected,
			engage.StateFailed,
			engage.StateExpired,
			engage.StateCancelled:
		default:
			c.add("all ends final", push, push.chunkOf(i), time.Now(), "%s is %s", row.BNumber, row.State)
			return
		}
	}
	if len(numbers) != push.log.order.Size || !push.meta.Finished() {
		c.add("all ends final", push, -1, time.Now(), "%d destinations, %+v", len(numbers), push.meta.Counts())
	}
}

// stateOf returns the final state that a meaning leads to.
func stateOf(s said) engage.DestinationState {
	return map[said]engage.DestinationState{
		saidDelivered: engage.StateDelivered, saidRejected: engage.StateRejected, saidFailed: engage.StateFailed,
	}[s]
}

// stateIsWhatWasSaid: what the gateway said of a destination, and a process heard that lived on, is its state.
func (c *checker) stateIsWhatWasSaid(push *finalPush) {
	for i, row := range push.rows {
		for _, p := range push.posts {
			meaning := p.meaning(row.BNumber)
			if !p.heard || meaning == saidNothing {
				continue
			}
			// What counts is the first answer.
			if !c.hitWithin(push, p.begun, p.ended.Add(time.Minute)) && row.State != stateOf(meaning) {
				c.add("the state is what the gateway said", push, push.chunkOf(i), p.ended,
					"%s is %s (%s), but the answer to %s meant %s", row.BNumber, row.State, row.Reason, p.id, meaning)
				return
			}
			break
		}
	}
}

// stateWasSaid: no state comes from nowhere.
func (c *checker) stateWasSaid(push *finalPush) {
	for i, row := range push.rows {
		wasSaid := func(meaning said) bool {
			return slices.ContainsFunc(
				push.posts,
				func(p *post) bool { return p.heard && p.meaning(row.BNumber) == meaning },
			)
		}
		var right bool
		switch row.State {
		case engage.StateDelivered:
			right = wasSaid(saidDelivered)
		case engage.StateRejected:
			right = wasSaid(saidRejected)
		case engage.StateFailed:
			right = wasSaid(saidFailed) || slices.ContainsFunc(push.posts, func(p *post) bool {
				return p.attempt == lastAttempt && slices.Contains(p.numbers, row.BNumber)
			})
		case engage.StateCancelled:
			right = len(push.log.order.CancelAt) > 0
		case engage.StateExpired:
			right = !strings.HasPrefix(row.Reason, "the gateway answered 4")
		default:
			right = true // endsFinal says it
		}
		if !right {
			c.add(
				"a state was said",
				push,
				push.chunkOf(i),
				time.Now(),
				"%s is %s (%s)",
				row.BNumber,
				row.State,
				row.Reason,
			)
			return
		}
	}
}
