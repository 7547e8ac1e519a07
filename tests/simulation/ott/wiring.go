package ott

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"

	"carillon/shared/httpapi"
	"carillon/shared/ott/api"
	"carillon/shared/ott/callback"
	"carillon/shared/ott/deliver"
	"carillon/shared/ott/outbound"
	"carillon/shared/ott/store"
	"carillon/shared/permits"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
	"carillon/shared/stackname"
	"carillon/tests/simulation/bubble"
)

// This file is how the code under test is put together: the only place that knows its constructors, and what
// template.yaml and functions/ott-* say of it.

// The functions that a run has.
const (
	kindRegister = "register"
	kindSend     = "send"
	kindStatus   = "send-status"
	kindDeliver  = "deliver"
	kindCallback = "callback"
)

// timeouts are the functions' time-outs in template.yaml.
var timeouts = map[string]time.Duration{
	kindRegister: 10 * time.Second, kindSend: 10 * time.Second, kindStatus: 10 * time.Second,
	kindDeliver: 30 * time.Second, kindCallback: 10 * time.Second,
}

// What template.yaml says of the queue.
const (
	visibility          = 90 * time.Second
	maxReceives         = 1000
	outboundConcurrency = 20
)

// What the code says of its waits (docs/design.md, waits).
const (
	longestWait   = 15 * time.Minute // between two tries of a message
	longestBreak  = 30 * time.Second // that a property in trouble is left alone
	callTimeout   = 8 * time.Second  // of a call to a network
	maxUnanswered = 3                // tries of a message that Messenger does not answer
	// maxUnderWay is how many calls are under way for one property at most.
	maxUnderWay = outboundConcurrency * 60 / 100
)

const queueURL = "https://sqs.us-east-1.amazonaws.com/000000000000/outbound.fifo"

// Tables are the tables of a run.
type Tables struct{ Registrations, Messages string }

// CreateTables makes the tables of a run like those of a stack. drop deletes them.
func CreateTables(ctx context.Context, client *dynamodb.Client, stack string) (t Tables, drop func(), err error) {
	run := "simulation-" + uuid.NewString()[:8]
	t = Tables{Registrations: run + "-registrations", Messages: run + "-messages"}
	drop = func() {
		for _, name := range []string{t.Registrations, t.Messages} {
			// A table that stays costs memory alone: the emulator's, until it ends.
			_, _ = client.DeleteTable(context.WithoutCancel(ctx), &dynamodb.DeleteTableInput{TableName: &name})
		}
	}
	if err := bubble.CreateTable(ctx, client, stackname.RegistrationsTable(stack), t.Registrations); err != nil {
		return t, drop, err
	}
	return t, drop, bubble.CreateTable(ctx, client, stackname.MessagesTable(stack), t.Messages)
}

// function is what a process serves: one of these.
type function struct {
	http    func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)
	deliver func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)
}

// serves returns what a process serves.
func serves(p *bubble.Process) *function { return p.Serves.(*function) }

// serve starts a process of a function, as its main does.
func (w *world) serve(p *bubble.Process) {
	f := &function{}
	p.Serves = f
	log := p.Log()
	clock := bubble.SteadyClock{SkewedClock: p.Clock, Most: time.Second}
	items := dynamodb.NewFromConfig(bubble.AWSConfig(&bubble.DynamoTransport{Process: p}))
	config := bubble.AWSConfig(&awsTransport{world: w, process: p})
	secrets := secret.NewUnthrottledCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	tokens := api.NewAuthority(secrets, signingName)
	registrations := store.NewRegistrationReader(items, w.tables.Registrations)
	credentials := store.NewCredentials(registrations, secrets).WithClock(clock)
	messages := store.NewMessages(items, w.tables.Messages, clock)
	properties := store.NewProperties(items, w.tables.Messages, permits.Share(outboundConcurrency))
	queue := outbound.NewQueue(sqs.NewFromConfig(config), queueURL, clock)
	http := func(handler httpapi.Handler) {
		f.http = httpapi.Adapt(httpapi.Endpoint{Handler: handler, EncodeError: api.EncodeError}, log)
	}
	switch p.Kind {
	case kindRegister:
		http((&api.RegisterHandler{
			Tokens: tokens,
			Registrations: store.NewRegistrations(
				items, w.tables.Registrations, secretsmanager.NewFromConfig(config), "simulation/ott/", clock, log),
		}).Serve)
	case kindSend:
		http((&api.SendHandler{
			Tokens: tokens, Registrations: registrations, Messages: messages, Backlogs: properties, Outbox: queue,
			Clock: clock, Log: log,
		}).Serve)
	case kindStatus:
		http((&api.SendStatusHandler{Tokens: tokens, Messages: messages, Clock: clock}).Serve)
	case kindDeliver:
		f.deliver = (&deliver.Deliverer{
			Messages: messages, Registrations: registrations, Credentials: credentials,
			States:     store.NewCredentialStates(items, w.tables.Registrations),
			Properties: properties, Outbox: queue,
			Events:    deliver.NewBus(eventbridge.NewFromConfig(config), "bus"),
			Platforms: deliver.Platforms(&networkTransport{world: w, process: p}, clock),
			Clock:     clock, Log: log,
		}).Handle
	case kindCallback:
		http((&callback.Handler{
			Registrations: credentials, Receipts: messages, Clock: clock,
			Events: callback.NewPublisher(eventbridge.NewFromConfig(config), "bus", clock),
			Log:    log,
		}).Serve)
	}
}

// outside returns what reads a message's status for whoever looks on: without latency, faults or a skewed clock.
func (w *world) outside() func(context.Context, events.APIGatewayV2HTTPRequest) (
	events.APIGatewayV2HTTPResponse, error,
) {
	items := dynamodb.NewFromConfig(bubble.AWSConfig(bubble.BareTransport{Bridge: w.Bridge}))
	log := (&bubble.Process{World: w.World, ID: "outside"}).Log()
	handler := &api.SendStatusHandler{
		Tokens:   w.tokens(),
		Messages: store.NewMessages(items, w.tables.Messages, bubble.SkewedClock{}), Clock: bubble.SkewedClock{},
	}
	return httpapi.Adapt(httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}, log)
}

// signingKeys are the keys that clients' tokens are signed with.
type signingKeys struct{ secrets *secrets }

// Get returns the signing key.
func (k signingKeys) Get(_ context.Context, name string, stage secret.Stage, _ time.Duration) (secret.Version, error) {
	if stage != secret.Current {
		return secret.Version{}, secret.ErrNotFound
	}
	return secret.Version{ID: "1", Value: secret.NewText(k.secrets.value(name))}, nil
}

// Queue returns what is simulated of the outbound queue, by the names that template.yaml has for it.
func Queue() map[string]string {
	return map[string]string{
		"VisibilityTimeout": strconv.Itoa(int(visibility.Seconds())), "maxReceiveCount": strconv.Itoa(maxReceives),
		"OutboundConcurrency": strconv.Itoa(outboundConcurrency), "BatchSize": "1",
	}
}

// Timeouts returns the time-outs of the functions that are simulated, in seconds, by their names.
func Timeouts() map[string]string {
	all := map[string]string{}
	for kind, timeout := range timeouts {
		all["ott-"+kind] = strconv.Itoa(int(timeout.Seconds()))
	}
	return all
}
