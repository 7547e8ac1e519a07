package api

import (
	"context"

	"carillon/shared/product"
)

// Offers tells what the provider calls products; store.Catalog does.
type Offers interface {
	// Offer returns the names of a product, also of an unknown one, whose offer is called as its specification.
	Offer(ctx context.Context, businessID string, p product.Product) (product.Offer, error)
}

// offerings tells the ids of the productOfferings of a business unit's products, within one request.
type offerings struct {
	ctx        context.Context //nolint:containedctx // a page takes products one by one, and has none to pass on
	offers     Offers
	businessID string
	configured map[[2]string]string // by @referredType and productSpecification
}

func newOfferings(ctx context.Context, offers Offers, businessID string) *offerings {
	return &offerings{ctx: ctx, offers: offers, businessID: businessID, configured: map[[2]string]string{}}
}

// of returns the id of a product's productOffering: the offer that its entitlement was asked for with, kept; if that is
// not known, the configured offer; else the product's specification. It returns DynamoDB's error.
func (o *offerings) of(kept string, p product.Product) (string, error) {
	if kept != "" {
		return kept, nil
	}
	key := [2]string{p.ReferredType, p.SpecificationID}
	if id, known := o.configured[key]; known {
		return id, nil
	}
	offer, err := o.offers.Offer(o.ctx, o.businessID, p)
	if err != nil {
		return "", err
	}
	o.configured[key] = offer.OfferKey
	return offer.OfferKey, nil
}
