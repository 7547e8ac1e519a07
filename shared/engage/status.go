package engage

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/token"
)

// Limits of a page of GET /federated/outbound/v2/batch/{requestId}, in destinations.
const (
	DefaultPage = 500
	MaxPage     = 1000
)

// Status is a page of what became of a push, as the API shows it.
type Status struct {
	RequestID          string              `json:"requestId"`
	State              PushState           `json:"state"`
	ProgramContentUUID string              `json:"programContentUuid"`
	CreatedAt          string              `json:"createdAt"`
	NotBefore          string              `json:"notBefore"`
	Counts             Counts              `json:"counts"`
	Destinations       []DestinationStatus `json:"destinations"`
	Next               *string             `json:"next"`
}

// DestinationStatus is one destination of a Status.
type DestinationStatus struct {
	BNumber          string           `json:"bNumber"`
	CustomTrackingID *string          `json:"customTrackingId"`
	State            DestinationState `json:"state"`
	Reason           *string          `json:"reason"`
	DeliveredAt      *string          `json:"deliveredAt"`
}

// Status returns a page of a push: at most limit destinations from where next points, in the order sent. It reads meta and
// the chunks that the page touches. It returns a fault NotFound as Meta does, and Invalid for a next that is not one of the push's.
func (s *PushStore) Status(ctx context.Context, tenant, requestID string, limit int, next string) (*Status, error) {
	meta, err := s.Meta(ctx, tenant, requestID)
	if err != nil {
		return nil, err
	}
	counts := meta.Counts()
	from, err := decodeNext(next)
	if err != nil || from > counts.Total {
		return nil, invalid("next must be the next of the page before")
	}
	status := &Status{
		RequestID:          meta.RequestID,
		State:              meta.State(),
		ProgramContentUUID: meta.ProgramUUID,
		CreatedAt:          wireTime(meta.CreatedAt),
		NotBefore:          wireTime(meta.NotBefore),
		Counts:             counts,
		Destinations:       []DestinationStatus{},
	}
	to := min(from+limit, counts.Total)
	start := 0
	for i, chunk := range meta.Chunks {
		end := start + chunk.Size
		if end > from && start < to {
			page, err := s.chunkStatus(ctx, meta, i)
			if err != nil {
				return nil, err
			}
			status.Destinations = append(status.Destinations, page[max(from-start, 0):min(to-start, chunk.Size)]...)
		}
		start = end
	}
	if to < counts.Total {
		token := encodeNext(to)
		status.Next = &token
	}
	return status, nil
}

func (s *PushStore) chunkStatus(ctx context.Context, meta *Meta, i int) ([]DestinationStatus, error) {
	destinations, err := s.Destinations(ctx, meta.RequestID, i)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(destinations))
	chunk := meta.Chunks[i]
	if chunk.Final != nil || !chunk.LeasedUntil.IsZero() {
		progress, known, err := s.Progress(ctx, meta.RequestID, i)
		if err != nil {
			return nil, err
		}
		if known {
			results = progress.Results
		}
	}
	if len(results) != len(destinations) || len(destinations) != chunk.Size {
		return nil, errChunk
	}
	page := make([]DestinationStatus, len(destinations))
	for j, d := range destinations {
		page[j] = DestinationStatus{BNumber: d.BNumber, CustomTrackingID: optional(d.CustomTrackingID), State: results[j].State, Reason: optional(results[j].Reason)}
		switch {
		case meta.cancelled(chunk):
			page[j].State = StateCancelled
		case results[j].pending():
			page[j].State = StatePending
		}
		if at := results[j].DeliveredAt; !at.IsZero() {
			page[j].DeliveredAt = optional(wireTime(at))
		}
	}
	return page, nil
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// encodeNext hides that the place in a push is a number, so that nobody counts on it.
func encodeNext(place int) string {
	return base64.RawURLEncoding.EncodeToString(binary.AppendUvarint(nil, uint64(place))) //nolint:gosec // a length
}

func decodeNext(next string) (int, error) {
	if next == "" {
		return 0, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(next)
	if err != nil {
		return 0, err
	}
	place, size := binary.Uvarint(raw)
	if size != len(raw) || place > MaxDestinations {
		return 0, fmt.Errorf("engage: %q is no place in a push", next)
	}
	return int(place), nil
}

// StatusHandler serves GET /federated/outbound/v2/batch/{requestId}.
type StatusHandler struct {
	Tokens *token.Authority
	Pushes *PushStore
}

// Serve answers a page of the push's status.
func (h *StatusHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, id, err := authenticatePush(ctx, h.Tokens, r)
	if err != nil {
		return nil, err
	}
	limit := DefaultPage
	if text := r.QueryParameter("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > MaxPage {
			return nil, invalid(fmt.Sprintf("limit must be an integer from 1 to %d", MaxPage))
		}
	}
	status, err := h.Pushes.Status(ctx, grant.Tenant, id, limit, r.QueryParameter("next"))
	if err != nil {
		return nil, err
	}
	return httpapi.JSON(http.StatusOK, status), nil
}

// CancelHandler serves DELETE /federated/outbound/v2/batch/{requestId}.
type CancelHandler struct {
	Tokens *token.Authority
	Pushes *PushStore
}

type cancelAnswer struct {
	RequestID string    `json:"requestId"`
	State     PushState `json:"state"`
	Counts    Counts    `json:"counts"`
}

// Serve cancels what has not been claimed of a push.
func (h *CancelHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, id, err := authenticatePush(ctx, h.Tokens, r)
	if err != nil {
		return nil, err
	}
	meta, err := h.Pushes.Cancel(ctx, grant.Tenant, id, time.Now())
	if fault.Is(err, fault.Conflict) {
		return nil, &fault.Error{Code: fault.Conflict, Message: "Nothing was left to cancel", Cause: err}
	}
	if err != nil {
		return nil, err
	}
	return httpapi.JSON(http.StatusOK, cancelAnswer{RequestID: meta.RequestID, State: meta.State(), Counts: meta.Counts()}), nil
}

// authenticatePush returns who asks, and for which push. An id that is no request id is one that nobody has.
func authenticatePush(ctx context.Context, tokens *token.Authority, r *httpapi.Request) (token.Grant, string, error) {
	grant, err := tokens.Authenticate(ctx, r)
	if err != nil {
		return token.Grant{}, "", err
	}
	if !grant.Has(clientauth.ScopeEngageInform) {
		return token.Grant{}, "", fault.New(fault.Unauthenticated, "")
	}
	id, ok := parseUUID(r.PathParameter("requestId"))
	if !ok {
		return token.Grant{}, "", fault.New(fault.NotFound, "")
	}
	return grant, id, nil
}
