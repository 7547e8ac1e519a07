// Package messagebatch handles what Lambda brings a function from an SQS queue: several messages at once, of which some
// may fail without the others coming again (partial batch responses).
package messagebatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/aws/aws-lambda-go/events"
	"github.com/go-json-experiment/json"
)

// Handler is a function's handler for a queue.
type Handler func(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error)

// Each returns a Handler that calls handle with the body of every message of a batch, for all of them at the same time,
// and answers which ones failed: SQS brings these back. A message that makes handle panic has failed like one that it
// returns an error for. Every failure is logged with the message's id; an error must not hold what a log must not.
// The Handler returns no error.
func Each(log *slog.Logger, handle func(ctx context.Context, body string) error) Handler {
	return func(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
		failed := make([]bool, len(batch.Records))
		var all sync.WaitGroup
		for i, message := range batch.Records {
			all.Go(func() {
				if err := safely(ctx, message.Body, handle); err != nil {
					failed[i] = true
					log.ErrorContext(
						ctx,
						"a message could not be handled",
						"messageId",
						message.MessageId,
						"error",
						err,
					)
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
	return Each(log, func(ctx context.Context, body string) error {
		var job J
		if err := json.Unmarshal([]byte(body), &job); err != nil || !job.Complete() {
			return errJob
		}
		return handle(ctx, job)
	})
}

func safely(ctx context.Context, body string, handle func(ctx context.Context, body string) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return handle(ctx, body)
}
