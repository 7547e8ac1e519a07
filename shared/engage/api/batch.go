package api

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
	"carillon/shared/jsonbody"
	"carillon/shared/token"
)

// Content is what the Content Portal holds; store.Content does. Its methods return a fault NotFound for what a tenant
// does not have.
type Content interface {
	// Program returns a complete program.
	Program(ctx context.Context, tenant, uuid string) (engage.Program, error)
	// Group returns the aNumbers of a group.
	Group(ctx context.Context, tenant, id string) ([]string, error)
	// OwnsANumbers reports whether all numbers are the tenant's.
	OwnsANumbers(ctx context.Context, tenant string, numbers []string) (bool, error)
}

// Pushes is where pushes are kept; store.Pushes is one.
type Pushes interface {
	// Put makes a push durable, and returns how many chunks it has. It can be done again under the same request id.
	Put(ctx context.Context, push *engage.Push, dueAt time.Time) (chunks int, err error)
	// Postpone says when engage-schedule looks at a push whose due time was seen, and when its jobs were sent.
	Postpone(ctx context.Context, requestID string, seen, next, enqueued time.Time) error
	// Meta returns a push of a tenant's, or a fault NotFound.
	Meta(ctx context.Context, tenant, requestID string) (*engage.Meta, error)
}

// Operations are requests under an Idempotency-Key; idempotencystore.Store has them.
type Operations interface {
	// Begin claims a request; id is unique to the sending of it.
	Begin(ctx context.Context, key string, bodyHash [32]byte, id string) (*idempotency.Operation, error)
}

// Queue is the delivery queue; schedule.DeliveryQueue is one.
type Queue interface {
	// Send enqueues jobs of chunks that were never claimed, so that they arrive shortly before they are due.
	Send(ctx context.Context, jobs ...engage.Job) error
}

// BatchHandler serves POST /federated/outbound/v2/batch.
type BatchHandler struct {
	Tokens     *token.Authority
	Content    Content
	Pushes     Pushes
	Operations Operations
	Queue      Queue
	Clock      clock.Clock
	Log        *slog.Logger
}

type batchAnswer struct {
	Response  string  `json:"response"`
	Message   *string `json:"message"`
	ErrorCode any     `json:"errorCode"` // "" on success, a number on failure: docs/contract.md §2
	RequestID string  `json:"requestId"`
}

// Serve accepts a push. It answers 200 once the push is durable under the request id that it answers.
func (h *BatchHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := h.Tokens.Authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	if !grant.Has(engage.ScopeInform) {
		return nil, fault.New(fault.Unauthenticated, "")
	}
	body, err := r.Body()
	if err != nil {
		return nil, err
	}
	batch, err := engage.DecodeBatch(body)
	if err != nil {
		return nil, err
	}
	key := r.Header("idempotency-key")
	if key == "" {
		return h.accept(ctx, r, grant, batch, r.ID)
	}
	if utf8.RuneCountInString(key) > engage.MaxIdempotencyKey {
		return nil, invalid("Idempotency-Key must be at most 255 characters")
	}
	hash, err := digest(r)
	if err != nil {
		return nil, err
	}
	operation, err := h.Operations.Begin(ctx, "engage#"+grant.ClientID+"#"+key, hash, r.ID)
	if err != nil {
		return nil, err
	}
	if operation.Answer != nil {
		return operation.Answer, nil
	}
	answer, err := h.accept(ctx, r, grant, batch, operation.ID)
	operation.End(ctx, h.Log, answer, err)
	return answer, err
}

// digest returns what a batch is known again by under its Idempotency-Key: its program and the value of its body. It
// reads the body once more, which costs time, and only where there is a key, but no memory for a copy of it. A body
// that no batch can be decoded from, or one that is not to be taken, is refused or forgotten whatever its digest is.
func digest(r *httpapi.Request) ([sha256.Size]byte, error) {
	body, err := r.Body()
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	value, err := jsonbody.Digest(body)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	program := r.QueryParameter("programContentUuid")
	if id, ok := parseUUID(program); ok {
		program = id // in capitals it is the same one
	}
	return sha256.Sum256(append(value[:], program...)), nil
}

// accept checks a batch in the order of docs/contract.md §2: whom it is from, its program, its fields, its aNumbers.
func (h *BatchHandler) accept(
	ctx context.Context, r *httpapi.Request, grant token.Grant, batch *engage.Batch, requestID string,
) (*httpapi.Response, error) {
	if requestID != r.ID {
		// Taken over from a process that died. What it made durable stands, whatever a check would say of it by now.
		meta, err := h.Pushes.Meta(ctx, grant.Tenant, requestID)
		if err == nil {
			h.enqueue(ctx, meta.Terms, requestID, grant.Tenant, len(meta.Chunks), meta.DueAt)
			return accepted(requestID), nil
		}
		if !fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	groupNumbers, err := h.groupNumbers(ctx, grant.Tenant, batch)
	if err != nil {
		return nil, err
	}
	program, err := h.program(ctx, grant.Tenant, r.QueryParameter("programContentUuid"))
	if err != nil {
		return nil, err
	}
	push, err := batch.Check(program.Variables, h.Clock.Now())
	if err != nil {
		return nil, err
	}
	push.RequestID, push.Tenant, push.Program = requestID, grant.Tenant, program
	if batch.HasGroup() {
		push.ANumbers = groupNumbers
	} else {
		owned, err := h.Content.OwnsANumbers(ctx, grant.Tenant, push.ANumbers)
		if err != nil {
			return nil, err
		}
		if !owned {
			return nil, fault.New(aNumberNotAllowed, "")
		}
	}
	due := engage.FirstDue(push.CreatedAt, push.NotBefore)
	chunks, err := h.Pushes.Put(ctx, push, due)
	if err != nil {
		return nil, err
	}
	h.enqueue(ctx, push.Terms, requestID, grant.Tenant, chunks, due)
	return accepted(requestID), nil
}

func accepted(requestID string) *httpapi.Response {
	return httpapi.JSON(http.StatusOK, batchAnswer{Response: "success", ErrorCode: "", RequestID: requestID})
}

// enqueue sends the jobs of a push that is due within minutes, and tells engage-schedule so if it would look at the
// push before that. The push is durable: if SQS does not take them, or this process ends first, engage-schedule sends
// them.
func (h *BatchHandler) enqueue(
	ctx context.Context, terms engage.Terms, requestID, tenant string, chunks int, due time.Time,
) {
	now := h.Clock.Now()
	if terms.NotBefore.Sub(now) > engage.EnqueueWithin {
		return
	}
	jobs := make([]engage.Job, chunks)
	for i := range jobs {
		jobs[i] = engage.NewJob(tenant, requestID, i, terms.NotBefore)
	}
	err := h.Queue.Send(ctx, jobs...)
	if next := engage.NextLook(now, terms.NotBefore); err == nil && due.Before(next) && !due.IsZero() {
		err = fault.Ignore(h.Pushes.Postpone(ctx, requestID, due, next, now), fault.Conflict)
	}
	if err != nil {
		h.Log.WarnContext(ctx, "a push is left to engage-schedule", "pushId", requestID, "error", err)
	}
}

// groupNumbers returns the numbers of the group that a batch names. It returns a fault noANumbers if the batch names
// neither aNumbers nor a group of the tenant's, Invalid if it names both, or Content's error.
func (h *BatchHandler) groupNumbers(ctx context.Context, tenant string, batch *engage.Batch) ([]string, error) {
	switch {
	case batch.HasANumbers() && batch.HasGroup():
		return nil, invalid("Send either aNumbers or aNumberGroupId, not both")
	case batch.HasANumbers():
		return nil, nil
	}
	id, ok := parseUUID(batch.GroupID())
	if !ok {
		return nil, fault.New(noANumbers, "")
	}
	numbers, err := h.Content.Group(ctx, tenant, id)
	if fault.Is(err, fault.NotFound) || err == nil && len(numbers) == 0 {
		return nil, fault.New(noANumbers, "")
	}
	return numbers, err
}

func (h *BatchHandler) program(ctx context.Context, tenant, text string) (engage.Program, error) {
	id, ok := parseUUID(text)
	if !ok {
		return engage.Program{}, fault.New(invalidProgram, "")
	}
	program, err := h.Content.Program(ctx, tenant, id)
	if fault.Is(err, fault.NotFound) {
		return engage.Program{}, fault.New(invalidProgram, "")
	}
	return program, err
}
