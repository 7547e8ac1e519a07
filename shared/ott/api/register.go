package api

import (
	"context"
	"net/http"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/token"
)

// RegisterHandler serves POST /ott/v1/registration.
type RegisterHandler struct {
	Tokens        *token.Authority
	Registrations registrar
}

// registrar keeps registrations; store.Registrations does.
type registrar interface {
	Put(
		ctx context.Context, tenant, version string, registration ott.Registration, credentials ott.Credentials,
	) error
}

// Serve registers a property, or overrides its registration. It answers 201 without a body once both the registration
// and its credentials are kept.
func (h *RegisterHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := authorize(ctx, h.Tokens, r, ott.ScopeRegistrationWrite)
	if err != nil {
		return nil, err
	}
	if r.MediaType() != "application/json" {
		return nil, fault.New(fault.UnsupportedMediaType, "")
	}
	body, err := r.Body()
	if err != nil {
		return nil, err
	}
	registration, credentials, err := ott.DecodeRegistration(body)
	if err != nil {
		return nil, err
	}
	if err := h.Registrations.Put(ctx, grant.Tenant, r.ID, registration, credentials); err != nil {
		return nil, err
	}
	return httpapi.Empty(http.StatusCreated), nil
}
