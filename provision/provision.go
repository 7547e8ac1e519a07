// Package provision writes what a deployed bundle does not make for itself: the API clients that may
// call it, kept in Secrets Manager, and the content that it serves, kept in DynamoDB. The command line,
// the local run and the tests all provision through it, so the three cannot drift apart.
//
// It works the same against AWS and against emulators: the caller hands in the AWS clients.
package provision

import (
	"errors"
	"fmt"
	"strings"
)

// ErrExists says that a client with that id is already there; Rotate gives it a new secret.
var ErrExists = errors.New("client exists already")

// ErrNotFound says that there is no client with that id in the stack.
var ErrNotFound = errors.New("no such client")

// ErrNoStack says that what was asked for belongs to a stack that was not found: not deployed,
// deployed under another name, or in another region or account.
var ErrNoStack = errors.New("no such stack")

// Fault is one thing that is wrong with what was to be provisioned.
type Fault struct {
	// Path says where, as in providers[0].aNumbers[3]; empty for the document as a whole.
	Path string
	// Line is the line in the file, from 1; 0 when there is no file.
	Line int
	// Message says what is wrong and what would be right.
	Message string
}

// String is the fault on one line, as in "line 7: providers[0].tenant is required".
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Path != "" {
		b.WriteString(f.Path + " ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults is every fault found at once, in the order of the file.
type Faults []Fault

// Error lists the faults, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// orNil keeps an empty list from becoming a non-nil error.
func (f Faults) orNil() error {
	if len(f) == 0 {
		return nil
	}
	return f
}
