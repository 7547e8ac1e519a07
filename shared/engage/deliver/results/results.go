// Package results reads what the device gateway answers of each destination (docs/contract.md §2, "The device gateway").
// Each item stands for itself: one that is odd costs no other its result.
package results

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/engage"
	"carillon/shared/sanitize"
)

// ErrBody says that a body is not {"results":[…]}.
var ErrBody = errors.New(`results: the body is not {"results":[…]}`)

// Set is what an answer says of destinations.
type Set struct {
	byNumber map[string]engage.Result
	// Odd is how many items say nothing that can be used.
	Odd int
}

// Trim returns a body without a byte order mark and blanks around it: nothing, if it has nothing else.
func Trim(body []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\ufeff")))
}

// item is what decides of an element of results. What of it is of another type than it should be is odd, and costs
// nothing else.
type item struct {
	BNumber jsontext.Value `json:"bNumber"`
	Status  jsontext.Value `json:"status"`
	Reason  jsontext.Value `json:"reason"`
}

// Decode reads a body that was answered at a time. Members may come twice, and in bad UTF-8: what can be read is taken.
// It returns ErrBody.
func Decode(body []byte, at time.Time) (Set, error) {
	lenient := []json.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
	var answer struct {
		Results jsontext.Value `json:"results"`
	}
	if json.Unmarshal(body, &answer, lenient...) != nil {
		return Set{}, ErrBody
	}
	var items []jsontext.Value
	if answer.Results.Kind() != '[' || json.Unmarshal(answer.Results, &items, lenient...) != nil {
		return Set{}, ErrBody
	}
	set := Set{byNumber: make(map[string]engage.Result, len(items))}
	for _, raw := range items {
		var i item
		if raw.Kind() != '{' || json.Unmarshal(raw, &i, lenient...) != nil || !set.add(i, at) {
			set.Odd++
		}
	}
	return set, nil
}

// add takes an item's result, unless there is a better one of the same number. It reports whether the item says one.
func (s Set) add(i item, at time.Time) bool {
	number := Digits(text(i.BNumber))
	if number == "" {
		return false
	}
	result := engage.Result{Reason: sanitize.Text(text(i.Reason), sanitize.MaxReason)}
	switch text(i.Status) {
	case "delivered":
		result.State, result.DeliveredAt = engage.StateDelivered, at
	case "rejected":
		result.State = engage.StateRejected
	case "retry":
		result.State = engage.StatePending
	default:
		return false
	}
	if known, twice := s.byNumber[number]; !twice || rank(result) > rank(known) {
		s.byNumber[number] = result
	}
	return true
}

// rank orders the results of one number: the better one stands.
func rank(r engage.Result) int {
	switch r.State {
	case engage.StateDelivered:
		return 2
	case engage.StateRejected:
		return 1
	default:
		return 0
	}
}

// text is a JSON string or number as it is written, "" for anything else.
func text(value jsontext.Value) string {
	switch value.Kind() {
	case '"':
		unquoted, err := jsontext.AppendUnquote(nil, value)
		if err != nil && len(unquoted) == 0 {
			return ""
		}
		return string(unquoted)
	case '0':
		return string(value)
	default:
		return ""
	}
}

// Of returns the result of a destination and whether there is one. It is pending, with the gateway's reason, if the
// gateway wants the destination again.
func (s Set) Of(bNumber string) (engage.Result, bool) {
	result, there := s.byNumber[Digits(bNumber)]
	return result, there
}

// Len is how many numbers the set has results of.
func (s Set) Len() int { return len(s.byNumber) }

// Digits is what numbers are compared by: +1…, 001…, tel:+1…, %2B1… and those with spaces or hyphens are one. It is
// empty for what is no number.
func Digits(number string) string {
	if plain := strings.TrimPrefix(number, "+"); isDigits(plain) && !strings.HasPrefix(plain, "00") {
		return plain // what all but a few are
	}
	if unescaped, err := url.PathUnescape(number); err == nil {
		number = unescaped
	}
	number = strings.TrimSpace(number)
	const scheme = "tel:"
	if len(number) >= len(scheme) && strings.EqualFold(number[:len(scheme)], scheme) {
		number, _, _ = strings.Cut(number[len(scheme):], ";") // RFC 3966: parameters are no part of the number
	}
	var digits strings.Builder
	for _, r := range number {
		switch {
		case r >= '0' && r <= '9':
			digits.WriteRune(r)
		case strings.ContainsRune("+-.()/ \u00a0\t\u2010\u2011\u2012\u2013", r):
		default:
			return ""
		}
	}
	return strings.TrimPrefix(digits.String(), "00")
}

func isDigits(text string) bool {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return text != ""
}
