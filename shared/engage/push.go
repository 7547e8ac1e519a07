// Package engage is the ENGAGE API: branded-call content that is pushed to handsets in batches (docs/contract.md §2,
// seed 002). Here are its types and rules; its rooms are api (the handlers), store (DynamoDB), schedule (the delivery
// queue and what is due) and deliver (the device gateway).
package engage

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a batch (docs/contract.md §2).
const (
	MaxDestinations   = 25_000
	MaxANumbers       = 400
	MaxIdempotencyKey = 255 // characters

	maxPersonalization = 256 // characters of one variable's text
	maxTrackingID      = 128 // characters
	defaultTTL         = 3600
	maxTTL             = 2_419_200 // seconds: 28 days
	maxAhead           = 30 * 24 * time.Hour
)

// Push is an accepted batch.
type Push struct {
	Terms

	RequestID    string
	Tenant       string
	Program      Program
	ANumbers     []string // as sent, or those of the group at the time
	CreatedAt    time.Time
	Destinations []Destination // in the order sent, no bNumber twice
}

// Destination is one handset of a push.
type Destination struct {
	BNumber          string // E.164
	Personalization  []Variable
	CustomTrackingID string // "" if none was sent
}

// Variable is a personalization variable of a destination.
type Variable struct{ Name, Text string }

// Program is what handsets show, as the Content Portal has it. One that is not complete can't be pushed.
type Program struct {
	UUID      string
	Name      string
	Variables []string       // those that a destination may personalize
	Content   jsontext.Value // a JSON object
}

// Presentation is what all chunks of a push have in common: its terms, its program, without the variables, and its
// aNumbers.
type Presentation struct {
	Terms

	Program  Program
	ANumbers []string
}

// IsE164 checks a number by its syntax: + and 7 to 15 digits, no leading 0.
func IsE164(number string) bool {
	if len(number) < 8 || len(number) > 16 || number[0] != '+' || number[1] == '0' {
		return false
	}
	for _, digit := range []byte(number[1:]) {
		if digit < '0' || digit > '9' {
			return false
		}
	}
	return true
}
