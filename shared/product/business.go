package product

// Business is a country that is served.
type Business struct {
	ID                 string // ISO 3166 alpha-2, in capital letters
	MerchantAccountKey string // what the provider calls the operator there, unless an offer says otherwise
}

// IsCountryCode reports whether a text has the form of ISO 3166 alpha-2: two capital letters.
func IsCountryCode(text string) bool {
	return len(text) == 2 && text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'A' && text[1] <= 'Z'
}

// Offer is what the provider and the customer call a product.
type Offer struct {
	MerchantAccountKey   string // the provider's; empty: the business's
	ProductKey, OfferKey string // the provider's
	Name                 string // the customer's, Disney+ for instance
}
