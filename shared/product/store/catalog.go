package store

import (
	"cmp"
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"carillon/shared/contenttable"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/product"
)

const maxSortKey = 1024 // bytes, DynamoDB's limit

// Catalog reads which countries are served and what the provider calls their products (package provision writes it).
type Catalog struct{ table *contenttable.Table }

// NewCatalog returns the catalog of the content table.
func NewCatalog(table *contenttable.Table) *Catalog { return &Catalog{table: table} }

// OpenCatalog returns the catalog of the content table that CONTENT_TABLE names.
func OpenCatalog(env *environment.Variables, config aws.Config) *Catalog {
	return NewCatalog(contenttable.Open(env, config))
}

// Business returns the country of that id. It returns a fault NotFound if it is not served, or DynamoDB's error.
func (s *Catalog) Business(ctx context.Context, id string) (product.Business, error) {
	if !product.IsCountryCode(id) {
		return product.Business{}, fault.New(fault.NotFound, "")
	}
	item, err := s.find(ctx, id, "business")
	if err != nil {
		return product.Business{}, err
	}
	return product.Business{ID: id, MerchantAccountKey: dynamo.GetString(item, "merchantAccountKey")}, nil
}

// Offer returns the names of a product. One that is not known is named as it was asked for, so that the provider
// refuses it in its own words. It returns DynamoDB's error.
func (s *Catalog) Offer(ctx context.Context, businessID string, p product.Product) (product.Offer, error) {
	asSent := product.Offer{ProductKey: p.ReferredType, OfferKey: p.SpecificationID, Name: p.ReferredType}
	sk := "product#" + p.ReferredType + "#" + p.SpecificationID
	if strings.Contains(p.ReferredType, "#") || len(sk) > maxSortKey {
		return asSent, nil // no item's key: it would be read as another product's, or refused by DynamoDB
	}
	item, err := s.find(ctx, businessID, sk)
	switch {
	case fault.Is(err, fault.NotFound):
		return asSent, nil
	case err != nil:
		return product.Offer{}, err
	}
	return product.Offer{
		MerchantAccountKey: dynamo.GetString(item, "merchantAccountKey"),
		ProductKey:         dynamo.GetString(item, "productKey"),
		OfferKey:           dynamo.GetString(item, "offerKey"),
		Name:               cmp.Or(dynamo.GetString(item, "name"), p.ReferredType),
	}, nil
}

// find returns an item of a country. It returns a fault NotFound, or DynamoDB's error.
func (s *Catalog) find(ctx context.Context, businessID, sk string) (dynamo.Item, error) {
	return s.table.Get(ctx, "business#"+businessID, sk, contenttable.AnyAge)
}
