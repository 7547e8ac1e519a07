package api

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/token"
)

// SendStatusHandler serves GET /ott/v1/send/{messageId}.
type SendStatusHandler struct {
	Tokens   *token.Authority
	Messages messageReader
}

// messageReader reads a message to be shown; store.Messages does.
type messageReader interface {
	// Get returns a tenant's message by its ottRequestId or messageKey, or a fault NotFound.
	Get(ctx context.Context, tenant, messageKeyOrID string) (*ott.StoredMessage, error)
}

type sendStatus struct {
	RequestBody jsontext.Value `json:"requestBody"`
	Status      []sendEvent    `json:"status"`
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
	return httpapi.JSON(http.StatusOK, sendStatus{RequestBody: body, Status: sendEvents(m)}), nil
}

func sendEvents(m *ott.StoredMessage) []sendEvent {
	var events []sendEvent
	for _, e := range []struct {
		name   string
		at     time.Time
		reason string
	}{
		{"Created", m.CreatedAt, ""}, {"Queued", m.QueuedAt, ""}, {"Sent", m.SentAt, ""},
		{"Error", m.FailedAt, m.Reason},
	} {
		if e.at.IsZero() {
			continue
		}
		at := e.at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
		events = append(events, sendEvent{Event: e.name, EventDateTime: at, Reason: e.reason})
	}
	return events
}
