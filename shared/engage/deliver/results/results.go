// Package results reads what the device gateway answers of each destination (docs/contract.md §2, "The device
// gateway"). Each item stands for itself: one that is odd costs no other its result.
package results

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

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

// Decode reads a body that was answered at a time. Members may come twice, and in bad UTF-8: what can be read is taken,
// and of results that come twice the last. It returns ErrBody.
func Decode(body []byte, at time.Time) (Set, error) {
	d := decoder{
		Decoder: jsontext.NewDecoder(
			bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)),
		at: at,
	}
	var set Set
	found := false
	err := d.members(func(name string) error {
		if name != "results" {
			return d.SkipValue()
		}
		set, found = Set{byNumber: make(map[string]engage.Result, usualItems)}, true
		return d.results(&set)
	})
	if _, end := d.ReadToken(); err != nil || !found || !errors.Is(end, io.EOF) {
		return Set{}, ErrBody
	}
	return set, nil
}

// usualItems is how many destinations a POST has as a rule.
const usualItems = 500

// decoder reads token by token: there is an item for each destination of a push.
type decoder struct {
	*jsontext.Decoder

	at time.Time
}

// members reads an object, and calls read for each of its members to read the value.
func (d *decoder) members(read func(name string) error) error {
	if d.PeekKind() != '{' {
		return ErrBody
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return err
		}
		if err := read(memberName(name)); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// memberName returns the name of a member, without memory for those that are known.
func memberName(quoted jsontext.Value) string {
	switch string(quoted) {
	case `"results"`:
		return "results"
	case `"bNumber"`:
		return "bNumber"
	case `"status"`:
		return "status"
	case `"reason"`:
		return "reason"
	default:
		return text(quoted)
	}
}

func (d *decoder) results(set *Set) error {
	if d.PeekKind() != '[' {
		return ErrBody
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		said := false
		if d.PeekKind() != '{' {
			if err := d.SkipValue(); err != nil {
				return err
			}
		} else {
			number, result, err := d.item()
			if err != nil {
				return err
			}
			said = set.add(number, result)
		}
		if !said {
			set.Odd++
		}
	}
	_, err := d.ReadToken()
	return err
}

// item reads an element of results. What of it is of another type than it should be is odd, and costs nothing else:
// number is empty for what is no number, and the result's state for what is no status.
func (d *decoder) item() (number string, result engage.Result, err error) {
	err = d.members(func(name string) error {
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		switch name {
		case "bNumber":
			number = Digits(text(value))
		case "status":
			result.State, result.DeliveredAt = "", time.Time{}
			switch text(value) {
			case "delivered":
				result.State, result.DeliveredAt = engage.StateDelivered, d.at
			case "rejected":
				result.State = engage.StateRejected
			case "retry":
				result.State = engage.StatePending
			}
		case "reason":
			result.Reason = sanitize.Text(text(value), sanitize.MaxReason)
		}
		return nil
	})
	return number, result, err
}

// add takes a result, unless there is a better one of the same number. It reports whether there is one to take.
func (s Set) add(number string, result engage.Result) bool {
	if number == "" || result.State == "" {
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
		if inner := value[1 : len(value)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
			return string(inner)
		}
		unquoted, _ := jsontext.AppendUnquote(nil, value) // of bad UTF-8, what can be read
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
