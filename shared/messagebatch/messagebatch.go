// Package messagebatch handles what Lambda brings a function from an SQS queue: several messages at once, of which some may
// fail without the others coming again (partial batch responses).
package messagebatch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/aws/aws-lambda-go/events"
)

// Each calls handle with the body of every message of a batch, for all of them at the same time, and answers which ones
// failed: SQS brings these back. A message that makes handle panic has failed like one that it returns an error for. Each
// logs every failure with the message's id; an error must not hold what a log must not.
func Each(ctx context.Context, batch events.SQSEvent, handle func(ctx context.Context, body string) error) events.SQSEventResponse {
	failed := make([]bool, len(batch.Records))
	var all sync.WaitGroup
	for i, message := range batch.Records {
		all.Go(func() {
			if err := safely(ctx, message.Body, handle); err != nil {
				failed[i] = true
				slog.ErrorContext(ctx, "a message could not be handled", "messageId", message.MessageId, "error", err)
			}
		})
	}
	all.Wait()
	var response events.SQSEventResponse
	for i, message := range batch.Records {
		if failed[i] {
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: message.MessageId})
		}
	}
	return response
}

func safely(ctx context.Context, body string, handle func(ctx context.Context, body string) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return handle(ctx, body)
}
