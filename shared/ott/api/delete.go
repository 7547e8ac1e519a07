package api

import (
	"context"
	"net/http"

	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/token"
)

// DeleteHandler serves DELETE /ott/v1/registration/{platform}/{ottPropertyId}.
type DeleteHandler struct {
	Tokens        *token.Authority
	Registrations deleter
}

// deleter deletes registrations; store.Registrations does.
type deleter interface {
	Delete(ctx context.Context, tenant string, platform ott.Platform, propertyID string) error
}

// Serve deletes a registration. It answers 204 once nothing is registered under the id; the same id can be registered
// again at once. One that another tenant holds is answered as one that nobody has, as GetHandler answers it.
func (h *DeleteHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := authorize(ctx, h.Tokens, r, ott.ScopeRegistrationWrite)
	if err != nil {
		return nil, err
	}
	platform, propertyID, err := pathProperty(r)
	if err != nil {
		return nil, err
	}
	if err := h.Registrations.Delete(ctx, grant.Tenant, platform, propertyID); err != nil {
		return nil, err
	}
	return httpapi.Empty(http.StatusNoContent), nil
}
