package deliver

import (
	"time"

	"carillon/shared/engage"
	"carillon/shared/engage/deliver/results"
)

// kind is what the gateway made of a POST as a whole.
type kind int

const (
	again     kind = iota // the same POST is to be sent again
	delivered             // it said nothing of any destination: all are delivered
	refused               // every destination failed
	each                  // it has results
)

// answer is what came of a POST.
type answer struct {
	kind    kind
	said    engage.GatewayAnswer
	cause   error         // of what never was an answer
	after   time.Duration // again: the wait that the gateway asks for, 0 if it asks for none
	at      time.Time     // delivered
	results results.Set   // each
}

// tally is what a POST is measured by.
type tally struct {
	failed    int // 1 if the POST failed as a whole
	retries   int // destinations that are to be sent again, alone
	unmatched int // results for numbers that were not asked about
	odd       int // items that say nothing that can be used
}

// errors is the POST's share of the metric gatewayErrors (docs/contract.md §2).
func (t tally) errors() int { return t.failed + t.retries + t.unmatched + t.odd }
