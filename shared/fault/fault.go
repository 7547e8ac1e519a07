// Package fault has the one error type of Carillon. Handlers and stores return it; each API maps it
// to its own error body in one place (EncodeError of the domains' packages api).
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Code says what went wrong, in terms every API shares. A domain adds codes of its own where its
// contract has rows that no other API has.
type Code string

// The codes that every API answers.
const (
	Malformed            Code = "malformed"              // the body is not the JSON that is asked for
	Invalid              Code = "invalid"                // members are missing or wrong: see Violations
	TooLarge             Code = "too_large"              // the body is over its limit
	UnsupportedMediaType Code = "unsupported_media_type" // Content-Type or Content-Encoding is unknown
	MethodNotAllowed     Code = "method_not_allowed"     // the path has no such method
	Unauthenticated      Code = "unauthenticated"        // no, bad or expired credentials
	Forbidden            Code = "forbidden"              // known caller, not allowed
	NotFound             Code = "not_found"              // no such thing, or not the caller's
	Conflict             Code = "conflict"               // contradicts an earlier request
	TooManyRequests      Code = "too_many_requests"      // ask again after RetryAfter
	BadGateway           Code = "bad_gateway"            // a partner failed or answered garbage
	GatewayTimeout       Code = "gateway_timeout"        // a partner did not answer in time
	Unavailable          Code = "unavailable"            // AWS throttles or does not answer in time
	Internal             Code = "internal"               // anything else
)

// The codes of a Violation that every API shares.
const (
	Missing   Code = "missing"    // absent, null or blank
	WrongType Code = "wrong_type" // another JSON type than asked for
	BadValue  Code = "bad_value"  // the right type, a value that is not allowed
)

// More is the code of the Violation that stands for those of which a Violations keeps the count alone.
const More Code = "more"

// Violation is one fault of one member of a request.
type Violation struct {
	Code    Code
	Message string // for the caller; names the member
	more    int    // of a Violation More: for how many it stands
}

// Error is an error with two readers: Message and Violations are for the caller, Cause is for the log.
type Error struct {
	Code       Code
	Message    string // empty: the API's constant text for Code
	Violations Violations
	RetryAfter time.Duration // 0: no Retry-After header
	Cause      error
}

// New returns an error without a cause. An empty message stands for the API's constant text.
func New(code Code, message string) *Error {
	return &Error{Code: code, Message: message}
}

// Wrap returns an error of that code whose cause reaches the log and never the caller.
func Wrap(code Code, cause error) *Error {
	return &Error{Code: code, Cause: cause}
}

// loggedViolations is how many violations the log is told of one request.
const loggedViolations = 10

// Error is the log's view: code, message, violations and cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if len(e.Violations) > 0 {
		b.WriteString("; " + e.Violations.Join("; ", loggedViolations))
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether err is a fault of that code.
func Is(err error, code Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// Ignore returns err, or nil if it is a fault of that code: who lost a lease, say, has nothing more to do.
func Ignore(err error, code Code) error {
	if Is(err, code) {
		return nil
	}
	return err
}

// IsCallers reports whether the caller is to change something, whatever the API's status for it is. The other faults
// are ours, AWS's or a partner's: the same request may succeed later, and may have done something already.
func (e *Error) IsCallers() bool {
	switch e.Code {
	case Internal, Unavailable, BadGateway, GatewayTimeout:
		return false
	default:
		return true
	}
}

// MaxViolations is how many faults a Violations keeps: what a request costs must not depend on how much is wrong with
// it.
const MaxViolations = 100

// Violations collects the faults of a request, so that all are reported at once. Behind the first MaxViolations one
// Violation More stands for all others, and says how many there are once Err has returned it.
type Violations []Violation

// Add appends one fault. If v is full it is counted, and its message is not made.
func (v *Violations) Add(code Code, format string, args ...any) {
	switch last := len(*v) - 1; {
	case !v.Full():
		*v = append(*v, Violation{Code: code, Message: fmt.Sprintf(format, args...)})
	case (*v)[last].more > 0:
		(*v)[last].more++
	default:
		*v = append(*v, Violation{Code: More, more: 1})
	}
}

// Full reports whether Add counts only: who adds many faults need not make up their arguments any more.
func (v *Violations) Full() bool { return len(*v) >= MaxViolations }

// Join returns the messages with sep between them: most of them at the most, and how many more there are.
func (v Violations) Join(sep string, most int) string {
	messages := make([]string, 0, min(len(v), most+1))
	for i, violation := range v {
		if i == most || violation.more > 0 {
			messages = append(messages, v[i:].rest())
			break
		}
		messages = append(messages, violation.Message)
	}
	return strings.Join(messages, sep)
}

// rest says how many faults there are.
func (v Violations) rest() string {
	count := 0
	for _, violation := range v {
		count += max(violation.more, 1)
	}
	return fmt.Sprintf("and %d more", count)
}

// Err returns an Invalid error with all that was collected, or nil if nothing was.
func (v Violations) Err() error {
	if len(v) == 0 {
		return nil
	}
	if last := len(v) - 1; v[last].more > 0 {
		v[last].Message = v[last:].rest()
	}
	return &Error{Code: Invalid, Violations: v}
}
