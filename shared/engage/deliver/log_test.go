package deliver_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage/engagetest"
)

// metrics returns the metrics that CloudWatch takes from a log line (embedded metric format), by name. It fails unless
// they are in the namespace and by the dimension of the alarms in template.yaml, and their values are where CloudWatch
// looks.
func metrics(t *testing.T, line map[string]any) map[string]float64 {
	t.Helper()
	embedded, _ := line["_aws"].(map[string]any)
	assert.Positive(t, embedded["Timestamp"])
	directives, _ := embedded["CloudWatchMetrics"].([]any)
	require.Len(t, directives, 1)
	directive, _ := directives[0].(map[string]any)
	assert.Equal(t, "Carillon", directive["Namespace"])
	assert.Equal(t, []any{[]any{"function"}}, directive["Dimensions"])
	assert.Equal(t, function, line["function"], "the dimension's value")
	named, _ := directive["Metrics"].([]any)
	values := map[string]float64{}
	units := map[any]any{}
	for _, n := range named {
		metric, _ := n.(map[string]any)
		name, _ := metric["Name"].(string)
		value, isNumber := line[name].(float64)
		require.True(t, isNumber, "%s is a number at the top of the line: %v", name, line)
		values[name], units[name] = value, metric["Unit"]
	}
	assert.Equal(t, "Count", units["gatewayErrors"])
	if _, first := values["latenessMs"]; first {
		assert.Equal(t, "Milliseconds", units["latenessMs"])
	}
	return values
}

// LatenessAlarm and GatewayErrorsAlarm are made of the lines that say what became of a POST.
func TestTheAlarmsLines(t *testing.T) {
	t.Parallel()
	fails := func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }
	refuses := func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) }
	breaks := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	takes := func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) }
	tells := func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"results":[]}`)) } // of none: all of it again
	odd := func(w http.ResponseWriter) {
		_, _ = w.Write([]byte(`{"results":[{"bNumber":"+15018902001","status":"delivered"},
			{"bNumber":"+15018902002","status":"perhaps"},{"bNumber":"+19999999999","status":"delivered"}]}`))
	}
	type (
		answer = func(http.ResponseWriter)
		values = map[string]float64
	)
	first := func(latenessMs, gatewayErrors float64) values {
		return values{"latenessMs": latenessMs, "gatewayErrors": gatewayErrors}
	}
	later := func(gatewayErrors float64) values { return values{"gatewayErrors": gatewayErrors} }
	for name, test := range map[string]struct {
		late    time.Duration
		answers []answer
		want    []values // of each POST
	}{
		"in time":       {0, []answer{takes}, []values{first(0, 0)}},
		"late":          {1500 * time.Millisecond, []answer{takes}, []values{first(1500, 0)}},
		"refused":       {0, []answer{refuses}, []values{first(0, 1)}},
		"failed":        {0, []answer{fails, takes}, []values{first(0, 1), later(0)}},
		"no answer":     {time.Second, []answer{breaks, takes}, []values{first(1000, 1), later(0)}},
		"again":         {0, []answer{tells, takes}, []values{first(0, 3), later(0)}},
		"again, failed": {0, []answer{tells, fails, takes}, []values{first(0, 3), later(1), later(0)}},
		"odd":           {0, []answer{odd, takes}, []values{first(0, 2 + 1 + 1), later(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := engagetest.New(t)
			p.Gateway.Answer = func(n int, _ engagetest.Post, w http.ResponseWriter, _ *http.Request) {
				test.answers[n](w)
			}
			push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
			p.Clock.Advance(test.late)
			require.Empty(t, p.Deliver(t, push, chunks))
			var got []values
			for _, line := range p.Log.Lines(t, "push") {
				assert.Equal(t, push.RequestID, line["pushId"])
				got = append(got, metrics(t, line))
			}
			assert.Equal(t, test.want, got)
		})
	}
}
