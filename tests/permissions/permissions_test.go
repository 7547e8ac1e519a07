// Package permissions_test holds every role of template.yaml to what its function does: the emulators check no
// permissions, so a function's calls are recorded on their way to them and compared with what its role allows, both ways.
package permissions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"carillon/local"
)

// permission is an action on a resource: dynamodb:PutItem on PushesTable, secretsmanager:GetSecretValue on client/*.
type permission struct{ action, resource string }

func TestRolesAllowWhatTheirFunctionsDoAndNoMore(t *testing.T) {
	bundle, err := local.Start(t.Context(), local.Options{Root: "../..", Stack: "carillon-permissions"})
	require.NoError(t, err)
	defer bundle.Close()
	used := map[string]*recorder{}
	for id, function := range bundle.Functions() {
		r := newRecorder(t, bundle.Demo.AWS)
		function.SetEnvironment(map[string]string{"AWS_ENDPOINT_URL": r.url, "AWS_ENDPOINT_URL_DYNAMODB": r.url})
		used[id] = r
	}
	useEverything(t, bundle)

	granted := roles(t)
	require.ElementsMatch(t, slices.Collect(maps.Keys(used)), slices.Collect(maps.Keys(granted)))
	for id, r := range used {
		assert.ElementsMatch(t, granted[id], slices.Collect(maps.Keys(r.permissions())), id)
	}
}

// useEverything makes every function do all that it can do.
func useEverything(t *testing.T, bundle *local.Bundle) {
	t.Helper()
	d := bundle.Demo
	post := func(path, body string, headers ...string) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.BaseURL+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			request.Header.Set(headers[i], headers[i+1])
		}
		return do(t, request)
	}
	member := func(text, name string) string {
		t.Helper()
		var object map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &object), text)
		value, ok := object[name].(string)
		require.True(t, ok, text)
		return value
	}
	ottToken := func(c local.DemoClient) string {
		return "Bearer " + member(post("/v2/token", fmt.Sprintf(`{"grant_type":"client_credentials","client_id":%q,"client_secret":%q}`, c.ClientID, c.ClientSecret)), "access_token")
	}
	registration := `{"ottPlatformName":"line","ottPlatformAttributes":{"channelId":"1","channelName":"n","channelSecret":"s",
		"endpointUrl":"https://example.com/1","isTransactional":true,"isTestChannel":false,"isActive":true}}`
	for range 2 { // the second one replaces the first one's secret
		post("/ott/v1/registration", registration, "Authorization", ottToken(d.OTT))
	}

	c := d.Engage
	engage := "Bearer " + member(post("/federated/content/v2/token", fmt.Sprintf(`{"clientId":%q,"clientSecret":%q}`, c.ClientID, c.ClientSecret),
		"X-Federated-Purpose", "inform"), "accessToken")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.BaseURL+"/federated/content/v2/token/health", nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", engage)
	do(t, request)
	batch := fmt.Sprintf(`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":[%q]}`, c.ANumbers[0])
	path := "/federated/outbound/v2/batch?programContentUuid=" + c.ProgramContentUUID
	post(path, batch, "Authorization", engage, "Idempotency-Key", uuid.NewString())
	post(path, `{}`, "Authorization", engage, "Idempotency-Key", uuid.NewString()) // gives its key back

	product := func(referredType string) string {
		return fmt.Sprintf(`{"productSpecification":{"id":%q},"@baseType":"product","@type":"OTT","@referredType":%q,"billingAccount":{"id":"1",
			"contact":[{"contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}]}}`, d.Product.ProductID, referredType)
	}
	for _, referredType := range []string{d.Product.ReferredType, "UNKNOWN"} {
		post("/dxp-ux/v1/"+d.Product.BusinessID+"/product", product(referredType), "client_id", d.Product.ClientID,
			"client_secret", d.Product.ClientSecret, "X-Correlation-ID", uuid.NewString())
	}
}

func do(t *testing.T, request *http.Request) string {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { assert.NoError(t, response.Body.Close()) }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Less(t, response.StatusCode, http.StatusInternalServerError, "%s", body)
	return string(body)
}

// recorder passes a function's AWS calls on to the emulators and notes what they need.
type recorder struct {
	url string

	mu   sync.Mutex
	seen map[permission]bool
}

func newRecorder(t *testing.T, emulators local.DemoEmulators) *recorder {
	t.Helper()
	r := &recorder{seen: map[permission]bool{}}
	forwardTo := func(target string) http.Handler {
		u, err := url.Parse(target)
		require.NoError(t, err)
		return &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(u)
			p.Out.Host = p.In.Host // what was signed
		}}
	}
	dynamoDB, others := forwardTo(emulators.DynamoDB), forwardTo(emulators.Endpoint)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		service, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
		if strings.HasPrefix(service, "DynamoDB") {
			r.noteTables(operation, body, emulators.Stack)
			dynamoDB.ServeHTTP(w, request)
			return
		}
		r.noteSecret(operation, body, emulators.Stack)
		others.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *recorder) noteTables(operation string, body []byte, stack string) {
	var call struct {
		TableName    string
		RequestItems map[string]json.RawMessage
	}
	_ = json.Unmarshal(body, &call)
	tables := slices.Collect(maps.Keys(call.RequestItems))
	if call.TableName != "" {
		tables = append(tables, call.TableName)
	}
	for _, table := range tables {
		name := strings.TrimPrefix(table, stack+"-")
		r.note(permission{"dynamodb:" + operation, strings.ToUpper(name[:1]) + name[1:] + "Table"})
	}
}

func (r *recorder) noteSecret(operation string, body []byte, stack string) {
	var call struct{ SecretID, Name string }
	_ = json.Unmarshal(body, &call) // without regard to case: AWS spells it SecretId
	r.note(permission{"secretsmanager:" + operation, secretResource(call.SecretID+call.Name, stack)})
}

func (r *recorder) note(p permission) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[p] = true
}

// secretResource names a secret as roles below does, from its name or its ARN.
func secretResource(name, stack string) string {
	if _, after, isARN := strings.Cut(name, ":secret:"); isARN {
		name = after
	}
	name = strings.TrimPrefix(name, stack+"/")
	switch {
	case strings.HasPrefix(name, "token-signing-key"):
		return "TokenSigningKeySecret"
	case strings.HasPrefix(name, "provider/"):
		return "ProviderSecret"
	}
	folder, _, _ := strings.Cut(name, "/")
	return folder + "/*"
}

func (r *recorder) permissions() map[permission]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.seen)
}

// roles reads what the role of each function allows on tables and secrets.
func roles(t *testing.T) map[string][]permission {
	t.Helper()
	text, err := os.ReadFile("../../template.yaml")
	require.NoError(t, err)
	var template struct {
		Resources map[string]struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	require.NoError(t, yaml.Unmarshal(text, &template))
	granted := map[string][]permission{}
	for id, resource := range template.Resources {
		if resource.Type != "AWS::IAM::Role" {
			continue
		}
		var role struct {
			Policies []struct {
				PolicyDocument struct {
					Statement []struct {
						Action   yaml.Node `yaml:"Action"`
						Resource yaml.Node `yaml:"Resource"`
					} `yaml:"Statement"`
				} `yaml:"PolicyDocument"`
			} `yaml:"Policies"`
		}
		require.NoError(t, resource.Properties.Decode(&role), id)
		function := strings.TrimSuffix(id, "Role") + "Function"
		for _, policy := range role.Policies {
			for _, statement := range policy.PolicyDocument.Statement {
				for _, action := range values(&statement.Action) {
					if strings.HasPrefix(action, "logs:") {
						continue // Lambda's own affair
					}
					for _, target := range values(&statement.Resource) {
						target = strings.TrimSuffix(target, ".Arn")
						if _, name, ok := strings.Cut(target, "${AWS::StackName}/"); ok {
							target = name
						}
						granted[function] = append(granted[function], permission{action, target})
					}
				}
			}
		}
	}
	return granted
}

// values returns a scalar, or the scalars of a list, whatever their tags.
func values(node *yaml.Node) []string {
	if node.Kind == yaml.ScalarNode {
		return []string{node.Value}
	}
	var all []string
	for _, item := range node.Content {
		all = append(all, item.Value)
	}
	return all
}
