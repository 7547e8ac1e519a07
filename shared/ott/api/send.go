package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"carillon/shared/clock"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/token"
)

// SendHandler serves POST /ott/v1/send.
type SendHandler struct {
	Tokens        *token.Authority
	Registrations registrations
	Messages      messages
	Outbox        outbox
	Clock         clock.Clock
	Log           *slog.Logger
}

// messages makes messages durable; store.Messages does.
type messages interface {
	// Put returns the earlier message that a repeat stands for, or a fault Conflict if it is another one.
	Put(
		ctx context.Context, tenant, id string, message ott.Message, body ott.SendBody, now time.Time,
	) (ott.Accepted, error)
	// Repeated returns that message alone, or a fault NotFound.
	Repeated(ctx context.Context, tenant, key string, body ott.SendBody, now time.Time) (ott.Accepted, error)
	MarkQueued(ctx context.Context, tenant, id string, now time.Time) error
}

// outbox takes messages that are to be sent; outbound.Queue does.
type outbox interface {
	// Enqueue says that a message is to be sent, not before delay has passed.
	Enqueue(ctx context.Context, tenant, ottRequestID string, delay time.Duration) error
}

type sendAnswer struct {
	OttRequestID string `json:"ottRequestId"`
}

// Serve takes a message. It answers 201 once the message is durable and in the queue, under the request's own id; a
// repeat is answered with the id of the first, which it enqueues if the first was not, or if the queue seems to have
// lost it.
func (h *SendHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := authorize(ctx, h.Tokens, r, ott.ScopeSend)
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
		if err := h.Messages.MarkQueued(ctx, grant.Tenant, accepted.OttRequestID, h.Clock.Now()); err != nil {
			// ott-deliver marks it as well.
			h.Log.WarnContext(ctx, "a message could not be marked as queued",
				"ottRequestId", accepted.OttRequestID, "error", err)
		}
	}
	return httpapi.JSON(http.StatusCreated, sendAnswer{OttRequestID: accepted.OttRequestID}), nil
}

// accept makes a message durable that is right, and whose sender may send. What is durable stands, though its sender
// may send no more by the time that its repeat comes.
func (h *SendHandler) accept(
	ctx context.Context, tenant, id string, message ott.Message, body ott.SendBody, faults fault.Violations,
) (ott.Accepted, error) {
	now := h.Clock.Now()
	if message.Platform != "" && message.SenderID != "" {
		registration, err := h.Registrations.Get(ctx, message.Platform, message.SenderID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return ott.Accepted{}, err
		}
		if err != nil || !registration.MaySend(tenant) {
			if len(faults) == 0 {
				accepted, err := h.Messages.Repeated(ctx, tenant, message.Key, body, now)
				if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
					return accepted, err
				}
			}
			faults.Add(fault.BadValue, ott.NotSendable)
		}
	}
	if err := faults.Err(); err != nil {
		return ott.Accepted{}, err
	}
	return h.Messages.Put(ctx, tenant, id, message, body, now)
}
