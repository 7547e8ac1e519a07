package store

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/engage"
)

// A chunk's state is one text in meta; a chunk that nobody has claimed has none. It is short, because meta is to stay
// under a kilobyte: times are milliseconds to the base of 36, and numbers that are 0 at the end are left out.
//
//	L<until>.<nonce>|<claims>|<attempt>|<tries>|<last>|<delivered>|<rejected>|<failed>  leased
//	W<at>|<claims>|<attempt>|<tries>|<last>|<delivered>|<rejected>|<failed>             waiting
//	F<letter>|<delivered after notBefore>|<delivered>|<rejected>|<failed>|<reason>      final
//
// The numbers of delivered, rejected and failed destinations are those that have a result of their own. In a final
// chunk all others have the state of the letter, and the reason.
//
// The nonce tells a lease from another that ends in the same millisecond, so that of two who claim at once each knows
// its own write when the SDK repeats it.
const (
	leased    = 'L'
	waiting   = 'W'
	final     = 'F'
	base      = 36
	separator = "|"
)

// letters are the states of the rest of a final chunk; where there is no rest it is "-".
var letters = map[engage.DestinationState]string{
	engage.StateDelivered: "d", engage.StateRejected: "r", engage.StateFailed: "f", engage.StateExpired: "e",
	engage.StateCancelled: "c", engage.StatePending: "-",
}

func encodeLease(state engage.ChunkState) string {
	const nonces = base * base * base
	nonce := strconv.FormatInt(rand.Int64N(nonces), base)
	head := string(leased) + encodeTime(state.Until) + "." + nonce
	return withNumbers(head, progressNumbers(state)...)
}

func encodeWaiting(state engage.ChunkState) string {
	return withNumbers(string(waiting)+encodeTime(state.Until), progressNumbers(state)...)
}

func progressNumbers(s engage.ChunkState) []int {
	return []int{s.Claims, s.Attempt, s.Tries, int(s.Last), s.Counts.Delivered, s.Counts.Rejected, s.Counts.Failed}
}

// encodeFinal writes a final state. Own are the counts of the destinations that have a result of their own.
func encodeFinal(own engage.Counts, rest engage.Result, notBefore time.Time) string {
	letter, known := letters[rest.State]
	if !known {
		letter = letters[engage.StatePending]
	}
	after := 0
	if !rest.DeliveredAt.IsZero() {
		after = int(rest.DeliveredAt.UnixMilli() - engage.Millis(notBefore))
	}
	numbers := []int{after, own.Delivered, own.Rejected, own.Failed}
	if rest.Reason == "" {
		return withNumbers(string(final)+letter, numbers...)
	}
	text := string(final) + letter
	for _, n := range numbers {
		text += separator + strconv.FormatInt(int64(n), base)
	}
	return text + separator + rest.Reason
}

func withNumbers(head string, numbers ...int) string {
	for len(numbers) > 0 && numbers[len(numbers)-1] == 0 {
		numbers = numbers[:len(numbers)-1]
	}
	var b strings.Builder
	b.WriteString(head)
	for _, n := range numbers {
		b.WriteString(separator)
		b.WriteString(strconv.FormatInt(int64(n), base))
	}
	return b.String()
}

func encodeTime(t time.Time) string { return strconv.FormatInt(engage.Millis(t), base) }

func decodeTime(text string) time.Time {
	ms, _ := strconv.ParseInt(text, base, 64) // what encodeTime wrote
	return time.UnixMilli(ms).UTC()
}

// decodeState returns the state of a chunk of that size. What it cannot read is a chunk that waits since notBefore.
func decodeState(value types.AttributeValue, size int, notBefore time.Time) engage.ChunkState {
	state := engage.ChunkState{Counts: engage.Counts{Total: size, Pending: size}}
	if value == nil {
		return state
	}
	text, _ := value.(*types.AttributeValueMemberS)
	if text == nil || text.Value == "" {
		state.Phase, state.Until = engage.Waiting, notBefore
		return state
	}
	switch text.Value[0] {
	case leased, waiting:
		fields := strings.Split(text.Value[1:], separator)
		until, _, _ := strings.Cut(fields[0], ".")
		state.Phase, state.Until = engage.Waiting, decodeTime(until)
		if text.Value[0] == leased {
			state.Phase = engage.Leased
		}
		state.Claims, state.Attempt, state.Tries = number(fields, 1), number(fields, 2), number(fields, 3)
		state.Last = engage.GatewayAnswer(number(fields, 4))
		own := engage.Counts{Delivered: number(fields, 5), Rejected: number(fields, 6), Failed: number(fields, 7)}
		state.Counts = withPending(own, size)
	case final:
		state.Phase = engage.Final
		decodeFinal(&state, text.Value[1:], size, notBefore)
	default:
		state.Phase, state.Until = engage.Waiting, notBefore
	}
	return state
}

func decodeFinal(state *engage.ChunkState, text string, size int, notBefore time.Time) {
	const reasonBehind = 6 // fields, of which the reason may hold the separator
	fields := strings.SplitN(text, separator, reasonBehind)
	own := engage.Counts{Delivered: number(fields, 2), Rejected: number(fields, 3), Failed: number(fields, 4)}
	counts := withPending(own, size)
	state.RestSize, counts.Pending = counts.Pending, 0
	counts.Total -= state.RestSize
	for name, letter := range letters {
		if letter == fields[0] {
			state.Rest.State = name
		}
	}
	if state.Rest.State == engage.StateDelivered {
		state.Rest.DeliveredAt = time.UnixMilli(engage.Millis(notBefore) + int64(number(fields, 1))).UTC()
	}
	if len(fields) == reasonBehind {
		state.Rest.Reason = fields[reasonBehind-1]
	}
	counts.Add(state.Rest.State, state.RestSize)
	state.Counts = counts
}

func withPending(own engage.Counts, size int) engage.Counts {
	own.Total = size
	own.Pending = size - own.Delivered - own.Rejected - own.Failed
	return own
}

func number(fields []string, i int) int {
	if i >= len(fields) {
		return 0
	}
	n, _ := strconv.ParseInt(fields[i], base, 64) // what withNumbers wrote
	return int(n)
}

// sameText reports whether an attribute is that text.
func sameText(value types.AttributeValue, text string) bool {
	s, ok := value.(*types.AttributeValueMemberS)
	return ok && s.Value == text
}

// chunkAttribute is the attribute of a chunk's state.
func chunkAttribute(i int) string { return "c" + strconv.Itoa(i) }
