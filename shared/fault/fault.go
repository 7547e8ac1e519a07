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

// Violation is one fault of one member of a request.
type Violation struct {
	Code    Code
	Message string // for the caller; names the member
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

// Violations collects the faults of a request, so that all are reported at once.
type Violations []Violation

// Add appends one fault.
func (v *Violations) Add(code Code, format string, args ...any) {
	*v = append(*v, Violation{Code: code, Message: fmt.Sprintf(format, args...)})
}

// Join returns the messages with sep between them: most of them at the most, and how many more there are.
func (v Violations) Join(sep string, most int) string {
	messages := make([]string, 0, min(len(v), most+1))
	for i, violation := range v {
		if i == most {
			messages = append(messages, fmt.Sprintf("and %d more", len(v)-i))
			break
		}
		messages = append(messages, violation.Message)
	}
	return strings.Join(messages, sep)
}

// Err returns an Invalid error with all that was collected, or nil if nothing was.
func (v Violations) Err() error {
	if len(v) == 0 {
		return nil
	}
	return &Error{Code: Invalid, Violations: v}
}
