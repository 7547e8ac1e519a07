package product

import "time"

// Limits are how many mails may be asked for within any stretch of time as long as Window (docs/contract.md §3, too
// many resends). The first mail of a product counts as well as a resend.
type Limits struct {
	Window     time.Duration
	PerAccount int // mails to one billing account of one tenant's business
	PerAddress int // mails to one address, whoever asks: it protects a mailbox
}

// Admission is a request for a mail, as far as Limits are concerned.
type Admission struct {
	RequestID  string // the operation's id: it is counted once
	Tenant     string
	BusinessID string
	AccountID  string // the billing account's
	Address    string
}
