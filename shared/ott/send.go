package ott

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/token"
)

// NotSendable is why a message is refused, or given up, whose sender has no active registration of its tenant's.
const NotSendable = "Sender Id provided is either unregistered or inactive"

// Outbox takes messages that are to be sent; outbound.Queue does.
type Outbox interface {
	// Enqueue says that a message is to be sent, not before delay has passed.
	Enqueue(ctx context.Context, tenant, ottRequestID string, delay time.Duration) error
}

// SendHandler serves POST /ott/v1/send.
type SendHandler struct {
	Tokens        *token.Authority
	Registrations *RegistrationReader
	Messages      *MessageStore
	Outbox        Outbox
}

type sendAnswer struct {
	OttRequestID string `json:"ottRequestId"`
}

// Serve takes a message. It answers 201 once the message is durable and in the queue, under the request's own id; a
// repeat is answered with the id of the first, which it enqueues if the first was not, or if the queue seems to have lost it.
func (h *SendHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := authorize(ctx, h.Tokens, r, clientauth.ScopeOTTSend)
	if err != nil {
		return nil, err
	}
	if r.MediaType() != "application/json" {
		return nil, fault.New(fault.UnsupportedMediaType, "")
	}
	message, faults, body, err := readSend(r)
	if err != nil {
		return nil, err
	}
	accepted, err := h.accept(ctx, grant.Tenant, r.ID, message, body, faults)
	if err != nil {
		return nil, err
	}
	if !accepted.Queued {
		if err := h.Outbox.Enqueue(ctx, grant.Tenant, accepted.OttRequestID, 0); err != nil {
			return nil, err // the message is durable: a repeat enqueues it
		}
		if err := h.Messages.MarkQueued(ctx, grant.Tenant, accepted.OttRequestID, time.Now()); err != nil {
			// ott-deliver marks it as well.
			slog.WarnContext(ctx, "a message could not be marked as queued", "ottRequestId", accepted.OttRequestID, "error", err)
		}
	}
	return httpapi.JSON(http.StatusCreated, sendAnswer{OttRequestID: accepted.OttRequestID}), nil
}

// accept makes a message durable that is right, and whose sender may send. What is durable stands, though its sender may
// send no more by the time that its repeat comes.
func (h *SendHandler) accept(ctx context.Context, tenant, id string, message Message, body SendBody, faults fault.Violations) (Accepted, error) {
	now := time.Now()
	if message.Platform != "" && message.SenderID != "" {
		registration, err := h.Registrations.Get(ctx, message.Platform, message.SenderID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return Accepted{}, err
		}
		if err != nil || !registration.MaySend(tenant) {
			if len(faults) == 0 {
				accepted, err := h.Messages.Repeated(ctx, tenant, message.Key, body, now)
				if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
					return accepted, err
				}
			}
			faults.Add(fault.BadValue, NotSendable)
		}
	}
	if err := faults.Err(); err != nil {
		return Accepted{}, err
	}
	return h.Messages.Put(ctx, tenant, id, message, body, now)
}

// MaySend reports whether messages of a tenant may go out through a registration.
func (r StoredRegistration) MaySend(tenant string) bool { return r.Tenant == tenant && r.IsActive }
