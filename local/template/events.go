package template

import (
	"strconv"
	"strings"
	"time"
)

// Route is an HttpApi event. Method is upper case, or ANY; the path is as API Gateway has it, with {name} and {name+}.
type Route struct {
	Method, Path string
	// Timeout is the integration's own, zero for API Gateway's 30 seconds.
	Timeout time.Duration
}

// Mapping is an SQS event: an event source mapping that feeds a queue's messages to the function.
type Mapping struct {
	// QueueARN is the queue's.
	QueueARN string
	// BatchSize is how many messages one invocation gets at most, 1 to 10.
	BatchSize int
	// MaximumConcurrency bounds the invocations at the same time, 0 if the template does not.
	MaximumConcurrency int
	// ReportBatchItemFailures says that the function names the messages that failed.
	ReportBatchItemFailures bool
	// Disabled mappings take nothing from their queue.
	Disabled bool
}

// Schedule is a ScheduleV2 event: EventBridge Scheduler invokes the function.
type Schedule struct {
	// Name is the schedule's, unique in the account.
	Name string
	// Every is the rate.
	Every time.Duration
	// Input is the payload; empty for the scheduler's own.
	Input string
	// Disabled schedules run only when they are triggered.
	Disabled bool
}

// The limits of what the local run polls.
const (
	defaultBatchSize = 10
	maxBatchSize     = 10 // above it, Lambda gathers a batch from several receives for a while
)

// event reads one of a function's events into it. The id is what SAM names its resource.
func (r *reader) event(function *Function, id, what string, event map[string]any) {
	r.only(what, event, "Type", "Properties")
	properties := r.object(what, event["Properties"])
	switch kind := text(event["Type"]); kind {
	case "HttpApi":
		function.Routes = append(function.Routes, r.route(what, properties))
	case "SQS":
		function.Mappings = append(function.Mappings, r.mapping(what, properties))
	case "ScheduleV2":
		function.Schedules = append(function.Schedules, r.schedule(id, what, properties))
	default:
		r.fail("%s: the local run does not know events of type %s", what, kind)
	}
}

func (r *reader) route(what string, properties map[string]any) Route {
	r.only(what, properties, "ApiId", "Path", "Method", "PayloadFormatVersion", "TimeoutInMillis", "RouteSettings")
	if version := r.text("PayloadFormatVersion", properties["PayloadFormatVersion"], "2.0"); version != "2.0" {
		r.fail("%s: the local run speaks payload format 2.0, not %s", what, version)
	}
	route := Route{
		Method:  strings.ToUpper(r.text("Method", properties["Method"], "ANY")),
		Path:    r.text("Path", properties["Path"], ""),
		Timeout: time.Duration(r.integer("TimeoutInMillis", properties["TimeoutInMillis"], 0)) * time.Millisecond,
	}
	if !strings.HasPrefix(route.Path, "/") {
		r.fail("%s: Path must begin with a slash", what)
	}
	if route.Method == "X-AMAZON-APIGATEWAY-ANY-METHOD" {
		route.Method = "ANY"
	}
	return route
}

func (r *reader) mapping(what string, properties map[string]any) Mapping {
	r.only(
		what,
		properties,
		"Queue",
		"BatchSize",
		"MaximumBatchingWindowInSeconds",
		"FunctionResponseTypes",
		"ScalingConfig",
		"Enabled",
	)
	scaling := r.object("ScalingConfig", properties["ScalingConfig"])
	r.only(what+".ScalingConfig", scaling, "MaximumConcurrency")
	mapping := Mapping{
		QueueARN:           r.text("Queue", properties["Queue"], ""),
		BatchSize:          r.integer("BatchSize", properties["BatchSize"], defaultBatchSize),
		MaximumConcurrency: r.integer("MaximumConcurrency", scaling["MaximumConcurrency"], 0),
		Disabled:           !r.boolean("Enabled", properties["Enabled"], true),
	}
	if mapping.QueueARN == "" {
		r.fail("%s: Queue is missing", what)
	}
	if mapping.BatchSize < 1 || mapping.BatchSize > maxBatchSize {
		r.fail("%s: the local run knows a BatchSize of 1 to %d", what, maxBatchSize)
	}
	if r.integer("MaximumBatchingWindowInSeconds", properties["MaximumBatchingWindowInSeconds"], 0) != 0 {
		r.fail("%s: the local run does not wait for a batch to fill: MaximumBatchingWindowInSeconds must be 0", what)
	}
	for _, kind := range r.list("FunctionResponseTypes", properties["FunctionResponseTypes"]) {
		if kind != "ReportBatchItemFailures" {
			r.fail("%s: the local run does not know the response type %v", what, kind)
		}
		mapping.ReportBatchItemFailures = true
	}
	return mapping
}

func (r *reader) schedule(id, what string, properties map[string]any) Schedule {
	r.only(what, properties, "ScheduleExpression", "Name", "OmitName", "State", "Input", "FlexibleTimeWindow",
		// About permissions, and about a Lambda API that refuses the scheduler.
		"Description", "GroupName", "PermissionsBoundary", "RoleArn", "RetryPolicy")
	window := r.object("FlexibleTimeWindow", properties["FlexibleTimeWindow"])
	if mode := r.text("Mode", window["Mode"], "OFF"); mode != "OFF" {
		r.fail("%s: the local run knows schedules that are on time alone: FlexibleTimeWindow must be OFF", what)
	}
	schedule := Schedule{
		Name:  r.text("Name", properties["Name"], id),
		Every: r.rate(what, r.text("ScheduleExpression", properties["ScheduleExpression"], "")),
		Input: r.text("Input", properties["Input"], ""),
	}
	switch state := r.text("State", properties["State"], "ENABLED"); state {
	case "ENABLED":
	case "DISABLED":
		schedule.Disabled = true
	default:
		r.fail("%s: State %s is neither ENABLED nor DISABLED", what, state)
	}
	return schedule
}

// rate reads rate(1 minute), rate(5 minutes), rate(1 hour), rate(7 days) and the like.
func (r *reader) rate(what, expression string) time.Duration {
	inner, isRate := strings.CutPrefix(expression, "rate(")
	inner, isClosed := strings.CutSuffix(inner, ")")
	count, unit, _ := strings.Cut(strings.TrimSpace(inner), " ")
	n, err := strconv.Atoi(count)
	lengths := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}
	length, known := lengths[strings.TrimSuffix(unit, "s")]
	if !isRate || !isClosed || err != nil || n < 1 || !known {
		r.fail("%s: the local run knows schedules such as rate(1 minute), not %q", what, expression)
	}
	return time.Duration(n) * length
}
