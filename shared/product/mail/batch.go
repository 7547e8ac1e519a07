package mail

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/metrics"
	"carillon/shared/product"
)

// each handles the messages of a batch, all at the same time, and reports those that failed.
func each(ctx context.Context, event events.SQSEvent, handle func(ctx context.Context, body string) error) events.SQSEventResponse {
	failed := make([]bool, len(event.Records))
	var all sync.WaitGroup
	for i, record := range event.Records {
		all.Go(func() {
			if err := safely(ctx, record.Body, handle); err != nil {
				failed[i] = true
				slog.ErrorContext(ctx, "a message could not be handled", "messageId", record.MessageId, "error", err)
			}
		})
	}
	all.Wait()
	var response events.SQSEventResponse
	for i, record := range event.Records {
		if failed[i] {
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: record.MessageId})
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

// logOutcome writes a line per outcome, with its metric in it. The reason stays out of it: it may hold an address.
func logOutcome(ctx context.Context, requestID string, outcome product.Outcome, more ...slog.Attr) {
	level, refused := slog.LevelInfo, 0
	switch outcome.State {
	case product.MailRefused, product.MailBounced, product.MailSuppressed, product.MailUnknown:
		level, refused = slog.LevelWarn, 1
	}
	attrs := append([]slog.Attr{slog.String("request", requestID), slog.String("state", string(outcome.State))}, more...)
	attrs = append(attrs,
		slog.String("sesMessageId", outcome.MessageID),
		slog.Int("mailsRefused", refused),
		slog.String("function", lambdacontext.FunctionName),
		metrics.Embedded("function", "mailsRefused"))
	slog.LogAttrs(ctx, level, "mail", attrs...)
}
