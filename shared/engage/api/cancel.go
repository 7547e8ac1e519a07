package api

import (
	"context"
	"net/http"
	"time"

	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/token"
)

// Canceller cancels pushes; store.Pushes does.
type Canceller interface {
	// Cancel cancels what waits of a tenant's push. It returns a fault Conflict if nothing was left to cancel, and
	// NotFound for a push that is not the tenant's.
	Cancel(ctx context.Context, tenant, requestID string, now time.Time) (*engage.Meta, error)
}

// CancelHandler serves DELETE /federated/outbound/v2/batch/{requestId}.
type CancelHandler struct {
	Tokens *token.Authority
	Pushes Canceller
	Clock  clock.Clock
}

// Serve cancels every destination that has no final result and is not in a POST under way.
func (h *CancelHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, id, err := authenticatePush(ctx, h.Tokens, r)
	if err != nil {
		return nil, err
	}
	meta, err := h.Pushes.Cancel(ctx, grant.Tenant, id, h.Clock.Now())
	if fault.Is(err, fault.Conflict) {
		return nil, &fault.Error{Code: fault.Conflict, Message: "Nothing was left to cancel", Cause: err}
	}
	if err != nil {
		return nil, err
	}
	return httpapi.JSON(http.StatusOK, NewSummary(meta)), nil
}
