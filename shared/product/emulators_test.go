package product_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/local/emulator"
	"carillon/local/stack"
	"carillon/local/standin"
	"carillon/local/template"
	"carillon/provision"
	"carillon/shared/apiclient"
	"carillon/shared/attribute"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
	"carillon/shared/product"
	"carillon/shared/secret"
)

// emulators are AWS for the tests of this package; CARILLON_TEST_DYNAMODB takes another DynamoDB API for one of them.
var emulators struct{ endpoint, dynamodb string }

func TestMain(m *testing.M) { os.Exit(withEmulators(m.Run)) }

func withEmulators(run func() int) int {
	ctx := context.Background()
	say := func(progress string) { fmt.Fprintln(os.Stderr, progress) }
	tools, err := emulator.Install(ctx, filepath.Join("..", "..", ".local"), say)
	if err != nil {
		say(err.Error())
		return 1
	}
	set, err := emulator.Start(ctx, tools)
	if err != nil {
		say(err.Error())
		return 1
	}
	defer set.Close()
	emulators.endpoint, emulators.dynamodb = set.AWS, cmp.Or(os.Getenv("CARILLON_TEST_DYNAMODB"), set.DynamoDB)
	return run()
}

// config tries each call once, so that a test that breaks a call sees what its one failure does.
var config = aws.Config{
	Region:      "us-east-1",
	Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
}

func secretsManager(endpoint string) *secretsmanager.Client {
	return secretsmanager.NewFromConfig(config, func(o *secretsmanager.Options) { o.BaseEndpoint = &endpoint })
}

func dynamoDB(endpoint string) *dynamodb.Client {
	return dynamodb.NewFromConfig(config, func(o *dynamodb.Options) { o.BaseEndpoint = &endpoint })
}

// newStack is a name that no other test uses: the emulators are shared.
func newStack() string { return "t" + uuid.NewString()[:8] }

// between is an AWS endpoint that answers as a test has it, and passes on to endpoint where the test does not answer.
// answer gets the operation, such as PutItem, and the request's body.
func between(t *testing.T, endpoint string, answer func(operation, body string, w http.ResponseWriter, pass func()) bool) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		if !answer(operation, string(body), w, func() { proxy.ServeHTTP(httptest.NewRecorder(), r) }) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

const (
	tenant           = "demo-channel"
	providerUsername = "carillon"
	providerPassword = "provider-password"
)

// bundle is a deployed stack with the content of one country, and the endpoint on it.
type bundle struct {
	t        *testing.T
	name     string
	items    *dynamodb.Client
	secrets  *secretsmanager.Client
	client   provision.Client // may ask for every country
	password string
	endpoint func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)
	log      *lockedBuffer
	bango    *standin.Bango

	mu       sync.Mutex
	provider http.HandlerFunc // instead of bango
	asked    []askedEntitlement
}

// askedEntitlement is what the provider was asked.
type askedEntitlement struct {
	requestID string
	body      map[string]string
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// deploy makes a bundle. dynamodbAt, if it is not nil, is given the emulator's endpoint and returns the one to use.
func deploy(t *testing.T, dynamodbAt func(endpoint string) string) *bundle {
	t.Helper()
	ctx := t.Context()
	b := &bundle{t: t, name: newStack(), log: &lockedBuffer{}, secrets: secretsManager(emulators.endpoint), items: dynamoDB(emulators.dynamodb)}
	declared, err := template.Load(filepath.Join("..", "..", "template.yaml"), template.Options{
		StackName: b.name, Region: config.Region, AccountID: "000000000000",
		Parameters: map[string]string{"ProviderUrl": "https://provider.example.com"},
	})
	require.NoError(t, err)
	require.NoError(t, stack.Create(ctx, declared, stack.Clients{DynamoDB: b.items, SecretsManager: b.secrets}, map[string]string{
		b.name + "/provider/bango": `{"username":"` + providerUsername + `","password":"` + providerPassword + `"}`,
	}))
	_, err = provision.ApplyContent(ctx, b.items, provision.ContentTable(b.name), provision.Content{Businesses: []provision.Business{
		{ID: "PA", MerchantAccountKey: "demo-merchant-pa", Products: []provision.Product{
			{ReferredType: "DISNEY", ProductSpecification: "disney-plus", ProductKey: "DISNEY_PLUS_PA", OfferKey: "DISNEY_PLUS_PA_MONTHLY"},
		}},
		{ID: "TT", MerchantAccountKey: "demo-merchant-tt"},
	}})
	require.NoError(t, err)
	b.client = provision.Client{ID: "demo-product", Tenant: tenant, Scopes: []string{apiclient.ScopeDXPProduct}}
	b.password = b.addClient(b.client)

	b.bango = standin.NewBango(providerUsername, providerPassword, []string{"DISNEY_PLUS_PA"})
	server := httptest.NewServer(http.HandlerFunc(b.serveProvider))
	t.Cleanup(server.Close)
	store := secret.NewStore(b.secrets)
	provider, err := product.NewProviderClient(server.URL, secret.NewCache(store), b.name+"/provider/bango", 5*time.Second)
	require.NoError(t, err)
	items := b.items
	if dynamodbAt != nil {
		items = dynamoDB(dynamodbAt(emulators.dynamodb))
	}
	handler := &product.CreateHandler{
		Clients:     &apiclient.Authenticator{Secrets: secret.NewCache(store), Prefix: b.name + "/client/", RotationWindow: time.Hour},
		Content:     product.NewContentStore(items, provision.ContentTable(b.name)),
		Idempotency: idempotency.NewStore(items, b.name+"-idempotency"),
		Provider:    provider,
		Products:    product.NewStore(items, b.name+"-products"),
	}
	b.endpoint = httpapi.Adapt(httpapi.Endpoint{Handler: handler.Serve, EncodeError: product.EncodeError}, slog.New(slog.NewJSONHandler(b.log, nil)))
	t.Cleanup(b.checkLog)
	return b
}

// checkLog fails the test if the log holds what it must not.
func (b *bundle) checkLog() {
	require.NotContains(b.t, b.log.String(), b.password)
	require.NotContains(b.t, b.log.String(), providerPassword)
	require.NotContains(b.t, b.log.String(), "https://activate.example.com")
}

func (b *bundle) addClient(client provision.Client) (password string) {
	b.t.Helper()
	password, err := provision.NewClients(b.secrets, b.name).Add(b.t.Context(), client)
	require.NoError(b.t, err)
	return password
}

func (b *bundle) serveProvider(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	asked := askedEntitlement{requestID: r.Header.Get("X-RequestIdentifier")}
	_ = json.Unmarshal(text, &asked.body) // a body that is none is seen as none
	b.mu.Lock()
	b.asked = append(b.asked, asked)
	serve := b.provider
	b.mu.Unlock()
	if serve == nil {
		serve = b.bango.ServeHTTP
	}
	serve(w, r)
}

// play has the provider answer so from now on; nil has it behave.
func (b *bundle) play(provider http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.provider = provider
}

func (b *bundle) requests() []askedEntitlement {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]askedEntitlement(nil), b.asked...)
}

// entitlements returns what the stand-in of the provider has granted.
func (b *bundle) entitlements() []map[string]any {
	b.t.Helper()
	text, err := json.Marshal(b.bango.Received())
	require.NoError(b.t, err)
	var list []map[string]any
	require.NoError(b.t, json.Unmarshal(text, &list))
	return list
}

// event is a request of the bundle's client, changed as a test has it.
func (b *bundle) event(correlationID, body string, changes ...func(*events.APIGatewayV2HTTPRequest)) events.APIGatewayV2HTTPRequest {
	event := events.APIGatewayV2HTTPRequest{
		RouteKey:       "POST /dxp-ux/v1/{businessId}/product",
		PathParameters: map[string]string{"businessId": "PA"},
		Headers: map[string]string{
			"client_id": b.client.ID, "client_secret": b.password, "x-correlation-id": correlationID, "content-type": "application/json",
		},
		Body: body,
	}
	event.RequestContext.DomainName = "api.example.com"
	event.RequestContext.HTTP.Method = http.MethodPost
	for _, change := range changes {
		change(&event)
	}
	return event
}

// post sends validBody or what else a test has.
func (b *bundle) post(correlationID, body string, changes ...func(*events.APIGatewayV2HTTPRequest)) events.APIGatewayV2HTTPResponse {
	b.t.Helper()
	answer, err := b.endpoint(b.t.Context(), b.event(correlationID, body, changes...))
	require.NoError(b.t, err)
	return answer
}

// kept returns the product items of the stack.
func (b *bundle) kept() []attribute.Item {
	b.t.Helper()
	out, err := b.items.Scan(b.t.Context(), &dynamodb.ScanInput{TableName: aws.String(b.name + "-products"), ConsistentRead: aws.Bool(true)})
	require.NoError(b.t, err)
	return out.Items
}

func header(name, value string) func(*events.APIGatewayV2HTTPRequest) {
	return func(e *events.APIGatewayV2HTTPRequest) { e.Headers[name] = value }
}

func business(id string) func(*events.APIGatewayV2HTTPRequest) {
	return func(e *events.APIGatewayV2HTTPRequest) { e.PathParameters["businessId"] = id }
}
