// Package idempotency lets a request be sent twice and be done once. A record holds the request's key, a hash of its
// body, the id that it is done under, and at last its answer. What is done under that id must itself be safe to do
// again: a process that dies in between leaves the record locked for a few seconds, then the next sender takes it over.
//
// Package idempotencystore keeps the records in DynamoDB; who has an Operation does not link it.
package idempotency

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

// Record is where an Operation is kept. Each method does nothing, and returns no error, if the operation is not under
// way any more.
type Record interface {
	// Complete keeps the answer for those who send the request again.
	Complete(ctx context.Context, answer *httpapi.Response) error
	// Forget lets the key be used for another request.
	Forget(ctx context.Context) error
	// Release lets the same request go on at once.
	Release(ctx context.Context) error
}

// Operation is a request that was begun.
type Operation struct {
	// ID is what to do the request under: that of the first sender, whoever finishes it.
	ID string
	// Answer is the first answer, if the request is done already, else nil.
	Answer *httpapi.Response
	// Record is where it is kept.
	Record Record
}

// EndTime bounds the call that ends an operation or a lock after the request's own time is over. It is less than what
// httpapi keeps back to answer.
const EndTime = 300 * time.Millisecond

// End ends an operation, which its request does in every case, with the request's answer or its error:
//
//   - An answer is kept for those who send the request again.
//   - A refusal, which is a fault of the caller's (fault.Error.IsCallers), did nothing: the key is forgotten, so that a
//     corrected request may use it.
//   - Any other error may have done something: the same request again goes on at once, under the same ID.
//
// After an error it works though ctx is over. If it fails, that is logged: after an answer a repeat does the request
// again under the same ID; after an error it waits for the lock, ten seconds at most.
func (o *Operation) End(ctx context.Context, log *slog.Logger, answer *httpapi.Response, err error) {
	if ended := o.end(ctx, answer, err); ended != nil {
		log.WarnContext(ctx, "an operation could not be ended", "operation", o.ID, "error", ended)
	}
}

func (o *Operation) end(ctx context.Context, answer *httpapi.Response, err error) error {
	if err == nil {
		return o.Record.Complete(ctx, answer)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), EndTime)
	defer cancel()
	if failure, known := errors.AsType[*fault.Error](err); known && failure.IsCallers() {
		return o.Record.Forget(ctx)
	}
	return o.Record.Release(ctx)
}
