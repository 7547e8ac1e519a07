// Package messagebatch handles what Lambda brings a function from an SQS queue: several messages at once, of which some
// may fail without the others coming again (partial batch responses).
package messagebatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	"github.com/aws/aws-lambda-go/events"
	"github.com/go-json-experiment/json"
)

// Handler is a function's handler for a queue.
type Handler func(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error)

// ErrHeld is what a handler returns for a message that is to come again and has not failed: it has told the queue when.
var ErrHeld = errors.New("messagebatch: the message is held back")

// Each returns a Handler that calls handle with the body of every message of a batch, for all of them at the same time,
// and answers which ones failed: SQS brings these back. A message that makes handle panic has failed like one that it
// returns an error for. Every failure but ErrHeld is logged with the message's id; an error must not hold what a log
// must not. The Handler returns no error.
func Each(log *slog.Logger, handle func(ctx context.Context, body string) error) Handler {
	return each(log, func(ctx context.Context, message events.SQSMessage) error { return handle(ctx, message.Body) })
}

func each(log *slog.Logger, handle func(ctx context.Context, message events.SQSMessage) error) Handler {
	return func(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
		failed := make([]bool, len(batch.Records))
		var all sync.WaitGroup
		for i, message := range batch.Records {
			all.Go(func() {
				err := safely(ctx, message, handle)
				failed[i] = err != nil
				if err != nil && !errors.Is(err, ErrHeld) {
					log.ErrorContext(ctx, "a message could not be handled",
						"messageId", message.MessageId, "error", err)
				}
			})
		}
		all.Wait()
		var response events.SQSEventResponse
		for i, message := range batch.Records {
			if failed[i] {
				response.BatchItemFailures = append(response.BatchItemFailures,
					events.SQSBatchItemFailure{ItemIdentifier: message.MessageId})
			}
		}
		return response, nil
	}
}

// Job is what the body of a message holds, as JSON.
type Job interface {
	// Complete reports whether the job has all that it needs.
	Complete() bool
}

var errJob = errors.New("messagebatch: a message is not the job that its queue is for")

// Jobs is Each for a queue of jobs. A message that holds none has failed; its body is not quoted.
func Jobs[J Job](log *slog.Logger, handle func(ctx context.Context, job J) error) Handler {
	return Received(log, func(ctx context.Context, r Receipt[J]) error { return handle(ctx, r.Job) })
}

// Receipt is a job as it was received.
type Receipt[J Job] struct {
	Job    J
	Handle string // names this receipt to the queue
	Count  int    // how often the job was received, with this time, about; 0 if the queue does not say
}

// Received is Jobs for a handler that tells the queue when a job is to come again.
func Received[J Job](log *slog.Logger, handle func(ctx context.Context, r Receipt[J]) error) Handler {
	return each(log, func(ctx context.Context, message events.SQSMessage) error {
		r := Receipt[J]{Handle: message.ReceiptHandle}
		if err := json.Unmarshal([]byte(message.Body), &r.Job); err != nil || !r.Job.Complete() {
			return errJob
		}
		r.Count, _ = strconv.Atoi(message.Attributes["ApproximateReceiveCount"])
		return handle(ctx, r)
	})
}

func safely(
	ctx context.Context, message events.SQSMessage, handle func(ctx context.Context, message events.SQSMessage) error,
) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return handle(ctx, message)
}
