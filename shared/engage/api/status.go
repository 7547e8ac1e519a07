package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"carillon/shared/engage"
	"carillon/shared/httpapi"
	"carillon/shared/token"
)

// Pages has the status of pushes; store.Pushes does.
type Pages interface {
	// Page returns a page of a tenant's push: at most limit destinations from where next points. It returns a fault
	// NotFound for a push that is not the tenant's, and Invalid for a next that is not one of the push's.
	Page(ctx context.Context, tenant, requestID string, limit int, next string) (*engage.Page, error)
}

// StatusHandler serves GET /federated/outbound/v2/batch/{requestId}.
type StatusHandler struct {
	Tokens *token.Authority
	Pushes Pages
}

// Status is a page of what became of a push: what GET of it answers.
type Status struct {
	RequestID          string              `json:"requestId"`
	State              engage.PushState    `json:"state"`
	ProgramContentUUID string              `json:"programContentUuid"`
	CreatedAt          string              `json:"createdAt"`
	NotBefore          string              `json:"notBefore"`
	Counts             Counts              `json:"counts"`
	Destinations       []DestinationStatus `json:"destinations"`
	Next               *string             `json:"next"`
}

// DestinationStatus is one destination of a Status.
type DestinationStatus struct {
	BNumber          string                  `json:"bNumber"`
	CustomTrackingID *string                 `json:"customTrackingId"`
	State            engage.DestinationState `json:"state"`
	Reason           *string                 `json:"reason"`
	DeliveredAt      *string                 `json:"deliveredAt"`
}

// NewStatus returns the status that a page shows.
func NewStatus(page *engage.Page) *Status {
	status := &Status{
		RequestID:          page.Meta.RequestID,
		State:              page.Meta.State(),
		ProgramContentUUID: page.Meta.ProgramUUID,
		CreatedAt:          engage.WireTime(page.Meta.CreatedAt),
		NotBefore:          engage.WireTime(page.Meta.NotBefore),
		Counts:             Counts(page.Meta.Counts()),
		Destinations:       make([]DestinationStatus, len(page.Rows)),
		Next:               optional(page.Next),
	}
	for i, row := range page.Rows {
		status.Destinations[i] = DestinationStatus{
			BNumber:          row.BNumber,
			CustomTrackingID: optional(row.CustomTrackingID),
			State:            row.State,
			Reason:           optional(row.Reason),
		}
		if !row.DeliveredAt.IsZero() {
			status.Destinations[i].DeliveredAt = optional(engage.WireTime(row.DeliveredAt))
		}
	}
	return status
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Serve answers a page of the push's status.
func (h *StatusHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, id, err := authenticatePush(ctx, h.Tokens, r)
	if err != nil {
		return nil, err
	}
	limit := engage.DefaultPage
	if text := r.QueryParameter("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > engage.MaxPage {
			return nil, invalid(fmt.Sprintf("limit must be an integer from 1 to %d", engage.MaxPage))
		}
	}
	page, err := h.Pushes.Page(ctx, grant.Tenant, id, limit, r.QueryParameter("next"))
	if err != nil {
		return nil, err
	}
	return httpapi.JSON(http.StatusOK, NewStatus(page)), nil
}
