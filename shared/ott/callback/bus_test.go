package callback_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/ott/api"
	"carillon/shared/ott/callback"
	"carillon/shared/ott/otttest"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) {
	lambdacontext.FunctionName = "ott-callback" // the dimension of the metrics
	emulatortest.Main(m)
}

// entry is one of PutEvents on the wire.
type entry struct {
	EventBusName, Source, DetailType, Detail string
	Time                                     json.Number // seconds
}

// size is what AWS documents for it.
func (e entry) size() int {
	size := len(e.Source) + len(e.DetailType) + len(e.Detail)
	if e.Time != "" {
		size += 14
	}
	return size
}

// bus is EventBridge with its limits, which moto does not have: it refuses a call that is too large, and what the test
// says.
type bus struct {
	client *eventbridge.Client
	// answer decides about a call, by its number from 0: a status other than 200 fails it, else there is a code, or "",
	// for each entry.
	answer func(call int, entries []entry) (status int, codes []string)

	mu       sync.Mutex
	calls    [][]entry
	accepted []entry
}

func newBus(t *testing.T) *bus {
	t.Helper()
	b := &bus{}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.client = emulatortest.EventBridgeAt(server.URL)
	return b
}

func (b *bus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var call struct{ Entries []entry }
	raw, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(raw, &call) != nil || r.Header.Get("X-Amz-Target") != "AWSEvents.PutEvents" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, call.Entries)
	total := 0
	for _, e := range call.Entries {
		total += e.size()
	}
	if len(call.Entries) == 0 || len(call.Entries) > 10 || total >= 256*1024 {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"__type":"ValidationException","message":"too large"}`))
		return
	}
	codes := make([]string, len(call.Entries))
	if b.answer != nil {
		status, told := b.answer(len(b.calls)-1, call.Entries)
		if status != http.StatusOK {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"__type":"InternalException"}`))
			return
		}
		if told != nil {
			codes = told
		}
	}
	type result struct {
		EventID      string `json:"EventId,omitempty"`
		ErrorCode    string `json:",omitempty"`
		ErrorMessage string `json:",omitempty"`
	}
	var out struct {
		Entries          []result
		FailedEntryCount int
	}
	for i, code := range codes {
		if code != "" {
			out.FailedEntryCount++
			out.Entries = append(out.Entries, result{ErrorCode: code, ErrorMessage: "for this reason"})
			continue
		}
		b.accepted = append(b.accepted, call.Entries[i])
		out.Entries = append(out.Entries, result{EventID: uuid.NewString()})
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(out)
}

// office is the endpoint with a stack of its own.
type office struct {
	*bus
	stack         string
	clock         *clocktest.Clock
	registrations *store.Registrations
	serve         func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)
	log           otttest.Log
}

func newOffice(t *testing.T) *office {
	t.Helper()
	stack := emulatortest.Deploy(t)
	items, secrets := emulatortest.DynamoDB(), emulatortest.SecretsManager()
	o := &office{bus: newBus(t), clock: clocktest.New(), stack: stack}
	o.registrations = store.NewRegistrations(
		items,
		stackname.RegistrationsTable(stack),
		secrets,
		stackname.RegistrationSecretPrefix(stack),
		o.clock,
		o.log.Logger(),
	)
	o.serveWith(o.registrations.RegistrationReader)
	return o
}

// serveWith makes a process of the function that reads registrations so.
func (o *office) serveWith(reader *store.RegistrationReader) {
	cache := secret.NewCache(secretstore.New(emulatortest.SecretsManager()))
	handler := &callback.Handler{
		Registrations: store.NewCredentials(reader, cache).WithClock(o.clock),
		Events:        callback.NewPublisher(o.client, "events-of-ott", o.clock),
		Clock:         o.clock,
		Log:           o.log.Logger(),
	}
	o.serve = httpapi.Adapt(httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}, o.log.Logger())
}

// through makes a process that reads registrations by way of a DynamoDB endpoint of the test's own.
func (o *office) through(t *testing.T, endpoint string) {
	t.Helper()
	o.serveWith(store.NewRegistrationReader(emulatortest.DynamoDBAt(endpoint), stackname.RegistrationsTable(o.stack)))
}

// register registers a property for tenant-1.
func (o *office) register(t *testing.T, r ott.Registration, c ott.Credentials) {
	t.Helper()
	o.registerFor(t, "tenant-1", r, c)
}

func (o *office) registerFor(t *testing.T, tenant string, r ott.Registration, c ott.Credentials) {
	t.Helper()
	require.NoError(t, o.registrations.Put(t.Context(), tenant, uuid.NewString(), r, c))
}

// detail is what an event is on the bus that comes now. envelope has a comma at its end, unless it is empty.
func (o *office) detail(tenant, platform, id, envelope string, index int, event string) string {
	return fmt.Sprintf(`{"tenant":%q,"platform":%q,"ottPropertyId":%q,%s"receivedAt":%q,"index":%d,"event":%s}`,
		tenant, platform, id, envelope, o.clock.Now().Format("2006-01-02T15:04:05.000Z"), index, event)
}

// call sends a request to /ott/v1/callback/{platform}/{id}.
func (o *office) call(
	t *testing.T, method, platform, id string, change func(*events.APIGatewayV2HTTPRequest),
) events.APIGatewayV2HTTPResponse {
	t.Helper()
	var event events.APIGatewayV2HTTPRequest
	event.RequestContext.HTTP.Method = method
	event.PathParameters = map[string]string{"platform": platform, "ottPropertyId": id}
	event.Headers = map[string]string{}
	if change != nil {
		change(&event)
	}
	answer, err := o.serve(t.Context(), event)
	require.NoError(t, err)
	return answer
}

// deliver sends a body, signed as the platform signs.
func (o *office) deliver(
	t *testing.T, r ott.Registration, c ott.Credentials, body string,
) events.APIGatewayV2HTTPResponse {
	t.Helper()
	name, value := callback.Sign(r.Platform, c, []byte(body))
	return o.call(t, http.MethodPost, string(r.Platform), r.PropertyID, func(event *events.APIGatewayV2HTTPRequest) {
		event.Headers[name], event.Body = value, body
	})
}
