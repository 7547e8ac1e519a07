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
	Backlogs      backlogs
	Outbox        outbox
	Clock         clock.Clock
	Log           *slog.Logger
}

// messages makes messages durable; store.Messages does.
type messages interface {
	// Find returns the message that a key stands for, or a fault NotFound and the place of a new one.
	Find(
		ctx context.Context, tenant, key string, body ott.SendBody, now time.Time,
	) (ott.Accepted, ott.Place, error)
	// Put makes a message durable, or returns the one that its key stands for by now.
	Put(
		ctx context.Context, tenant string, at ott.Place, message ott.Message, body ott.SendBody,
		createdAt, queuedAt time.Time,
	) (ott.Accepted, error)
}

// outbox takes messages that are to be sent; outbound.Queue does.
type outbox interface {
	// Enqueue puts a job behind those of its conversation, once for each sending.
	Enqueue(ctx context.Context, job ott.Job, sending string) error
}

// backlogs bound how many messages wait for a property that is in trouble; store.Properties does.
type backlogs interface {
	Admit(ctx context.Context, platform ott.Platform, propertyID string) error
}

type sendAnswer struct {
	OttRequestID string `json:"ottRequestId"`
}

// Serve takes a message. It answers 201 once the message is durable and in the queue; a repeat is answered with the id
// of the first, which it enqueues again if the queue seems to have lost it.
//
// The job is sent before the message is written, which is where the message becomes durable: so there is none that no
// job is of. A job whose message never comes ends by itself.
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
	sending := sending{SendHandler: h, tenant: grant.Tenant, id: r.ID, message: message, body: body}
	accepted, err := sending.accept(ctx, faults)
	switch {
	case err != nil:
		return nil, err
	case accepted.Conflict:
		return nil, fault.New(fault.Conflict, "MessageKey stands for another message of the last 24 hours")
	}
	return httpapi.JSON(http.StatusCreated, sendAnswer{OttRequestID: accepted.OttRequestID}), nil
}

// sending is one request's.
type sending struct {
	*SendHandler
	tenant, id string
	message    ott.Message
	body       ott.SendBody
	place      ott.Place // of the message, if it is a new one
}

// accept makes a message durable that is right, and whose sender may send. What is durable stands, though its sender
// may send no more by the time that its repeat comes.
func (s *sending) accept(ctx context.Context, faults fault.Violations) (ott.Accepted, error) {
	if len(faults) == 0 {
		accepted, err := s.repeated(ctx)
		if !fault.Is(err, fault.NotFound) {
			return accepted, err
		}
	}
	if s.message.Platform != "" && s.message.SenderID != "" {
		registration, err := s.Registrations.Get(ctx, s.message.Platform, s.message.SenderID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return ott.Accepted{}, err
		}
		if err != nil || !registration.MaySend(s.tenant) {
			faults.Add(fault.BadValue, ott.NotSendable)
		}
	}
	if err := faults.Err(); err != nil {
		return ott.Accepted{}, err
	}
	if err := s.Backlogs.Admit(ctx, s.message.Platform, s.message.SenderID); err != nil {
		return ott.Accepted{}, err
	}
	return s.put(ctx)
}

// repeated returns the message that the key stands for, and enqueues it again if it is lost. It returns a fault
// NotFound if there is none.
func (s *sending) repeated(ctx context.Context) (ott.Accepted, error) {
	now := s.Clock.Now()
	accepted, place, err := s.Messages.Find(ctx, s.tenant, s.message.Key, s.body, now)
	s.place = place
	if err != nil || accepted.Lost == nil {
		return accepted, err
	}
	s.Log.WarnContext(ctx, "a message is put into the queue again", "ottRequestId", accepted.OttRequestID)
	lost := accepted.Lost
	job := ott.NewJob(s.tenant, lost.OttRequestID, lost.Message, lost.CreatedAt, now, lost.ValidUntil)
	return accepted, s.Outbox.Enqueue(ctx, job, s.id)
}

// put enqueues the message and makes it durable.
func (s *sending) put(ctx context.Context) (ott.Accepted, error) {
	created := s.Clock.Now()
	job := ott.NewJob(
		s.tenant, s.place.OttRequestID, s.message, created, created, created.Add(s.message.Validity))
	if err := s.Outbox.Enqueue(ctx, job, s.id); err != nil {
		return ott.Accepted{}, err
	}
	accepted, err := s.Messages.Put(ctx, s.tenant, s.place, s.message, s.body, created, s.Clock.Now())
	if fault.Is(err, fault.Conflict) { // its key was used and is free again, which was read too early to be known
		return ott.Accepted{}, fault.Wrap(fault.Unavailable, err)
	}
	return accepted, err
}
