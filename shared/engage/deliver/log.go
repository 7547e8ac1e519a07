package deliver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/metrics"
)

// logPost writes a line per POST. The alarms on late pushes and on the gateway's failures are made of it: gatewayErrors
// is 0 or 1, and the first POST of a chunk says how late it was.
func (d *delivery) logPost(ctx context.Context, lateness time.Duration, a answer, err error) {
	level, gatewayErrors := slog.LevelInfo, 0
	if a.refused != "" {
		err = errors.New(a.refused)
	}
	attrs := []slog.Attr{
		slog.String("pushId", d.meta.RequestID),
		slog.Int("chunk", d.lease.Chunk),
		slog.Int("attempt", d.progress.Attempt),
		slog.Int("tries", d.job.Tries),
	}
	if err != nil {
		level, gatewayErrors = slog.LevelWarn, 1
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	attrs = append(attrs, slog.Int("gatewayErrors", gatewayErrors))
	measured := []string{"gatewayErrors"}
	if d.progress.Attempt == 0 && d.job.Tries == 0 {
		attrs = append(attrs, slog.Float64("latenessMs", float64(lateness.Microseconds())/1000))
		measured = append(measured, "latenessMs")
	}
	attrs = append(attrs,
		slog.String("function", lambdacontext.FunctionName), metrics.Embedded("function", measured...))
	d.log.LogAttrs(ctx, level, "push", attrs...)
}
