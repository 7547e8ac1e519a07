package simulation

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/engage/api"
	"carillon/shared/engage/deliver"
	"carillon/shared/engage/schedule"
	"carillon/shared/engage/store"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/secret"
	"carillon/shared/token"
	"carillon/tests/simulation/bubble"
)

// This file is how the code under test is put together: the only place that knows its constructors, and what
// template.yaml and functions/engage-* say of it.

// kind is a function of the bundle.
type kind = string

const (
	kindBatch    kind = "batch"
	kindCancel   kind = "cancel"
	kindStatus   kind = "status"
	kindDeliver  kind = "deliver"
	kindSchedule kind = "schedule"
)

// timeouts are the functions' time-outs in template.yaml.
var timeouts = map[kind]time.Duration{
	kindBatch: 29 * time.Second, kindCancel: 10 * time.Second, kindStatus: 10 * time.Second,
	kindDeliver: 45 * time.Second, kindSchedule: 55 * time.Second,
}

const (
	gatewayURL  = "https://gateway.example.com/push"
	gatewayName = "gateway"
	// gatewayTimeout is the default of GatewayTimeout.
	gatewayTimeout = 15 * time.Second
	// maxHanging is how many POSTs may hang at a tenant's gateway side at the same time: 60 % of the invocations of
	// each queue.
	maxHanging = (deliveryConcurrency + retryConcurrency) * 60 / 100

	queues      = "https://sqs.us-east-1.amazonaws.com/000000000000/"
	deliveryURL = queues + "delivery"
	retryURL    = queues + "retry"

	deliveryConcurrency = 100
	retryConcurrency    = 30
)

// queuesOf returns the queues that template.yaml declares, and what works through them.
func queuesOf(w *world) []*queue {
	return []*queue{
		{
			world: w, name: "delivery", url: deliveryURL, kind: kindDeliver,
			batchSize: 10, maxConcurrency: deliveryConcurrency,
		},
		{world: w, name: "retry", url: retryURL, kind: kindDeliver, batchSize: 1, maxConcurrency: retryConcurrency},
	}
}

// function is what a process serves: one of these.
type function struct {
	http    func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)
	deliver func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)
	sweep   func(context.Context) error
}

// serves returns what a process serves.
func serves(p *bubble.Process) *function { return p.Serves.(*function) }

// serve starts a process of a function, as its main does.
func (w *world) serve(p *bubble.Process) {
	f := &function{}
	p.Serves = f
	log := p.Log()
	items := dynamodb.NewFromConfig(bubble.AWSConfig(&bubble.DynamoTransport{Process: p}))
	messages := sqs.NewFromConfig(bubble.AWSConfig(&sqsTransport{world: w, process: p}))
	pushes := store.NewPushes(items, w.tables.Pushes, bubble.SteadyClock{SkewedClock: p.Clock})
	urls := schedule.URLs{Delivery: deliveryURL, Retry: retryURL}
	jobs := schedule.NewQueue(messages, urls, bubble.SteadyClock{SkewedClock: p.Clock})
	http := func(handler httpapi.Handler) {
		f.http = httpapi.Adapt(httpapi.Endpoint{Handler: handler, EncodeError: api.EncodeError}, log)
	}
	switch p.Kind {
	case kindBatch:
		http((&api.BatchHandler{
			Tokens: tokens, Content: content{}, Pushes: pushes,
			Operations: idempotencystore.New(items, w.tables.Idempotency, p.Clock),
			Queue:      jobs.DeliveryQueue, Clock: p.Clock, Log: log,
		}).Serve)
	case kindCancel:
		http((&api.CancelHandler{Tokens: tokens, Pushes: pushes, Clock: p.Clock}).Serve)
	case kindStatus:
		http((&api.StatusHandler{Tokens: tokens, Pushes: pushes}).Serve)
	case kindDeliver:
		gateway, err := deliver.NewGateway(deliver.GatewayOptions{
			URL: gatewayURL, Secrets: secrets{}, SecretName: gatewayName, Clock: p.Clock,
			Timeout: gatewayTimeout, Transport: &gatewayTransport{world: w, process: p},
		})
		if err != nil {
			panic(err)
		}
		concurrency := deliver.Concurrency{First: deliveryConcurrency, Again: retryConcurrency}
		f.deliver = deliver.NewDeliverer(deliver.Options{
			Pushes: pushes, Queue: jobs, Permits: deliver.NewLanes(pushes, concurrency), Gateway: gateway,
			Clock: p.Clock, Log: log,
		}).Handle
	case kindSchedule:
		f.sweep = (&schedule.Scheduler{Pushes: pushes, Queue: jobs, Clock: p.Clock, Log: log}).Sweep
	}
}

// pushesOutside returns the store for whoever looks on: without latency, faults or a skewed clock.
func (w *world) pushesOutside() *store.Pushes {
	items := dynamodb.NewFromConfig(bubble.AWSConfig(bubble.BareTransport{Bridge: w.Bridge}))
	return store.NewPushes(items, w.tables.Pushes, bubble.SkewedClock{})
}

// tokens issues and checks the access tokens.
var tokens = &token.Authority{Keys: secrets{}, KeyName: "signing", Audience: "engage", Lifetime: 15 * time.Minute}

// secrets are what Secrets Manager holds.
type secrets struct{}

// Get returns the one version of every secret that there is.
func (secrets) Get(_ context.Context, name string, stage secret.Stage, _ time.Duration) (secret.Version, error) {
	if stage != secret.Current {
		return secret.Version{}, secret.ErrNotFound
	}
	value := "a signing key of thirty-two bytes"
	if name == gatewayName {
		value = signingSecret
	}
	return secret.Version{ID: "1", Value: secret.NewText(value)}, nil
}

// Queue is what the simulation says of a queue of template.yaml, as the template has it.
type Queue struct {
	LogicalID, Event, Parameter                  string
	BatchSize, Concurrency, Visibility, Receives string
}

// Queues returns the queues that are simulated.
func Queues() []Queue {
	var all []Queue
	for _, q := range queuesOf(nil) {
		described := Queue{
			LogicalID: "DeliveryQueue",
			Event:     "Queue",
			Parameter: "DeliveryConcurrency",
			BatchSize: strconv.Itoa(
				q.batchSize,
			),
			Concurrency: strconv.Itoa(q.maxConcurrency),
			Receives:    strconv.Itoa(maxReceives),
			Visibility:  strconv.Itoa(int((visibilityTimes * timeouts[q.kind]).Seconds())),
		}
		if q.url == retryURL {
			described.LogicalID, described.Event, described.Parameter = "RetryQueue", "Retries", "RetryConcurrency"
		}
		all = append(all, described)
	}
	return all
}

// Timeouts returns the time-outs of the functions that are simulated, in seconds, by their names.
func Timeouts() map[string]string {
	all := map[string]string{}
	for kind, timeout := range timeouts {
		all["engage-"+kind] = strconv.Itoa(int(timeout.Seconds()))
	}
	return all
}

// GatewayTimeout returns how long a POST may take, as the parameter has it.
func GatewayTimeout() string { return gatewayTimeout.String() }
