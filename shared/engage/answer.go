package engage

import "fmt"

// GatewayAnswer is what the device gateway said to a POST, as it is kept with a chunk that waits: an HTTP status, or
// one of the values below. Its zero value is no answer yet.
type GatewayAnswer int

// What is no status. They are kept in the pushes table, so their numbers stay.
const (
	NoAnswerYet GatewayAnswer = iota
	// TimedOut: nothing came within the time-out.
	TimedOut
	// BrokenConnection: the connection could not be made, or broke.
	BrokenConnection
	// UnreadableAnswer: a 2xx whose body is not the one that docs/contract.md §2 has.
	UnreadableAnswer
	// OversizedAnswer: a 2xx with a body that is too large.
	OversizedAnswer
	// Unsigned is none of the gateway's: the POST could not be signed, because the signing secret is unusable.
	Unsigned
	// NoResult: it gave no usable result for a destination, or wants it again.
	NoResult
)

// String says it in words, for people.
func (a GatewayAnswer) String() string {
	switch a {
	case NoAnswerYet:
		return "none"
	case TimedOut:
		return "a time-out"
	case BrokenConnection:
		return "a broken connection"
	case UnreadableAnswer:
		return "a body that is not the contract's"
	case OversizedAnswer:
		return "a body that is too large"
	case Unsigned:
		return "none, for the signing secret is unusable"
	case NoResult:
		return "no result"
	default:
		return fmt.Sprintf("status %d", int(a))
	}
}

// ExpiredReason is why a destination expired, with the gateway's last answer.
func (a GatewayAnswer) ExpiredReason() string {
	const expired = "not delivered before notBefore + ttlSeconds"
	if a == NoAnswerYet {
		return expired
	}
	return expired + "; the gateway's last answer: " + a.String()
}
