package api

import (
	"context"
	"net/http"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/product"
)

// Finder finds an owner's product; store.Products does.
type Finder interface {
	// Find returns a fault NotFound, also for another owner's product.
	Find(ctx context.Context, tenant, businessID, id string) (product.Shown, error)
}

// GetHandler serves GET /dxp-ux/v1/{businessId}/product/{id}.
type GetHandler struct {
	Clients  *clientauth.Authenticator
	Catalog  Catalog
	Products Finder
}

// Serve answers one product of the client's tenant in a business unit (docs/contract.md §3, TMF637 v4). One that is not
// there, or another tenant's or business unit's, is a fault NotFound.
func (h *GetHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	if r.Method != http.MethodGet {
		return nil, fault.New(fault.MethodNotAllowed, "")
	}
	client, business, err := admit(ctx, h.Clients, h.Catalog, r)
	if err != nil {
		return nil, err
	}
	var faults fault.Violations
	fields := decodeFields(readFaults(r, business, &faults), &faults)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	found, err := h.Products.Find(ctx, client.Tenant, business.ID, r.PathParameter("id"))
	if err != nil {
		return nil, err
	}
	offering, err := newOfferings(ctx, h.Catalog, business.ID).of(found.OfferKey, found.Product)
	if err != nil {
		return nil, err
	}
	text, err := show(found, collectionURL(r), offering).text(fields)
	if err != nil {
		return nil, err
	}
	return readAnswer(r, text), nil
}
