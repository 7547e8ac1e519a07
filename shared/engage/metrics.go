package engage

import (
	"log/slog"
	"strings"
	"time"
)

// embeddedMetrics tells CloudWatch which attributes of a log line are metrics, by one dimension (embedded metric format).
// A name that ends in Ms is in milliseconds, every other one a count.
func embeddedMetrics(dimension string, names ...string) slog.Attr {
	type metric struct{ Name, Unit string }
	type directive struct {
		Namespace  string
		Dimensions [][]string
		Metrics    []metric
	}
	d := directive{Namespace: "Carillon", Dimensions: [][]string{{dimension}}}
	for _, name := range names {
		unit := "Count"
		if strings.HasSuffix(name, "Ms") {
			unit = "Milliseconds"
		}
		d.Metrics = append(d.Metrics, metric{name, unit})
	}
	return slog.Any("_aws", struct {
		Timestamp         int64
		CloudWatchMetrics []directive
	}{time.Now().UnixMilli(), []directive{d}})
}
