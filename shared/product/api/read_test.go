package api_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/provision"
	"carillon/shared/clientauth"
	"carillon/shared/contenttable"
	"carillon/shared/dynamo"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/product"
	"carillon/shared/product/api"
	"carillon/shared/product/store"
	"carillon/shared/secret"
	"carillon/shared/stackname"
)

const (
	otherTenant = "other-channel"
	collection  = "https://api.example.com/dxp-ux/v1/PA/product"
	unknownBody = `{"errors":[{"code":404,"message":"APIKIT:NOT_FOUND","description":"There is no such product."}]}`
	refusedBody = `{"errors":[{"code":401,"message":"The user could not be authenticated for this request.",` +
		`"description":"The request has not been applied because it lacks valid authentication credentials for the ` +
		`target resource."}]}`
	readPassword = "password-of-readers"
)

// secrets are secrets by their names; they stand for Secrets Manager's.
type secrets map[string]string

var readingClients = secrets{
	"reader": `{"secret":"` + readPassword + `","tenant":"` + tenant + `","scopes":["` +
		product.ScopeProduct + `"]}`,
	"other-reader": `{"secret":"` + readPassword + `","tenant":"` + otherTenant + `","scopes":["` +
		product.ScopeProduct + `"]}`,
	"reader-of-pa": `{"secret":"` + readPassword + `","tenant":"` + tenant + `","scopes":["` +
		product.ScopeProduct + `:PA"]}`,
	"ott-client": `{"secret":"` + readPassword + `","tenant":"` + tenant + `","scopes":["` +
		ott.ScopeSend + `"]}`,
	"almost-reader": `{"secret":"` + readPassword + `","tenant":"` + tenant + `","scopes":[]}`,
}

func (s secrets) Get(_ context.Context, name string, _ secret.Stage, _ time.Duration) (secret.Version, error) {
	text, ok := s[name]
	if !ok {
		return secret.Version{}, secret.ErrNotFound
	}
	return secret.Version{Value: secret.NewText(text)}, nil
}

// readAPI is the two reads on a products table.
type readAPI struct {
	items     *dynamodb.Client
	clients   secrets
	stack     string
	table     string
	log       *lockedBuffer
	list, get func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)
}

func newReadAPI(items *dynamodb.Client, stack string) *readAPI {
	a := &readAPI{items: items, stack: stack, table: stackname.ProductsTable(stack), log: &lockedBuffer{}}
	a.clients = maps.Clone(readingClients)
	log := slog.New(slog.NewJSONHandler(a.log, nil))
	clients := &clientauth.Authenticator{Secrets: a.clients}
	businesses := store.NewCatalog(contenttable.New(items, stackname.ContentTable(stack)))
	products := store.NewProducts(items, a.table)
	list := &api.ListHandler{Clients: clients, Catalog: businesses, Products: products}
	get := &api.GetHandler{Clients: clients, Catalog: businesses, Products: products}
	a.list = httpapi.Adapt(httpapi.Endpoint{Handler: list.Serve, EncodeError: api.EncodeError}, log)
	a.get = httpapi.Adapt(httpapi.Endpoint{Handler: get.Serve, EncodeError: api.EncodeError}, log)
	return a
}

// deployReads returns the reads on a deployed stack that serves PA and TT. dynamoDB, if it is not nil, stands between
// them and DynamoDB.
func deployReads(t *testing.T, dynamoDB answer) *readAPI {
	t.Helper()
	stack := deployBusinesses(t)
	items := emulatortest.DynamoDB()
	if dynamoDB != nil {
		items = emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), dynamoDB))
	}
	return newReadAPI(items, stack)
}

func deployBusinesses(t testing.TB) (stack string) {
	t.Helper()
	stack = emulatortest.Deploy(t)
	content := provision.Content{
		Businesses: []provision.Business{{ID: "PA", MerchantAccountKey: "m"}, {ID: "TT", MerchantAccountKey: "m"}},
	}
	_, err := provision.ApplyContent(t.Context(), emulatortest.DynamoDB(), stackname.ContentTable(stack), content)
	require.NoError(t, err)
	return stack
}

// paging has DynamoDB answer with so many products at a time at most, as it does with large ones.
func paging(products func() int) answer {
	return func(w http.ResponseWriter, call emulatortest.Call) bool {
		var input map[string]any
		if call.Operation != "Query" || json.Unmarshal([]byte(call.Body), &input) != nil {
			return false
		}
		if limit, ok := input["Limit"].(float64); !ok || int(limit) > products() {
			input["Limit"] = products()
		}
		body, _ := json.Marshal(input)
		paged := call.Send(string(body))
		maps.Copy(w.Header(), paged.Header())
		w.WriteHeader(paged.Code)
		_, _ = w.Write(paged.Body.Bytes())
		return true
	}
}

// request changes a read's event.
type request = func(*events.APIGatewayV2HTTPRequest)

func as(clientID string) request { return header("client_id", clientID) }

func readEvent(rawQuery, id string, changes ...request) events.APIGatewayV2HTTPRequest {
	event := events.APIGatewayV2HTTPRequest{
		RawQueryString: rawQuery,
		PathParameters: map[string]string{"businessId": "PA"},
		Headers: map[string]string{"client_id": "reader", "client_secret": readPassword,
			"x-correlation-id": "c-1"},
	}
	if id != "" {
		event.PathParameters["id"] = id
	}
	event.RequestContext.DomainName = "api.example.com"
	event.RequestContext.HTTP.Method = http.MethodGet
	for _, change := range changes {
		change(&event)
	}
	return event
}

// listed asks for a list.
func (a *readAPI) listed(t assert.TestingT, rawQuery string, changes ...request) events.APIGatewayV2HTTPResponse {
	answer, err := a.list(context.Background(), readEvent(rawQuery, "", changes...))
	assert.NoError(t, err)
	return answer
}

// got asks for one product.
func (a *readAPI) got(t assert.TestingT, id, rawQuery string, changes ...request) events.APIGatewayV2HTTPResponse {
	answer, err := a.get(context.Background(), readEvent(rawQuery, id, changes...))
	assert.NoError(t, err)
	return answer
}

// put writes items as a create does.
func (a *readAPI) put(t require.TestingT, items ...dynamo.Item) {
	for batch := range slices.Chunk(items, 25) { // what BatchWriteItem takes
		var writes []types.WriteRequest
		for _, item := range batch {
			writes = append(writes, types.WriteRequest{PutRequest: &types.PutRequest{Item: item}})
		}
		input := &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{a.table: writes}}
		out, err := emulatortest.DynamoDB().BatchWriteItem(context.Background(), input)
		require.NoError(t, err)
		require.Empty(t, out.UnprocessedItems)
	}
}

// stored is a product's item. Changes are names and values in turn; an empty value is kept as one.
func stored(id string, changes ...string) dynamo.Item {
	item := dynamo.Item{
		"owner": dynamo.String(tenant + "#PA"), "id": dynamo.String(id), "status": dynamo.String("created"),
		"productSpecificationId": dynamo.String("disney-plus"), "referredType": dynamo.String("DISNEY"),
		"billingAccountId": dynamo.String("8001234567"), "billingAccountBaseType": dynamo.String(""),
		"billingAccountType": dynamo.String(""),
		"contact": dynamo.String(`[{"contactType":"primary",` +
			`"contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}]`),
		"email":         dynamo.String("abc@gmail.com"),
		"entitlementId": dynamo.String("entitlement-1"), "operationId": dynamo.String("operation-1"),
		"correlationId": dynamo.String("c-0"),
		// As an item that was written before has it.
		"activationUrl": dynamo.String("https://activate.example.com/secret"),
	}
	for i := 0; i < len(changes); i += 2 {
		item[changes[i]] = dynamo.String(changes[i+1])
	}
	return item
}

// numbered is an id that sorts by its number.
func numbered(n int) string {
	var id uuid.UUID
	id[6], id[8], id[14], id[15] = 0x50, 0x80, byte(n>>8), byte(n)
	return id.String()
}

// idsOf returns the ids of a list's answer.
func idsOf(t assert.TestingT, answer events.APIGatewayV2HTTPResponse) []string {
	var products []struct{ ID string }
	assert.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
	assert.NoError(t, json.Unmarshal([]byte(answer.Body), &products))
	ids := []string{}
	for _, p := range products {
		ids = append(ids, p.ID)
	}
	return ids
}

// descriptions returns what an error body says of each fault, all of them APIKIT:BAD_REQUEST.
func descriptions(t *testing.T, answer events.APIGatewayV2HTTPResponse) []string {
	t.Helper()
	var body struct {
		Errors []struct {
			Code                 int
			Message, Description string
		}
	}
	require.Equal(t, http.StatusBadRequest, answer.StatusCode, answer.Body)
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &body))
	var texts []string
	for _, e := range body.Errors {
		assert.Equal(t, 400, e.Code)
		assert.Equal(t, "APIKIT:BAD_REQUEST", e.Message)
		texts = append(texts, e.Description)
	}
	return texts
}

var tmf637 = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile("testdata/tmf637.yaml")
})

// requireTMF637 checks a body against the published schema of that name.
func requireTMF637(t *testing.T, schema, body string) {
	t.Helper()
	document, err := tmf637()
	require.NoError(t, err)
	var value any
	require.NoError(t, json.Unmarshal([]byte(body), &value))
	require.NoError(t, document.Components.Schemas[schema].Value.VisitJSON(value), body)
}

func rawQuery(values ...string) string {
	query := url.Values{}
	for i := 0; i < len(values); i += 2 {
		query.Add(values[i], values[i+1])
	}
	return query.Encode()
}

// read asks one of the two endpoints.
type read = func(t assert.TestingT, rawQuery string, changes ...request) events.APIGatewayV2HTTPResponse

// reads are both endpoints, each as a request for the tests of what they have in common.
func (a *readAPI) reads() map[string]read {
	return map[string]read{
		"list": a.listed,
		"get": func(t assert.TestingT, rawQuery string, changes ...request) events.APIGatewayV2HTTPResponse {
			return a.got(t, numbered(1), rawQuery, changes...)
		},
	}
}

// docs/contract.md §3, row "credentials missing, short, unknown, wrong": as for a create.
func TestReadsAnswerWrongCredentialsAlike(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, stored(numbered(1)))
	for endpoint, ask := range reads.reads() {
		for name, change := range map[string]request{
			"no client_id":     func(e *events.APIGatewayV2HTTPRequest) { delete(e.Headers, "client_id") },
			"no client_secret": func(e *events.APIGatewayV2HTTPRequest) { delete(e.Headers, "client_secret") },
			"neither": func(e *events.APIGatewayV2HTTPRequest) {
				delete(e.Headers, "client_id")
				delete(e.Headers, "client_secret")
			},
			"a short secret":       header("client_secret", "pass"),
			"a short id":           as("read"),
			"an unknown client":    as("nobody-knows"),
			"a wrong secret":       header("client_secret", readPassword+"x"),
			"another's bad format": as("../reader"),
		} {
			t.Run(endpoint+" "+name, func(t *testing.T) {
				t.Parallel()
				answer := ask(t, "no-such-attribute=1", change)
				assert.Equal(t, http.StatusUnauthorized, answer.StatusCode)
				assert.Equal(t, refusedBody, answer.Body)
				assert.Equal(t, "Client-ID-Enforcement", answer.Headers["www-authenticate"])
				assert.Equal(t, "c-1", answer.Headers["x-correlation-id"])
			})
		}
	}
}

// docs/contract.md §3, row "client not allowed for this businessId".
func TestReadsAreForAllowedClients(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, stored(numbered(1)), stored(numbered(1), "owner", tenant+"#TT"))
	for endpoint, ask := range reads.reads() {
		for name, test := range map[string]struct {
			client, business string
			status           int
		}{
			"every business unit":           {"reader", "TT", 200},
			"its business unit":             {"reader-of-pa", "PA", 200},
			"another business unit":         {"reader-of-pa", "TT", 403},
			"one that is not served":        {"reader-of-pa", "JM", 400},
			"another API's client":          {"ott-client", "PA", 403},
			"a client that may do nothing":  {"almost-reader", "PA", 403},
			"not served, another API's":     {"ott-client", "JM", 403},
			"no country, every unit's":      {"reader", "Panama", 400},
			"no country, one unit's client": {"reader-of-pa", "pa", 400},
		} {
			t.Run(endpoint+" "+name, func(t *testing.T) {
				answer := ask(t, "", as(test.client), business(test.business))
				assert.Equal(t, test.status, answer.StatusCode, answer.Body)
				if test.status == http.StatusForbidden {
					assert.Equal(t,
						`{"errors":[{"code":403,"message":"APIKIT:FORBIDDEN","description":"The client is not `+
							`allowed for this businessId."}]}`, answer.Body)
				}
			})
		}
	}
}

// A tenant sees what is its own in the business unit that it names, and nothing else.
func TestReadsShowATenantItsOwn(t *testing.T) {
	reads := deployReads(t, nil)
	owners := map[string]int{tenant + "#PA": 1, tenant + "#TT": 2, otherTenant + "#PA": 3, otherTenant + "#TT": 4}
	for owner, n := range owners {
		reads.put(t, stored(numbered(n), "owner", owner))
	}
	for client, clientTenant := range map[string]string{"reader": tenant, "other-reader": otherTenant} {
		for _, unit := range []string{"PA", "TT"} {
			own := numbered(owners[clientTenant+"#"+unit])
			for _, query := range []string{"", "status=created", "fields=none", rawQuery("id", own)} {
				answer := reads.listed(t, query, as(client), business(unit))
				assert.Equal(t, []string{own}, idsOf(t, answer), "%s %s %s", client, unit, query)
				assert.Equal(t, "1", answer.Headers["x-total-count"])
			}
			for owner, n := range owners {
				answer := reads.got(t, numbered(n), "", as(client), business(unit))
				if owner == clientTenant+"#"+unit {
					assert.Equal(t, http.StatusOK, answer.StatusCode)
					continue
				}
				assert.Equal(t, http.StatusNotFound, answer.StatusCode, "%s %s asks for %s", client, unit, owner)
				assert.Equal(t, unknownBody, answer.Body)
				assert.Empty(t, idsOf(t, reads.listed(t, rawQuery("id", numbered(n)), as(client), business(unit))))
			}
		}
	}
}

// X-Correlation-ID is optional on a read, and comes back on every answer.
func TestReadsEchoTheCorrelationID(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, stored(numbered(1)))
	for endpoint, ask := range reads.reads() {
		for sent, want := range map[string]struct {
			status int
			echo   string
		}{
			"c-2":                    {200, "c-2"},
			" c-2 ":                  {200, "c-2"},
			"":                       {200, ""},
			" ":                      {200, ""},
			strings.Repeat("c", 255): {200, strings.Repeat("c", 255)},
			strings.Repeat("c", 256): {400, ""},
			"c\u00e9":                {400, ""},
		} {
			answer := ask(t, "", header("x-correlation-id", sent))
			assert.Equal(t, want.status, answer.StatusCode, "%s %q", endpoint, sent)
			assert.Equal(t, want.echo, answer.Headers["x-correlation-id"], "%s %q", endpoint, sent)
		}
		answer := ask(t, "", func(e *events.APIGatewayV2HTTPRequest) { delete(e.Headers, "x-correlation-id") })
		assert.Equal(t, http.StatusOK, answer.StatusCode)
		assert.NotContains(t, answer.Headers, "x-correlation-id")
	}
}

// What DynamoDB fails at is answered without a word of the inside.
func TestReadsTellNothingOfTheInside(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		status int
	}{
		"throttled": {answering(400,
			`{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"inside"}`),
			503},
		"down": {answering(500,
			`{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"inside"}`), 503},
		"refusing": {answering(400, `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"inside"}`),
			500},
	} {
		for _, operation := range []string{"Query", "GetItem"} {
			t.Run(name+" "+operation, func(t *testing.T) {
				reads := deployReads(t, func(w http.ResponseWriter, call emulatortest.Call) bool {
					if call.Operation != operation {
						return false
					}
					test.answer(w, nil)
					return true
				})
				for endpoint, ask := range reads.reads() {
					if endpoint == "get" && operation == "Query" {
						continue
					}
					answer := ask(t, "")
					assert.Equal(t, test.status, answer.StatusCode, endpoint)
					assert.NotContains(t, answer.Body, "inside")
					assert.Equal(t, "c-1", answer.Headers["x-correlation-id"])
				}
			})
		}
	}
}
