package mailevent

import (
	"context"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/metrics"
	"carillon/shared/product"
)

// UnknownMail is what the log is told of a job or an event of a mail that is not kept, or not any more.
const UnknownMail = "unknown mail"

// isRefusal has the states that count as refused, those of mails whose fate nobody knows among them.
var isRefusal = map[product.MailState]bool{
	product.MailRefused: true, product.MailBounced: true, product.MailSuppressed: true, product.MailUnknown: true,
}

// LogOutcome writes a line per outcome, with its metric in it. The reason stays out of it: it may hold an address.
func LogOutcome(
	ctx context.Context, log *slog.Logger, requestID string, outcome product.Outcome, more ...slog.Attr,
) {
	level, refused := slog.LevelInfo, 0
	if outcome.Refused || isRefusal[outcome.State] {
		level, refused = slog.LevelWarn, 1
	}
	attrs := []slog.Attr{slog.String("request", requestID), slog.String("state", string(outcome.State))}
	attrs = append(attrs, more...)
	attrs = append(attrs,
		slog.String("sesMessageId", outcome.MessageID),
		slog.Int("mailsRefused", refused),
		slog.String("function", lambdacontext.FunctionName),
		metrics.Embedded("function", "mailsRefused"))
	log.LogAttrs(ctx, level, "mail", attrs...)
}
