package product

import "time"

// StatusCreated is what a product's status is from its creation on.
const StatusCreated = "created"

// Stored is a product as a create or a resend has it kept.
type Stored struct {
	Tenant     string
	BusinessID string
	ID         string // see ID
	Product
	Entitlement
	Asked         EntitlementRequest // what Entitlement was granted for
	OperationID   string             // what the entitlement was last asked for under
	CorrelationID string             // of the request that did so
}

// Shown is a product as a read finds it: what its tenant may see, which has nothing that a link is renewed with.
type Shown struct {
	ID     string
	Status string
	Product
	OfferKey   string    // that the entitlement was asked for with; empty if that is not kept, as of old products
	MailState  MailState // of the latest request's mail, empty if nothing is known of it
	MailReason string    // why it is in that state, may be empty
	MailAt     time.Time // since when
}
