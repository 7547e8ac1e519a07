package product

import (
	"cmp"
	"context"
	"strings"

	"carillon/shared/contenttable"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
)

const maxSortKey = 1024 // bytes, DynamoDB's limit

// ContentStore reads which countries are served and what the provider calls their products (package provision writes it).
type ContentStore struct{ table *contenttable.Table }

// NewContentStore returns a store on the content table.
func NewContentStore(table *contenttable.Table) *ContentStore { return &ContentStore{table: table} }

// Business is a country that is served.
type Business struct {
	ID                 string // ISO 3166 alpha-2, in capital letters
	MerchantAccountKey string // what the provider calls the operator there
}

// Business returns the country of that id. It returns a fault NotFound if it is not served, or DynamoDB's error.
func (s *ContentStore) Business(ctx context.Context, id string) (Business, error) {
	if !isCountryCode(id) {
		return Business{}, fault.New(fault.NotFound, "")
	}
	item, err := s.find(ctx, id, "business")
	if err != nil {
		return Business{}, err
	}
	return Business{ID: id, MerchantAccountKey: dynamo.GetString(item, "merchantAccountKey")}, nil
}

func isCountryCode(id string) bool {
	return len(id) == 2 && id[0] >= 'A' && id[0] <= 'Z' && id[1] >= 'A' && id[1] <= 'Z'
}

// Offer is what the provider and the customer call a product.
type Offer struct {
	ProductKey, OfferKey string // the provider's
	Name                 string // the customer's, Disney+ for instance
}

// Offer returns the names of a product. One that is not known is named as it was asked for, so that the provider refuses
// it in its own words. It returns DynamoDB's error.
func (s *ContentStore) Offer(ctx context.Context, businessID string, p Product) (Offer, error) {
	asSent := Offer{ProductKey: p.ReferredType, OfferKey: p.SpecificationID, Name: p.ReferredType}
	sk := "product#" + p.ReferredType + "#" + p.SpecificationID
	if strings.Contains(p.ReferredType, "#") || len(sk) > maxSortKey {
		return asSent, nil // no item's key: it would be read as another product's, or refused by DynamoDB
	}
	item, err := s.find(ctx, businessID, sk)
	switch {
	case fault.Is(err, fault.NotFound):
		return asSent, nil
	case err != nil:
		return Offer{}, err
	}
	return Offer{
		ProductKey: dynamo.GetString(item, "productKey"),
		OfferKey:   dynamo.GetString(item, "offerKey"),
		Name:       cmp.Or(dynamo.GetString(item, "name"), p.ReferredType),
	}, nil
}

// find returns an item of a country. It returns a fault NotFound, or DynamoDB's error.
func (s *ContentStore) find(ctx context.Context, businessID, sk string) (dynamo.Item, error) {
	return s.table.Get(ctx, "business#"+businessID, sk, contenttable.AnyAge)
}
