package ott

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/token"
)

// SendStatusHandler serves GET /ott/v1/send/{messageId}.
type SendStatusHandler struct {
	Tokens   *token.Authority
	Messages *MessageStore
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
	grant, err := authorize(ctx, h.Tokens, r, clientauth.ScopeOTTSend)
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
	body, err := copyMembers(bytes.NewReader(m.Body), func(name string) bool { return !strings.EqualFold(name, "ottRequestId") },
		jsontext.String("ottRequestId"), jsontext.String(m.OttRequestID))
	if err != nil {
		return nil, err
	}
	return httpapi.JSON(http.StatusOK, sendStatus{RequestBody: body, Status: sendEvents(m)}), nil
}

func sendEvents(m *StoredMessage) []sendEvent {
	var events []sendEvent
	for _, e := range []struct {
		name   string
		at     time.Time
		reason string
	}{{"Created", m.CreatedAt, ""}, {"Queued", m.QueuedAt, ""}, {"Sent", m.SentAt, ""}, {"Error", m.FailedAt, m.Reason}} {
		if !e.at.IsZero() {
			events = append(events, sendEvent{Event: e.name, EventDateTime: e.at.UTC().Format("2006-01-02T15:04:05.000Z07:00"), Reason: e.reason})
		}
	}
	return events
}
