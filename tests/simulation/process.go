package simulation

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/awsconfig"
	"carillon/shared/engage/api"
	"carillon/shared/engage/deliver"
	"carillon/shared/engage/schedule"
	"carillon/shared/engage/store"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/secret"
	"carillon/shared/token"
)

// This file is how the code under test is put together: the only place that knows its constructors, and what
// template.yaml and functions/engage-* say of it.

// kind is a function of the bundle.
type kind string

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

// process is a running instance of a function: its own clients, caches and clock. It serves one event at a time.
type process struct {
	world *world
	kind  kind
	id    string
	clock skewedClock
	ctx   context.Context
	stop  context.CancelFunc

	// What it serves: one of these.
	http    func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)
	deliver func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)
	sweep   func(context.Context) error

	mu      sync.Mutex
	dead    bool
	serving []string // the request ids that it is at
}

// errKilled is the result of an invocation whose process died.
var errKilled = errors.New("the process died")

// take returns the process of a function that was used last and is idle, or a new one. Who takes several at the same
// time does so in one goroutine, so that the seed says which is for what.
func (w *world) take(k kind) (p *process, isNew bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if idle := w.pools[k]; len(idle) > 0 {
		p, w.pools[k] = idle[len(idle)-1], idle[:len(idle)-1]
		return p, false
	}
	n := w.seen["process "+string(k)]
	w.seen["process "+string(k)]++
	return w.newProcess(k, n), true
}

// invoke has a process of a function serve something. It returns errKilled if the process dies meanwhile, by a fault or
// by the function's time-out.
func (w *world) invoke(k kind, lambdaID string, serving []string, serve func(ctx context.Context, p *process)) error {
	p, isNew := w.take(k)
	return w.invokeProcess(p, isNew, lambdaID, serving, serve)
}

// invokeProcess is invoke with a process that was taken.
func (w *world) invokeProcess(
	p *process, isNew bool, lambdaID string, serving []string, serve func(ctx context.Context, p *process),
) error {
	if isNew {
		start := w.dice("cold start", p.id).between(50*time.Millisecond, w.scenario.faults.coldStart)
		if err := sleep(w.ctx, start); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.serving = serving
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx, timeouts[p.kind])
	defer cancel()
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: lambdaID})
	done := make(chan struct{})
	w.start(func() {
		defer close(done)
		serve(ctx, p)
	})
	select {
	case <-done:
	case <-ctx.Done():
		if p.ctx.Err() == nil {
			p.kill("the function's time is over")
		}
	}
	p.mu.Lock()
	dead := p.dead
	p.serving = nil
	p.mu.Unlock()
	if dead {
		return errKilled
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pools[p.kind] = append(w.pools[p.kind], p)
	return nil
}

// kill ends the process: nothing that it does from now on has an effect, and nobody hears of it.
func (p *process) kill(why string) {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.dead = true
	serving := p.serving
	p.mu.Unlock()
	for _, id := range serving {
		p.world.hit(id, "%s dies: %s", p.id, why)
	}
	if p.kind == kindSchedule {
		p.world.hitAll("%s dies: %s", p.id, why)
	}
	p.stop()
}

// hit notes that the platform's trouble met a push, or, if the call that it met is of no push, all that the process
// serves.
func (p *process) hit(requestID, format string, args ...any) {
	w := p.world
	w.mu.Lock()
	known := w.owners[requestID] != nil
	w.mu.Unlock()
	if known {
		w.hit(requestID, format, args...)
		return
	}
	p.mu.Lock()
	serving := p.serving
	p.mu.Unlock()
	for _, id := range serving {
		w.hit(id, format, args...)
	}
	if len(serving) == 0 {
		w.say("", "fault: "+format, args...)
	}
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// newProcess starts a process of a function, as its main does.
func (w *world) newProcess(k kind, n int) *process {
	p := &process{world: w, kind: k, id: string(k) + "-" + itoa(n)}
	skew := w.scenario.faults.skew
	if skew > 0 {
		p.clock.skew = throw(w.scenario.Seed, "skew", p.id).between(-skew, skew)
	}
	p.ctx, p.stop = context.WithCancel(w.ctx)
	log := slog.New(slog.NewTextHandler(logWriter{p}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	items := dynamodb.NewFromConfig(awsConfig(&dynamoTransport{process: p}))
	messages := sqs.NewFromConfig(awsConfig(&sqsTransport{process: p}))
	pushes := store.NewPushes(items, w.tables.Pushes, steadyClock{p.clock})
	urls := schedule.URLs{Delivery: deliveryURL, Retry: retryURL}
	jobs := schedule.NewQueue(messages, urls, steadyClock{p.clock})
	serve := func(handler httpapi.Handler) {
		p.http = httpapi.Adapt(httpapi.Endpoint{Handler: handler, EncodeError: api.EncodeError}, log)
	}
	switch k {
	case kindBatch:
		serve((&api.BatchHandler{
			Tokens: tokens, Content: content{}, Pushes: pushes,
			Operations: idempotencystore.New(items, w.tables.Idempotency, p.clock),
			Queue:      jobs.DeliveryQueue, Clock: p.clock, Log: log,
		}).Serve)
	case kindCancel:
		serve((&api.CancelHandler{Tokens: tokens, Pushes: pushes, Clock: p.clock}).Serve)
	case kindStatus:
		serve((&api.StatusHandler{Tokens: tokens, Pushes: pushes}).Serve)
	case kindDeliver:
		gateway, err := deliver.NewGateway(deliver.GatewayOptions{
			URL: gatewayURL, Secrets: secrets{}, SecretName: gatewayName, Clock: p.clock,
			Timeout: gatewayTimeout, Transport: &gatewayTransport{process: p},
		})
		if err != nil {
			panic(err)
		}
		concurrency := deliver.Concurrency{First: deliveryConcurrency, Again: retryConcurrency}
		p.deliver = deliver.NewDeliverer(deliver.Options{
			Pushes: pushes, Queue: jobs, Permits: deliver.NewLanes(pushes, concurrency), Gateway: gateway,
			Clock: p.clock, Log: log,
		}).Handle
	case kindSchedule:
		p.sweep = (&schedule.Scheduler{Pushes: pushes, Queue: jobs, Clock: p.clock, Log: log}).Sweep
	}
	return p
}

// pushesOutside returns the store for whoever looks on: without latency, faults or a skewed clock.
func (w *world) pushesOutside() *store.Pushes {
	items := dynamodb.NewFromConfig(awsConfig(bareTransport{w.bridge}))
	return store.NewPushes(items, w.tables.Pushes, skewedClock{})
}

// awsConfig is the configuration of a function's clients, on a transport of the run, and with waits without jitter.
func awsConfig(transport http.RoundTripper) aws.Config {
	config := awsconfig.New("us-east-1", credentials.NewStaticCredentialsProvider("test", "test", ""))
	config.HTTPClient = &http.Client{Transport: transport}
	config.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = 8
			o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
				return min(25*time.Millisecond<<min(attempt, 10), 2*time.Second), nil
			})
		})
	}
	return config
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

// logWriter makes trace of what a process logs.
type logWriter struct{ process *process }

func (l logWriter) Write(line []byte) (int, error) {
	if l.process.world.trace {
		l.process.world.say("", "log of %s: %s", l.process.id, line)
	}
	return len(line), nil
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
			LogicalID: "DeliveryQueue", Event: "Queue", Parameter: "DeliveryConcurrency",
			BatchSize: itoa(q.batchSize), Concurrency: itoa(q.maxConcurrency), Receives: itoa(maxReceives),
			Visibility: itoa(int((visibilityTimes * timeouts[q.kind]).Seconds())),
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
		all["engage-"+string(kind)] = itoa(int(timeout.Seconds()))
	}
	return all
}

// GatewayTimeout returns how long a POST may take, as the parameter has it.
func GatewayTimeout() string { return gatewayTimeout.String() }
