package mail

import (
	"context"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/metrics"
	"carillon/shared/product"
)

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
