package engage

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/token"
)

// BatchHandler serves POST /federated/outbound/v2/batch.
type BatchHandler struct {
	Tokens      *token.Authority
	Content     *ContentStore
	Pushes      *PushStore
	Idempotency *idempotencystore.Store
	Queue       *DeliveryQueue
}

type batchAnswer struct {
	Response  string  `json:"response"`
	Message   *string `json:"message"`
	ErrorCode any     `json:"errorCode"` // "" on success, a number on failure: contract.md §2
	RequestID string  `json:"requestId"`
}

// Serve accepts a push. It answers 200 once the push is durable under the request id that it answers.
func (h *BatchHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := h.Tokens.Authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	if !grant.Has(clientauth.ScopeEngageInform) {
		return nil, fault.New(fault.Unauthenticated, "")
	}
	body, err := r.Body()
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	_, _ = io.WriteString(hash, r.QueryParameter("programContentUuid")+"\n") // a hash never fails
	batch, err := DecodeBatch(io.TeeReader(body, hash))
	if err != nil {
		return nil, err
	}
	key := r.Header("idempotency-key")
	if key == "" {
		return h.accept(ctx, r, grant, batch, r.ID)
	}
	if utf8.RuneCountInString(key) > MaxIdempotencyKey {
		return nil, invalid("Idempotency-Key must be at most 255 characters")
	}
	operation, err := h.Idempotency.Begin(ctx, "engage#"+grant.ClientID+"#"+key, [32]byte(hash.Sum(nil)), r.ID)
	if err != nil {
		return nil, err
	}
	if operation.Answer != nil {
		return operation.Answer, nil
	}
	answer, err := h.accept(ctx, r, grant, batch, operation.ID)
	operation.End(ctx, slog.Default(), answer, err)
	return answer, err
}

// accept checks a batch in the order of contract.md §2: whom it is from, its program, its fields, its aNumbers.
func (h *BatchHandler) accept(ctx context.Context, r *httpapi.Request, grant token.Grant, batch *Batch, requestID string) (*httpapi.Response, error) {
	if requestID != r.ID {
		// Taken over from a process that died. What it made durable stands, whatever a check would say of it by now.
		meta, err := h.Pushes.Meta(ctx, grant.Tenant, requestID)
		if err == nil {
			if _, enqueue := FirstDue(time.Now(), meta.NotBefore); enqueue {
				h.enqueue(ctx, requestID, outstanding(meta, time.Now()))
			}
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
	push, err := batch.Check(program.Variables, time.Now())
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
	due, enqueue := FirstDue(push.CreatedAt, push.NotBefore)
	chunks, err := h.Pushes.Put(ctx, push, due)
	if err != nil {
		return nil, err
	}
	if enqueue {
		messages := make([]Message, chunks)
		for i := range messages {
			messages[i] = Message{RequestID: requestID, Chunk: i, NotBefore: millis(push.NotBefore)}
		}
		h.enqueue(ctx, requestID, messages)
	}
	return accepted(requestID), nil
}

func accepted(requestID string) *httpapi.Response {
	return httpapi.JSON(http.StatusOK, batchAnswer{Response: "success", ErrorCode: "", RequestID: requestID})
}

// enqueue sends the messages of a push that is due within minutes. The push is durable: if SQS does not take them,
// engage-schedule sends them.
func (h *BatchHandler) enqueue(ctx context.Context, requestID string, messages []Message) {
	if err := h.Queue.Send(ctx, time.Now(), messages...); err != nil {
		slog.WarnContext(ctx, "a push is left to engage-schedule", "pushId", requestID, "error", err)
	}
}

// groupNumbers returns the numbers of the group that a batch names. It returns a fault noANumbers if the batch names
// neither aNumbers nor a group of the provider's, and Invalid if it names both.
func (h *BatchHandler) groupNumbers(ctx context.Context, tenant string, batch *Batch) ([]string, error) {
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

func (h *BatchHandler) program(ctx context.Context, tenant, text string) (Program, error) {
	id, ok := parseUUID(text)
	if !ok {
		return Program{}, fault.New(invalidProgram, "")
	}
	program, err := h.Content.Program(ctx, tenant, id)
	if fault.Is(err, fault.NotFound) {
		return Program{}, fault.New(invalidProgram, "")
	}
	return program, err
}

// parseUUID returns a UUID in lower case. It takes the plain form alone, not the urn: and {} that uuid.Parse takes as well.
func parseUUID(text string) (string, bool) {
	id, err := uuid.Parse(text)
	return id.String(), err == nil && len(text) == len(id.String())
}

func invalid(message string) error {
	var faults fault.Violations
	faults.Add(fault.BadValue, "%s", message)
	return faults.Err()
}
