package api

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/clock"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/token"
)

// SendStatusHandler serves GET /ott/v1/send/{messageId}.
type SendStatusHandler struct {
	Tokens   *token.Authority
	Messages messageReader
	Clock    clock.Clock
}

// messageReader reads a message to be shown; store.Messages does.
type messageReader interface {
	// Get returns a tenant's message by its ottRequestId or messageKey, or a fault NotFound.
	Get(ctx context.Context, tenant, messageKeyOrID string) (*ott.StoredMessage, error)
}

type sendStatus struct {
	RequestBody        jsontext.Value `json:"requestBody"`
	Status             []sendEvent    `json:"status"`
	PlatformMessageIDs []string       `json:"platformMessageIds"`
}

type sendEvent struct {
	Event         string `json:"event"`
	EventDateTime string `json:"eventDateTime"`
	Reason        string `json:"reason,omitempty"`
}

// Serve answers a message as it was sent, with its ottRequestId, and what has become of it so far, oldest first.
func (h *SendStatusHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := authorize(ctx, h.Tokens, r, ott.ScopeSend)
	if err != nil {
		return nil, err
	}
	m, err := h.Messages.Get(ctx, grant.Tenant, r.PathParameter("messageId"))
	if fault.Is(err, fault.NotFound) {
		return nil, &fault.Error{Code: fault.NotFound, Message: "The message does not exist", Cause: err}
	}
	if err != nil {
		return nil, err
	}
	body, err := copyMembers(bytes.NewReader(m.Body),
		func(name string) bool { return !strings.EqualFold(name, "ottRequestId") },
		jsontext.String("ottRequestId"), jsontext.String(m.OttRequestID))
	if err != nil {
		return nil, err
	}
	return httpapi.JSON(http.StatusOK, sendStatus{
		RequestBody: body, Status: sendEvents(m, h.Clock.Now()),
		PlatformMessageIDs: append([]string{}, m.Progress.PlatformIDs...),
	}), nil
}

// sendEvents are what has become of a message, oldest first. One that is over and that nobody has given up yet is shown
// as it will be: nobody sends it any more.
func sendEvents(m *ott.StoredMessage, now time.Time) []sendEvent {
	p := m.Progress
	if m.IsExpired(now) {
		p.FailedAt, p.Reason = m.ValidUntil, p.ExpiredReason()
	}
	queued, failed := p.Reason, ""
	if p.Final() {
		queued, failed = "", p.Reason
	}
	var delivered, read time.Time
	if !p.SentAt.IsZero() {
		delivered, read = m.Receipts.Of(p.BegunAt, p.PlatformIDs)
	}
	var events []sendEvent
	for _, e := range []struct {
		name   string
		at     time.Time
		reason string
	}{
		{"Created", m.CreatedAt, ""}, {"Queued", m.QueuedAt, queued}, {"Sent", p.SentAt, ""},
		{"Delivered", delivered, ""}, {"Read", read, ""}, {"Error", p.FailedAt, failed},
	} {
		if e.at.IsZero() {
			continue
		}
		events = append(events, sendEvent{Event: e.name, EventDateTime: wireTime(e.at), Reason: e.reason})
	}
	return events
}
