package product

import (
	"context"
	"net/http"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

// GetHandler serves GET /dxp-ux/v1/{businessId}/product/{id}.
type GetHandler struct {
	Clients  *clientauth.Authenticator
	Content  *ContentStore
	Products *Store
}

// Serve answers one product of the client's tenant in a business unit (contract.md §3, TMF637 v4). One that is not there,
// or another tenant's or business unit's, is a fault NotFound.
func (h *GetHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	if r.Method != http.MethodGet {
		return nil, fault.New(fault.MethodNotAllowed, "")
	}
	client, served, err := admit(ctx, h.Clients, h.Content, r)
	if err != nil {
		return nil, err
	}
	var faults fault.Violations
	fields := decodeFields(readFaults(r, served, &faults), &faults)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	item, err := h.Products.find(ctx, client.Tenant, r.PathParameter("businessId"), r.PathParameter("id"))
	if err != nil {
		return nil, err
	}
	p, err := productOf(item, collectionURL(r))
	if err != nil {
		return nil, err
	}
	shown, err := p.show(fields)
	if err != nil {
		return nil, err
	}
	return readAnswer(r, shown), nil
}
