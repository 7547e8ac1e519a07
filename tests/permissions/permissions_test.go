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
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"carillon/local"
	"carillon/local/standin"
	"carillon/shared/attribute"
)

// permission is an action on a resource: dynamodb:PutItem on PushesTable, secretsmanager:GetSecretValue on client/*.
type permission struct{ action, resource string }

func TestRolesAllowWhatTheirFunctionsDoAndNoMore(t *testing.T) {
	bundle, err := local.Start(t.Context(), local.Options{Root: "../..", Stack: "carillon-permissions", ManualSchedules: true})
	require.NoError(t, err)
	defer bundle.Close()
	used := map[string]*recorder{}
	for id, function := range bundle.Functions() {
		r := newRecorder(t, bundle)
		function.SetEnvironment(map[string]string{
			"AWS_ENDPOINT_URL": r.url, "AWS_ENDPOINT_URL_DYNAMODB": r.url, "AWS_ENDPOINT_URL_SESV2": r.url,
		})
		used[id] = r
	}
	granted := roles(t)
	useEverything(t, bundle, func(function string) bool { // in the background
		return len(used[function].permissions()) >= len(granted[function])
	})
	require.ElementsMatch(t, slices.Collect(maps.Keys(used)), slices.Collect(maps.Keys(granted)))
	for id, r := range used {
		assert.ElementsMatch(t, granted[id], slices.Collect(maps.Keys(r.permissions())), id)
	}
}

// useEverything makes every function do all that it can do. Those in the background are asked whether they have.
func useEverything(t *testing.T, bundle *local.Bundle, didAll func(function string) bool) {
	t.Helper()
	d := bundle.Demo
	call := func(method, path, body string, headers ...string) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, d.BaseURL+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			request.Header.Set(headers[i], headers[i+1])
		}
		return do(t, request)
	}
	post := func(path, body string, headers ...string) string {
		t.Helper()
		return call(http.MethodPost, path, body, headers...)
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
	call(http.MethodGet, "/federated/content/v2/token/health", "", "Authorization", engage)
	batch := func(notBefore time.Time) string {
		return fmt.Sprintf(`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":[%q],"notBefore":%q}`, c.ANumbers[0], notBefore.Format(time.RFC3339))
	}
	const pushes = "/federated/outbound/v2/batch"
	batches := pushes + "?programContentUuid=" + c.ProgramContentUUID
	post(batches, `{}`, "Authorization", engage, "Idempotency-Key", uuid.NewString()) // gives its key back

	// One that the gateway wants again later, one that it takes, and one for the schedule.
	require.NoError(t, bundle.Partners.Script("gateway", standin.Answer{Status: 503, Headers: map[string]string{"Retry-After": "60"}}))
	for range 2 {
		post(batches, batch(time.Now()), "Authorization", engage, "Idempotency-Key", uuid.NewString())
	}
	eventually(t, func() bool { return didAll("EngageDeliverFunction") })
	// One that comes again as if the process had died before it could keep its answer.
	key, body := uuid.NewString(), batch(time.Now())
	post(batches, body, "Authorization", engage, "Idempotency-Key", key)
	_, err := bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 aws.String(d.AWS.Stack + "-idempotency"),
		Key:                       attribute.Item{"key": attribute.String("engage#" + c.ClientID + "#" + key)},
		UpdateExpression:          aws.String("SET lockedUntil = :past REMOVE answer"),
		ConditionExpression:       aws.String("attribute_exists(answer)"),
		ExpressionAttributeValues: attribute.Item{":past": attribute.Int(0)},
	})
	require.NoError(t, err)
	post(batches, body, "Authorization", engage, "Idempotency-Key", key)
	push := member(post(batches, batch(time.Now().Add(time.Hour)), "Authorization", engage), "requestId")
	call(http.MethodGet, pushes+"/"+push, "", "Authorization", engage)
	_, err = bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 aws.String(d.AWS.Stack + "-pushes"),
		Key:                       attribute.Item{"requestId": attribute.String(push), "part": attribute.String("meta")},
		UpdateExpression:          aws.String("SET dueAt = :past"),
		ExpressionAttributeValues: attribute.Item{":past": attribute.Int(1)},
	})
	require.NoError(t, err)
	require.NoError(t, bundle.TriggerSchedules(t.Context()))
	call(http.MethodDelete, pushes+"/"+push, "", "Authorization", engage)

	product := func(referredType string) string {
		return fmt.Sprintf(`{"productSpecification":{"id":%q},"@baseType":"product","@type":"OTT","@referredType":%q,"billingAccount":{"id":"1",
			"contact":[{"contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}]}}`, d.Product.ProductID, referredType)
	}
	// One whose mail SES wants again later, one that the provider refuses, one that is mailed.
	throttled := map[string]string{"X-Amzn-ErrorType": "TooManyRequestsException"}
	require.NoError(t, bundle.Partners.Script("mail", standin.Answer{Status: 429, Headers: throttled, Body: `{"message":"Maximum sending rate exceeded."}`}))
	products := "/dxp-ux/v1/" + d.Product.BusinessID + "/product"
	credentials := []string{"client_id", d.Product.ClientID, "client_secret", d.Product.ClientSecret}
	var id string
	for _, referredType := range []string{d.Product.ReferredType, "UNKNOWN", d.Product.ReferredType} {
		answer := post(products, product(referredType), append(credentials, "X-Correlation-ID", uuid.NewString())...)
		if referredType != "UNKNOWN" {
			id = member(answer, "id")
		}
	}
	call(http.MethodGet, products, "", credentials...)
	call(http.MethodGet, products+"/"+id, "", credentials...)
	for _, function := range []string{"ProductMailFunction", "ProductMailEventFunction"} {
		eventually(t, func() bool { return didAll(function) })
	}
}

// eventually waits for what happens in the background; what is missing then is told by the comparison.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
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

func newRecorder(t *testing.T, bundle *local.Bundle) *recorder {
	t.Helper()
	emulators := bundle.Demo.AWS
	r := &recorder{seen: map[permission]bool{}}
	forwardTo := func(target string) http.Handler {
		u, err := url.Parse(target)
		require.NoError(t, err)
		return &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(u)
			p.Out.Host = p.In.Host // what was signed
		}}
	}
	dynamoDB, mail, others := forwardTo(emulators.DynamoDB), forwardTo(bundle.Partners.URL("mail")), forwardTo(emulators.Endpoint)
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
		if strings.HasPrefix(request.URL.Path, "/v2/email/") { // SES names its operations by their paths
			r.noteMail(t, request, body, emulators.Stack)
			mail.ServeHTTP(w, request)
			return
		}
		if service == "AmazonSQS" {
			r.noteQueue(operation, body, emulators.Stack)
		} else {
			r.noteSecret(operation, body, emulators.Stack)
		}
		others.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *recorder) noteTables(operation string, body []byte, stack string) {
	var call struct {
		TableName     string
		IndexName     string
		RequestItems  map[string]json.RawMessage
		TransactItems []map[string]struct{ TableName string }
	}
	_ = json.Unmarshal(body, &call)
	tables := slices.Collect(maps.Keys(call.RequestItems))
	if call.TableName != "" {
		tables = append(tables, call.TableName)
	}
	for _, table := range tables {
		resource := logicalID(table, stack) + "Table"
		if call.IndexName != "" {
			resource += "/index/" + call.IndexName
		}
		r.note(permission{"dynamodb:" + operation, resource})
	}
	// A transaction needs the permissions of what it is made of: PutItem for a Put, and so on.
	for _, item := range call.TransactItems {
		for action, on := range item {
			r.note(permission{"dynamodb:" + action + "Item", logicalID(on.TableName, stack) + "Table"})
		}
	}
}

// logicalID is a table's or queue's, without its type: MailEvent for carillon-mail-event.
func logicalID(name, stack string) string {
	var id strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(name, stack+"-"), "-") {
		id.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return id.String()
}

func (r *recorder) noteMail(t *testing.T, request *http.Request, body []byte, stack string) {
	if request.Method != http.MethodPost || request.URL.Path != "/v2/email/outbound-emails" {
		t.Errorf("no permission is known for %s %s", request.Method, request.URL.Path)
		return
	}
	var call struct{ FromEmailAddress, ConfigurationSetName string }
	assert.NoError(t, json.Unmarshal(body, &call))
	assert.Equal(t, "activation@mail.example.com", call.FromEmailAddress, "the only address that the role's condition lets through")
	assert.Equal(t, stack+"-mail", call.ConfigurationSetName)
	r.note(permission{"ses:SendEmail", "identity/MailIdentity"})
	r.note(permission{"ses:SendEmail", "configuration-set/MailConfigurationSet"})
}

func (r *recorder) noteQueue(operation string, body []byte, stack string) {
	var call struct{ QueueURL string }
	_ = json.Unmarshal(body, &call) // without regard to case: AWS spells it QueueUrl
	// A batch needs the permission of what it is a batch of.
	r.note(permission{"sqs:" + strings.TrimSuffix(operation, "Batch"), logicalID(path.Base(call.QueueURL), stack) + "Queue"})
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
	case strings.HasPrefix(name, "gateway-"): // an ARN's random characters follow
		return "GatewaySecret"
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

// polling is what Lambda does with a function's role to bring it the messages of a queue.
var polling = []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}

// roles reads what the role of each function allows on tables, queues, secrets and mail.
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
					if strings.HasPrefix(action, "logs:") || slices.Contains(polling, action) {
						continue // Lambda's own affair
					}
					for _, target := range values(&statement.Resource) {
						target = strings.TrimSuffix(strings.Replace(target, ".Arn}", "}", 1), ".Arn")
						for _, prefix := range []string{"${AWS::StackName}/", "${AWS::AccountId}:"} {
							if _, name, ok := strings.Cut(target, prefix); ok {
								target = name
								break
							}
						}
						target = strings.NewReplacer("${", "", "}", "").Replace(target)
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
