package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/local/standin"
	"carillon/provision"
	"carillon/shared/clientauth"
	"carillon/shared/clock"
	"carillon/shared/clock/clocktest"
	"carillon/shared/contenttable"
	"carillon/shared/dynamo"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/product"
	"carillon/shared/product/api"
	"carillon/shared/product/mailqueue"
	"carillon/shared/product/provider"
	"carillon/shared/product/store"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

const (
	tenant           = "demo-channel"
	providerUsername = "carillon"
	providerPassword = "provider-password"
	activationURL    = "https://activate.example.com/one-time-token"
	granted          = `{"entitlementId":"e-1","responseCode":"CLIENT_ACTION_REQUIRED",` +
		`"responseMessage":"Open the link.","parameters":{"action":"NAVIGATE_TO_URL","url":"` + activationURL +
		`","urlExpiry":"2026-11-23T10:00:00Z"}}`
)

// validBody has every member of seed 003's request model, with the seed's sample values.
const validBody = `{
	"productSpecification": {"id": "disney-plus"},
	"@baseType": "product",
	"@type": "OTT",
	"@referredType": "DISNEY",
	"billingAccount": {
		"id": "8001234567",
		"contact": [{
			"contactType": "primary",
			"contactMedium": [{"characteristic": {"emailAddress": "abc@gmail.com"}}]
		}],
		"@baseType": "Account",
		"@type": "BillingAccount"
	}
}`

const emailMember = "billingAccount.contact[0].contactMedium[0].characteristic.emailAddress"

// bundle is a deployed stack with the content of one country, and the endpoint on it.
type bundle struct {
	t        *testing.T
	name     string
	items    *dynamodb.Client
	secrets  *secretsmanager.Client
	client   provision.Client // may ask for every country
	password string
	handler  *api.CreateHandler
	mailed   *store.Mails
	clock    *clocktest.Clock // nil if the bundle has the machine's
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

// answer stands between an endpoint and a service of AWS; it returns true for a call that it has answered.
type answer = func(w http.ResponseWriter, call emulatortest.Call) bool

// deploy makes a bundle whose clock tests move. dynamoDB, if it is not nil, stands between the endpoint and DynamoDB.
func deploy(t *testing.T, dynamoDB answer) *bundle {
	t.Helper()
	return deployBetween(t, dynamoDB, nil)
}

// deployBetween makes a bundle with something between the endpoint and DynamoDB, and between it and SQS.
func deployBetween(t *testing.T, dynamoDB, queue answer) *bundle {
	t.Helper()
	moved := clocktest.New()
	b := deployAt(t, moved, dynamoDB, queue)
	b.clock = moved
	return b
}

// deployInRealTime makes a bundle with the machine's clock: for requests that wait for each other.
func deployInRealTime(t *testing.T) *bundle {
	t.Helper()
	return deployAt(t, clock.System{}, nil, nil)
}

func deployAt(t *testing.T, clock clock.Clock, dynamoDB, queue answer) *bundle {
	t.Helper()
	ctx := t.Context()
	b := &bundle{t: t, name: emulatortest.Deploy(t), log: &lockedBuffer{}}
	b.secrets, b.items = emulatortest.SecretsManager(), emulatortest.DynamoDB()
	_, err := b.secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId:     aws.String(stackname.ProviderSecret(b.name)),
		SecretString: aws.String(`{"username":"` + providerUsername + `","password":"` + providerPassword + `"}`),
	})
	require.NoError(t, err)
	_, err = provision.ApplyContent(ctx, b.items, stackname.ContentTable(b.name), provision.Content{
		Businesses: []provision.Business{
			{ID: "PA", MerchantAccountKey: "demo-merchant-pa", Products: []provision.Product{{
				ReferredType: "DISNEY", ProductSpecification: "disney-plus",
				ProductKey: "DISNEY_PLUS_PA", OfferKey: "DISNEY_PLUS_PA_MONTHLY", Name: "Disney+",
			}}},
			{ID: "TT", MerchantAccountKey: "demo-merchant-tt"},
		},
	})
	require.NoError(t, err)
	b.client = provision.Client{ID: "demo-product", Tenant: tenant, Scopes: []string{product.ScopeProduct}}
	b.password = b.addClient(b.client)

	b.bango = standin.NewBango(providerUsername, providerPassword, []string{"DISNEY_PLUS_PA"})
	server := httptest.NewServer(http.HandlerFunc(b.serveProvider))
	t.Cleanup(server.Close)
	secrets := secretstore.New(b.secrets)
	items, jobs := b.items, emulatortest.SQS()
	// These try calls again, for a busy machine loses a connection now and then, but hardly wait for it.
	again := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 10 * time.Millisecond })
	if dynamoDB != nil {
		endpoint := emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), dynamoDB)
		options := emulatortest.DynamoDBAt(endpoint).Options()
		options.Retryer = again
		items = dynamodb.New(options)
	}
	if queue != nil {
		options := emulatortest.SQSAt(emulatortest.Between(t, emulatortest.AWSEndpoint(), queue)).Options()
		options.Retryer = again
		jobs = sqs.New(options)
	}
	b.mailed = store.NewMails(items, stackname.MailsTable(b.name), stackname.ProductsTable(b.name), clock)
	log := slog.New(slog.NewJSONHandler(b.log, nil))
	b.handler = &api.CreateHandler{
		Clients: &clientauth.Authenticator{
			Secrets: secret.NewCache(secrets), Prefix: stackname.ClientSecretPrefix(b.name), RotationWindow: time.Hour,
		},
		Catalog:    store.NewCatalog(contenttable.New(items, stackname.ContentTable(b.name))),
		Operations: idempotencystore.New(items, stackname.IdempotencyTable(b.name), clock),
		Provider:   newProvider(t, server.URL, secret.NewCache(secrets), stackname.ProviderSecret(b.name)),
		Products:   store.NewProducts(items, stackname.ProductsTable(b.name)),
		Mails:      b.mailed,
		Queue:      mailqueue.NewQueue(jobs, queueURL(t, stackname.MailQueue(b.name)), clock),
		Limits:     product.Limits{Window: time.Hour, PerAccount: 100, PerAddress: 100},
		Clock:      clock,
		Log:        log,
	}
	b.endpoint = httpapi.Adapt(httpapi.Endpoint{Handler: b.handler.Serve, EncodeError: api.EncodeError}, log)
	t.Cleanup(b.checkLog)
	return b
}

// configure has the business PA sell Disney+ with these keys, or nothing, from now on.
func (b *bundle) configure(merchant string, disney ...provision.Product) {
	b.t.Helper()
	for i := range disney {
		disney[i].ReferredType, disney[i].ProductSpecification = "DISNEY", "disney-plus"
		disney[i].ProductKey, disney[i].Name = "DISNEY_PLUS_PA", "Disney+"
	}
	table := stackname.ContentTable(b.name)
	_, err := provision.ApplyContent(b.t.Context(), b.items, table, provision.Content{
		Businesses: []provision.Business{{ID: "PA", MerchantAccountKey: merchant, Products: disney}},
	})
	require.NoError(b.t, err)
	b.handler.Catalog = store.NewCatalog(contenttable.New(b.items, table)) // which has kept nothing yet
}

// newProvider returns a client of a provider whose activation links are those of the stand-in.
func newProvider(t *testing.T, url string, secrets secret.Reader, secretName string) *provider.Client {
	t.Helper()
	hosts, err := provider.ParseActivationHosts([]string{"activate.example.com", "a.example"})
	require.NoError(t, err)
	p, err := provider.New(url, hosts, secrets, secretName, 5*time.Second, clock.System{})
	require.NoError(t, err)
	return p
}

// answering is a partner that answers so.
func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func queueURL(t *testing.T, name string) string {
	t.Helper()
	out, err := emulatortest.SQS().GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: &name})
	require.NoError(t, err)
	return aws.ToString(out.QueueUrl)
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
func (b *bundle) event(
	correlationID, body string, changes ...func(*events.APIGatewayV2HTTPRequest),
) events.APIGatewayV2HTTPRequest {
	event := events.APIGatewayV2HTTPRequest{
		RouteKey:       "POST /dxp-ux/v1/{businessId}/product",
		PathParameters: map[string]string{"businessId": "PA"},
		Headers: map[string]string{
			"client_id": b.client.ID, "client_secret": b.password, "x-correlation-id": correlationID,
			"content-type": "application/json",
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
func (b *bundle) post(
	correlationID, body string, changes ...func(*events.APIGatewayV2HTTPRequest),
) events.APIGatewayV2HTTPResponse {
	b.t.Helper()
	answer, err := b.endpoint(b.t.Context(), b.event(correlationID, body, changes...))
	require.NoError(b.t, err)
	return answer
}

// kept returns the product items of the stack.
func (b *bundle) kept() []dynamo.Item { return b.scan("products") }

// mails returns the mails of the stack, but not the windows of the limits.
func (b *bundle) mails() []dynamo.Item {
	return slices.DeleteFunc(b.scan("mails"), func(item dynamo.Item) bool {
		return !strings.HasPrefix(dynamo.GetString(item, "id"), "request#")
	})
}

func (b *bundle) scan(table string) []dynamo.Item {
	b.t.Helper()
	out, err := b.items.Scan(b.t.Context(), &dynamodb.ScanInput{
		TableName: aws.String(b.name + "-" + table), ConsistentRead: aws.Bool(true),
	})
	require.NoError(b.t, err)
	return out.Items
}

// enqueued takes the jobs out of the mail queue and returns whose mails they ask for.
func (b *bundle) enqueued() []string {
	b.t.Helper()
	var requests []string
	for {
		out, err := emulatortest.SQS().ReceiveMessage(b.t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(queueURL(b.t, stackname.MailQueue(b.name))), MaxNumberOfMessages: 10,
		})
		require.NoError(b.t, err)
		if len(out.Messages) == 0 {
			return requests
		}
		for _, message := range out.Messages {
			var job mailqueue.Job
			require.NoError(b.t, json.Unmarshal([]byte(aws.ToString(message.Body)), &job))
			requests = append(requests, job.RequestID)
		}
	}
}

func header(name, value string) func(*events.APIGatewayV2HTTPRequest) {
	return func(e *events.APIGatewayV2HTTPRequest) { e.Headers[name] = value }
}

func business(id string) func(*events.APIGatewayV2HTTPRequest) {
	return func(e *events.APIGatewayV2HTTPRequest) { e.PathParameters["businessId"] = id }
}
