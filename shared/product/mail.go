package product

import (
	"time"

	"carillon/shared/secret"
)

// Mail is the activation mail of one accepted request. It is kept by the id of the operation that the request is done
// under (package idempotency), so a request has one mail however often it is sent.
type Mail struct {
	RequestID   string // the operation's id
	Tenant      string
	BusinessID  string // the country, which decides the mail's language
	ProductID   string
	To          string      // an address of a product that DecodeProduct took
	Service     string      // what the customer knows the product as, Disney+ for instance
	Link        secret.Text // the activation link; empty once the mail needs it no more
	LinkExpires time.Time   // zero if the provider does not say
	State       MailState
	Reason      string    // why it is in that state, may be empty
	Claim       string    // of the process that is sending it, or was
	ClaimedAt   time.Time // when that began
	CreatedAt   time.Time
}

// MailState is how far a mail has come.
type MailState string

// The states of a mail. In the first two it is under way.
const (
	MailPending    MailState = "pending"    // to be sent
	MailSending    MailState = "sending"    // a process has claimed it and is about to send it
	MailSent       MailState = "sent"       // SES has taken it
	MailUnknown    MailState = "unknown"    // a process died, or SES did not answer, after the claim: not sent again
	MailDelayed    MailState = "delayed"    // it has not got through so far, which need not last
	MailDelivered  MailState = "delivered"  // the receiver's server has taken it
	MailSuperseded MailState = "superseded" // a newer one was accepted before it was claimed: it never left
	MailExpired    MailState = "expired"    // its link was over before it could be sent
	MailRefused    MailState = "refused"    // SES does not take it
	MailSuppressed MailState = "suppressed" // SES knows the address as one that bounced or complained
	MailBounced    MailState = "bounced"    // the receiver's server refuses it
	MailComplained MailState = "complained" // its receiver calls it spam
	MailNone       MailState = "none"       // the provider gave no link: there is nothing to mail
)

// mailProgress orders the states: a mail goes on to a higher number only. A server that took a mail may still bounce it
// later, and who complains has got it, so the order is that of how much a state tells. No two are alike in it, so that
// the same news of SES end in the same state, in whatever order they come.
var mailProgress = map[MailState]int{
	MailPending: 0, MailSending: 1, MailUnknown: 2, MailSent: 3, MailDelayed: 4, MailDelivered: 5, MailSuperseded: 6,
	MailExpired: 7, MailRefused: 8, MailSuppressed: 9, MailBounced: 10, MailComplained: 11, MailNone: 12,
}

// Before returns the states that a mail may go on to state from.
func (state MailState) Before() []MailState {
	var earlier []MailState
	for other, progress := range mailProgress {
		if progress < mailProgress[state] {
			earlier = append(earlier, other)
		}
	}
	return earlier
}

// Outcome is what has become of a mail.
type Outcome struct {
	State     MailState
	Reason    string // may be empty; what is kept of it is printable and short
	MessageID string // SES's, empty if there is none
	// Refused says of a mail that is no more than delayed that the receiver's server refused it as it is, so that the
	// same mail to others of its receivers may fare alike.
	Refused bool
}
