package contract_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/tests/document"
	"carillon/tests/harness"
)

// own is the namespace of the metrics that functions write into their logs (embedded metric format).
const own = "Carillon"

// watched is a metric that an alarm of the template looks at.
type watched struct {
	alarm, namespace, name string
	unit                   string            // that the alarm wants, empty for whatever
	dimensions             map[string]string // values as document.Text writes them: !Ref EngageDeliverFunction
	threshold              float64           // that it must be above, 0 where a parameter says
}

// watchedMetrics reads what every alarm of the template looks at.
func watchedMetrics(t *testing.T) []watched {
	t.Helper()
	var all []watched
	for id, alarm := range document.Load(t).OfType(t, "AWS::CloudWatch::Alarm") {
		properties := document.At(t, alarm, "Properties").(map[string]any)
		metric := func(of map[string]any, unit any) watched {
			w := watched{
				alarm:      id,
				namespace:  of["Namespace"].(string),
				name:       of["MetricName"].(string),
				dimensions: map[string]string{},
			}
			w.unit, _ = unit.(string)
			for _, d := range of["Dimensions"].([]any) {
				w.dimensions[document.Text(document.At(t, d, "Name"))] = document.Text(document.At(t, d, "Value"))
			}
			return w
		}
		queries, several := properties["Metrics"].([]any)
		if !several {
			one := metric(properties, properties["Unit"])
			one.threshold, _ = strconv.ParseFloat(document.Text(properties["Threshold"]), 64) // no number: a parameter
			all = append(all, one)
		}
		for _, query := range queries {
			if stat, is := query.(map[string]any)["MetricStat"].(map[string]any); is {
				all = append(all, metric(document.At(t, stat, "Metric").(map[string]any), stat["Unit"]))
			}
		}
	}
	require.NotEmpty(t, all)
	return all
}

// causes brings about what the alarms on our own metrics are for, by metric and function. Each returns a text that its
// log line alone has.
var causes = map[string]func(t *testing.T) (mark string){
	"gatewayErrors of EngageDeliverFunction": func(t *testing.T) string {
		tracking := unique()
		failsOnce(t, "gateway", tracking, standin.Answer{Status: http.StatusServiceUnavailable})
		body := demoBatch().set(tracking, "destinations", 0, "customTrackingId")
		return requirePushed(t, push(t, demoProgram(), body.text(t)))
	},
	"latenessMs of EngageDeliverFunction": func(t *testing.T) string {
		bundle.PauseQueues("DeliveryQueue")
		defer bundle.ResumeQueues("DeliveryQueue")
		accepted := time.Now()
		id := requirePushed(t, push(t, demoProgram(), demoBatch().text(t)))
		harness.Eventually(t, "the push is late", func() (time.Duration, bool) {
			late := time.Since(accepted)
			return late, late > 2*time.Second
		})
		return id
	},
	"platformErrors of OttDeliverFunction": func(t *testing.T) string {
		page := newPage(t)
		failsOnce(t, "ott", page.recipient(), standin.Answer{Status: http.StatusServiceUnavailable})
		return accepted(t, page.hello().text(t))
	},
	"refusedSignatures of OttCallbackFunction": func(t *testing.T) string {
		p := registered(t, messengerPage())
		a := send(
			t,
			callbackEvent.at(p.path()),
			`{"object":"page"}`,
			"X-Hub-Signature-256",
			"sha256="+strings.Repeat("0", 64),
		)
		require.GreaterOrEqual(t, a.Status, 400)
		return p.id
	},
	"mailsRefused of ProductMailFunction": func(t *testing.T) string {
		body := demoProduct()
		failsOnce(t, "mail", addressOf(body), standin.Answer{
			Status: http.StatusBadRequest, Body: `{"message":"refused"}`,
			Headers: map[string]string{"X-Amzn-Errortype": "MessageRejected"},
		})
		created := create(t, body.text(t))
		require.Equal(t, 201, created.Status)
		return created.RequestID()
	},
	"mailAccountFaults of ProductMailFunction": func(t *testing.T) string {
		body := demoProduct()
		failsOnce(t, "mail", addressOf(body), standin.Answer{
			Status: http.StatusBadRequest, Body: `{"message":"Email sending is paused."}`,
			Headers: map[string]string{"X-Amzn-Errortype": "SendingPausedException"},
		})
		created := create(t, body.text(t))
		require.Equal(t, 201, created.Status)
		return created.RequestID()
	},
	"mailsRefused of ProductMailEventFunction": func(t *testing.T) string {
		created := create(t, demoProduct().set("bounce+"+unique()+"@simulator.amazonses.com", emailPath...).text(t))
		require.Equal(t, 201, created.Status)
		return created.RequestID()
	},
}

// failures are what stand-ins answer for tests that run at the same time, by the partner; each has one hook.
var failures = struct {
	sync.Mutex
	of map[string][]standin.Hook
}{of: map[string][]standin.Hook{}}

// failsOnce has a stand-in answer so to the next request that holds a text.
func failsOnce(t *testing.T, partner, text string, answer standin.Answer) {
	t.Helper()
	failures.Lock()
	defer failures.Unlock()
	if failures.of[partner] == nil {
		bundle.Partners.Hook(partner, func(r standin.Request) *standin.Answer {
			failures.Lock()
			defer failures.Unlock()
			for _, hook := range failures.of[partner] {
				if answer := hook(r); answer != nil {
					return answer
				}
			}
			return nil
		})
	}
	failed := false
	failures.of[partner] = append(failures.of[partner], func(r standin.Request) *standin.Answer {
		if failed || !strings.Contains(string(r.Body)+r.Query, text) {
			return nil
		}
		failed = true
		return &answer
	})
}

// What an alarm of ours is made of is a log line: the right function writes it, and CloudWatch takes from it the metric
// that the alarm names, in its namespace, by exactly its dimensions, in its unit, as a number that counts.
func TestAlarmsOfOurOwnMetrics(t *testing.T) {
	t.Parallel()
	unused := maps.Clone(causes)
	for _, w := range watchedMetrics(t) {
		if w.namespace != own {
			continue
		}
		require.Len(t, w.dimensions, 1, "%s: our metrics have the dimension function and no other", w.alarm)
		function, is := strings.CutPrefix(w.dimensions["function"], "!Ref ")
		require.True(t, is, "%s looks at %s by %v", w.alarm, w.name, w.dimensions)
		key := w.name + " of " + function
		cause := causes[key]
		require.NotNil(
			t,
			cause,
			"%s: nothing brings about %s: add it to causes in tests/contract/alarms_test.go",
			w.alarm,
			key,
		)
		delete(unused, key)
		t.Run(w.alarm+" "+key, func(t *testing.T) {
			t.Parallel()
			mark := cause(t)
			line := harness.Eventually(t, "a line with "+mark+" and "+w.name, func() (embedded, bool) {
				return w.find(function, mark)
			})
			assert.InDelta(t, time.Now().UnixMilli(), line.AWS.Timestamp, float64(time.Hour.Milliseconds()))
			assert.Equal(
				t,
				bundle.Function(function).Name(),
				line.members["function"],
				"the value of the alarm's dimension",
			)
		})
	}
	assert.Empty(t, slices.Sorted(maps.Keys(unused)), "no alarm is for these any more: take them out of causes")
}

// embedded is a log line in embedded metric format.
type embedded struct {
	AWS struct {
		Timestamp         int64 // Unix milliseconds
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	} `json:"_aws"`
	members map[string]any
	raw     string
}

func (e embedded) String() string { return e.raw }

// find looks in a function's log for a line with a text that CloudWatch counts as the alarm's metric. If there is none,
// it returns the last line that has the text.
func (w watched) find(function, text string) (last embedded, found bool) {
	for _, raw := range bundle.LogOf(function) {
		if !strings.Contains(raw, text) {
			continue
		}
		line := embedded{raw: raw}
		last = line
		if json.Unmarshal([]byte(raw), &line) != nil || json.Unmarshal([]byte(raw), &line.members) != nil {
			continue // nothing that CloudWatch reads
		}
		if w.counts(line) {
			return line, true
		}
	}
	return last, false
}

func (w watched) counts(line embedded) bool {
	value, isNumber := line.members[w.name].(float64)
	if !isNumber || value <= w.threshold {
		return false
	}
	for _, directive := range line.AWS.CloudWatchMetrics {
		for _, metric := range directive.Metrics {
			if directive.Namespace == w.namespace && metric.Name == w.name && (w.unit == "" || metric.Unit == w.unit) &&
				slices.ContainsFunc(directive.Dimensions, func(set []string) bool {
					return slices.Equal(slices.Sorted(slices.Values(set)), slices.Sorted(maps.Keys(w.dimensions)))
				}) {
				return true
			}
		}
	}
	return false
}

// AWS's own metrics: what an alarm names must be there, for CloudWatch says nothing of a metric that nobody writes.
func TestAlarmsOfAWSMetrics(t *testing.T) {
	t.Parallel()
	template := document.Load(t)
	is := func(reference, kind, prefix, suffix string) bool {
		id, cut := strings.CutPrefix(reference, prefix)
		id, cutToo := strings.CutSuffix(id, suffix)
		return cut && cutToo && template.OfType(t, kind)[id] != nil
	}
	metrics := map[string]map[string]func(value string) bool{ // by namespace and dimension
		"AWS/Lambda": {"FunctionName": func(v string) bool { return is(v, "AWS::Serverless::Function", "!Ref ", "") }},
		"AWS/SQS":    {"QueueName": func(v string) bool { return is(v, "AWS::SQS::Queue", "!GetAtt ", ".QueueName") }},
		"AWS/ApiGateway": {
			"ApiId":    func(v string) bool { return is(v, "AWS::Serverless::HttpApi", "!Ref ", "") },
			"Stage":    func(v string) bool { return v == "$default" },
			"Method":   func(v string) bool { return slices.Contains([]string{"GET", "POST", "DELETE"}, v) },
			"Resource": func(v string) bool { return description.Paths.Value(v) != nil },
		},
	}
	names := map[string][]string{ // as AWS documents them
		"AWS/Lambda":     {"ConcurrentExecutions", "Errors", "Invocations"},
		"AWS/SQS":        {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
		"AWS/ApiGateway": {"5xx"},
	}
	for _, w := range watchedMetrics(t) {
		if w.namespace == own {
			continue
		}
		t.Run(w.alarm+" "+w.name+" of "+fmt.Sprint(w.dimensions), func(t *testing.T) {
			require.Contains(t, metrics, w.namespace, "say in tests/contract/alarms_test.go what its dimensions may be")
			assert.Contains(t, names[w.namespace], w.name)
			assert.NotEmpty(t, w.dimensions)
			for name, value := range w.dimensions {
				require.Contains(t, metrics[w.namespace], name)
				assert.True(t, metrics[w.namespace][name](value), "%s=%s is nothing of the template's", name, value)
			}
			if method, resource := w.dimensions["Method"], w.dimensions["Resource"]; method != "" {
				assert.NotNil(t, description.Paths.Value(resource).GetOperation(method), "%s %s", method, resource)
			}
		})
	}
}
