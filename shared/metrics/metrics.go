// Package metrics puts CloudWatch metrics into log lines (embedded metric format), so that they cost no call.
package metrics

import (
	"log/slog"
	"strings"
	"time"
)

const namespace = "Carillon"

type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []metric
}

type metric struct{ Name, Unit string }

// Embedded returns the attribute _aws, which tells CloudWatch which other attributes of its log line are metrics, in
// the namespace Carillon and by one dimension. A name that ends in Ms is in milliseconds, every other one a count.
func Embedded(dimension string, names ...string) slog.Attr {
	d := directive{Namespace: namespace, Dimensions: [][]string{{dimension}}}
	for _, name := range names {
		unit := "Count"
		if strings.HasSuffix(name, "Ms") {
			unit = "Milliseconds"
		}
		d.Metrics = append(d.Metrics, metric{name, unit})
	}
	return slog.Any("_aws", struct {
		Timestamp         int64 // Unix milliseconds
		CloudWatchMetrics []directive
	}{time.Now().UnixMilli(), []directive{d}})
}
