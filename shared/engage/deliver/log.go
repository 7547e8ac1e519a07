package deliver

import (
	"context"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/metrics"
)

// logPost writes a line per POST. The alarms on late pushes and on the gateway's failures are made of it: gatewayErrors
// counts what docs/contract.md §2 says, and the first POST of a chunk says how late it was.
func (d *delivery) logPost(ctx context.Context, lateness time.Duration, a answer, t tally) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("pushId", d.job.RequestID),
		slog.Int("chunk", d.job.Chunk),
		slog.String("webhookId", d.sent),
		slog.String("said", a.said.String()),
	}
	if a.cause != nil {
		attrs = append(attrs, slog.String("error", a.cause.Error()))
	}
	if t.errors() > 0 {
		level = slog.LevelWarn
		attrs = append(attrs,
			slog.Int("retries", t.retries), slog.Int("unmatched", t.unmatched), slog.Int("odd", t.odd))
	}
	attrs = append(attrs, slog.Int("gatewayErrors", t.errors()))
	measured := []string{"gatewayErrors"}
	if d.isFirst {
		attrs = append(attrs, slog.Float64("latenessMs", float64(lateness.Microseconds())/1000))
		measured = append(measured, "latenessMs")
	}
	attrs = append(attrs,
		slog.String("function", lambdacontext.FunctionName), metrics.Embedded("function", measured...))
	d.Log.LogAttrs(ctx, level, "push", attrs...)
}
