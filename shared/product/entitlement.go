package product

import (
	"time"

	"carillon/shared/fault"
	"carillon/shared/secret"
)

// ProviderTime is how long the provider may take for an entitlement. It is less than an operation's lock (package
// idempotencystore), so that nobody takes over what is still being asked for.
const ProviderTime = 8 * time.Second

// ProviderRefused is the provider's refusal of an entitlement. Its message is what the provider answered.
const ProviderRefused fault.Code = "provider_refused"

// EntitlementRequest is what the provider is asked for. It is kept with what the provider grants: to the provider an
// entitlement is the same one if all of these are.
type EntitlementRequest struct {
	CustomerIdentifier string // CustomerIdentifier's
	MerchantAccountKey string // Offer's, else Business's
	ProductKey         string // Offer's
	OfferKey           string // Offer's
}

// CustomerIdentifier is what the provider calls a billing account. The business is part of it, so that accounts of two
// countries never meet.
func CustomerIdentifier(businessID, accountID string) string { return businessID + "-" + accountID }

// Entitlement is what the provider grants.
type Entitlement struct {
	ID                string
	ActivationURL     secret.Text // https; empty if the customer need not activate anything
	ActivationExpires time.Time   // zero if the provider does not say, or UnreadExpiry
	UnreadExpiry      string      // what it looks like if it cannot be read, with nothing private; else empty
}
