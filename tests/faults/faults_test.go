// Package faults_test kills functions between any two of their writes, and makes AWS throttle and fail, while real
// binaries serve over real HTTP: nothing that was answered is lost, and what was not is mended by the same request again.
package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/shared/dynamo"
)

var bundle *local.Bundle

func TestMain(m *testing.M) {
	var err error
	handsets = newDeviceGateway()
	defer handsets.Close()
	bundle, err = local.Start(context.Background(), local.Options{
		Root: "../..", Stack: "carillon-faults", GatewayURL: handsets.URL, ManualSchedules: true,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "the bundle does not start:", err)
		os.Exit(1)
	}
	code := m.Run()
	bundle.Close()
	os.Exit(code)
}

// behindProxies puts a function behind a proxy for each emulator, until the test ends.
func behindProxies(t *testing.T, function string) (items, secrets *awsProxy) {
	t.Helper()
	items = newAWSProxy(t, bundle.Demo.AWS.DynamoDB)
	secrets = newAWSProxy(t, bundle.Demo.AWS.Endpoint)
	before := bundle.Function(function).Environment()
	bundle.Function(function).SetEnvironment(map[string]string{
		"AWS_ENDPOINT_URL_DYNAMODB": items.server.URL, "AWS_ENDPOINT_URL": secrets.server.URL,
	})
	t.Cleanup(func() {
		bundle.Function(function).SetEnvironment(map[string]string{
			"AWS_ENDPOINT_URL_DYNAMODB": before["AWS_ENDPOINT_URL_DYNAMODB"], "AWS_ENDPOINT_URL": before["AWS_ENDPOINT_URL"],
		})
	})
	return items, secrets
}

// killed kills a function at a step: before AWS has seen the call.
func killed(function string) func(http.ResponseWriter, *http.Request) bool {
	return func(http.ResponseWriter, *http.Request) bool {
		bundle.Function(function).Kill()
		panic(http.ErrAbortHandler)
	}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func post(t *testing.T, path, body string, headers map[string]string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, bundle.BaseURL+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	return send(t, request)
}

func send(t *testing.T, request *http.Request) reply {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { assert.NoError(t, response.Body.Close()) }()
	received, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return reply{response.StatusCode, response.Header, string(received)}
}

func field(t *testing.T, text, name string) string {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &object), text)
	value, _ := object[name].(string)
	return value
}

func bearer(t *testing.T, path, body, member string) map[string]string {
	t.Helper()
	answer := post(t, path, body, map[string]string{"X-Federated-Purpose": "inform"})
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	return map[string]string{"Authorization": "Bearer " + field(t, answer.body, member)}
}

func ottBearer(t *testing.T) map[string]string {
	t.Helper()
	c := bundle.Demo.OTT
	return bearer(t, "/v2/token", fmt.Sprintf(`{"grant_type":"client_credentials","client_id":%q,"client_secret":%q}`, c.ClientID, c.ClientSecret), "access_token")
}

func engageBearer(t *testing.T) map[string]string {
	t.Helper()
	c := bundle.Demo.Engage
	return bearer(t, "/federated/content/v2/token", fmt.Sprintf(`{"clientId":%q,"clientSecret":%q}`, c.ClientID, c.ClientSecret), "accessToken")
}

func table(name string) *string { return aws.String(bundle.Demo.AWS.Stack + "-" + name) }

func scan(t *testing.T, name string) []dynamo.Item {
	t.Helper()
	var items []dynamo.Item
	pages := dynamodb.NewScanPaginator(bundle.DynamoDB(), &dynamodb.ScanInput{TableName: table(name), ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		items = append(items, page.Items...)
	}
	return items
}

// endLocks lets the time pass in which an operation of a killed process is its own.
func endLocks(t *testing.T) {
	t.Helper()
	for _, item := range scan(t, "idempotency") {
		_, err := bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName:                 table("idempotency"),
			Key:                       dynamo.Item{"key": item["key"]},
			UpdateExpression:          aws.String("SET lockedUntil = :past"),
			ExpressionAttributeValues: dynamo.Item{":past": dynamo.Int(1)},
		})
		require.NoError(t, err)
	}
}

// ---- OTT registration

const ottRegister = "OttRegisterFunction"

func registrationBody(pageID, version string) string {
	return fmt.Sprintf(`{"ottPlatformName":"messenger","ottPlatformAttributes":{"applicationId":"1","applicationSecret":"secret %[2]s","pageId":%[1]q,
		"pageName":%[2]q,"pageAccessToken":"token %[2]s","endpointUrl":"https://graph.facebook.com/me/messages","callbackVerifyToken":"verify","isActive":1}}`, pageID, version)
}

// registeredVersion returns which version is registered. It fails the test unless item and secret are of one version.
func registeredVersion(t *testing.T, pageID string) string {
	t.Helper()
	out, err := bundle.DynamoDB().GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: table("registrations"), Key: dynamo.Item{"pk": dynamo.String("messenger#" + pageID)}, ConsistentRead: aws.Bool(true),
	})
	require.NoError(t, err)
	require.NotEmpty(t, out.Item, "the registration is lost")
	secret, err := bundle.SecretsManager().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(dynamo.GetString(out.Item, "secretName")),
	})
	require.NoError(t, err, "the registration's credentials are lost")
	version := dynamo.GetString(out.Item, "name")
	assert.Equal(t, "secret "+version, field(t, aws.ToString(secret.SecretString), "applicationSecret"), "item and secret are of different registrations")
	return version
}

func TestRegistrationKilledBetweenTwoWrites(t *testing.T) {
	items, secrets := behindProxies(t, ottRegister)
	kill := func() { bundle.Function(ottRegister).Kill() }
	tests := []struct {
		name   string
		items  *fault
		secret *fault
		finds  string // what is registered after the kill
	}{
		{name: "before the secret", secret: &fault{operation: "CreateSecret", answer: killed(ottRegister)}, finds: "old"},
		{name: "between secret and item", secret: &fault{operation: "CreateSecret", after: kill}, finds: "old"},
		{name: "before the item", items: &fault{operation: "UpdateItem", answer: killed(ottRegister)}, finds: "old"},
		{name: "after the item", items: &fault{operation: "UpdateItem", after: kill}, finds: "new"},
		{name: "before the old secret's deletion", secret: &fault{operation: "DeleteSecret", answer: killed(ottRegister)}, finds: "new"},
		{name: "after the old secret's deletion", secret: &fault{operation: "DeleteSecret", after: kill}, finds: "new"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "old"), token).status)
			if test.items != nil {
				items.inject(test.items)
			}
			if test.secret != nil {
				secrets.inject(test.secret)
			}
			assert.Equal(t, http.StatusInternalServerError, post(t, "/ott/v1/registration", registrationBody(pageID, "new"), token).status)
			assert.Equal(t, test.finds, registeredVersion(t, pageID))
			items.inject()
			secrets.inject()
			assert.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "new"), token).status)
			assert.Equal(t, "new", registeredVersion(t, pageID))
		})
	}
}

func TestRegistrationWhenAWSFails(t *testing.T) {
	const internal = `{"message":"Internal Server Error","errorcode":0,"documentation":""}`
	const unavailable = `{"message":"Service Unavailable","errorcode":0,"documentation":""}`
	items, secrets := behindProxies(t, ottRegister)
	tests := []struct {
		name   string
		items  *fault
		secret *fault
		status int
		body   string
	}{
		{name: "DynamoDB throttles three times", items: &fault{operation: "UpdateItem", times: 3, answer: awsError(400, "ProvisionedThroughputExceededException")}, status: 201},
		{name: "DynamoDB fails three times", items: &fault{operation: "UpdateItem", times: 3, answer: awsError(500, "InternalServerError")}, status: 201},
		{name: "the answer to the item is lost", items: &fault{operation: "UpdateItem", after: func() {}}, status: 201},
		{name: "the answer to the secret is lost", secret: &fault{operation: "CreateSecret", after: func() {}}, status: 201},
		{name: "Secrets Manager throttles three times", secret: &fault{operation: "CreateSecret", times: 3, answer: awsError(400, "ThrottlingException")}, status: 201},
		{name: "DynamoDB throttles on and on", items: &fault{operation: "UpdateItem", times: -1, answer: awsError(400, "ThrottlingException")}, status: 503, body: unavailable},
		{name: "DynamoDB denies access", items: &fault{operation: "UpdateItem", times: -1, answer: awsError(400, "AccessDeniedException")}, status: 500, body: internal},
		{name: "Secrets Manager refuses", secret: &fault{operation: "CreateSecret", times: -1, answer: awsError(400, "InvalidParameterException")}, status: 500, body: internal},
		{name: "the old secret cannot be deleted", secret: &fault{operation: "DeleteSecret", times: -1, answer: awsError(400, "AccessDeniedException")}, status: 201},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "old"), token).status)
			if test.items != nil {
				items.inject(test.items)
			}
			if test.secret != nil {
				secrets.inject(test.secret)
			}
			answer := post(t, "/ott/v1/registration", registrationBody(pageID, "new"), token)
			items.inject()
			secrets.inject()
			assert.Equal(t, test.status, answer.status)
			assert.Equal(t, test.body, answer.body)
			registeredVersion(t, pageID)
			assert.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "newest"), token).status)
			assert.Equal(t, "newest", registeredVersion(t, pageID))
		})
	}
}

// ---- ENGAGE batch

const engageBatch = "EngageBatchFunction"

// demoProvider is the tenant of the demo's ENGAGE client.
const demoProvider = "demo-calls"

func batchPath() string {
	return "/federated/outbound/v2/batch?programContentUuid=" + bundle.Demo.Engage.ProgramContentUUID
}

// batchBody has 15,000 destinations: 30 chunks, which are two writes.
func batchBody() string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"aNumbers":[%q],"destinations":[`, bundle.Demo.Engage.ANumbers[0])
	for i := range 15_000 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"bNumber":"+1501%07d"}`, i)
	}
	b.WriteString("]}")
	return b.String()
}

// push is what the table holds of a request id.
type push struct{ metas, contents, chunks int }

func pushes(t *testing.T) map[string]push {
	t.Helper()
	found := map[string]push{}
	for _, item := range scan(t, "pushes") {
		id := dynamo.GetString(item, "requestId")
		p := found[id]
		switch part := dynamo.GetString(item, "part"); {
		case part == "meta":
			p.metas++
		case part == "content":
			p.contents++
		case strings.HasPrefix(part, "chunk#"):
			p.chunks++
		}
		found[id] = p
	}
	return found
}

func TestBatchKilledBetweenTwoWrites(t *testing.T) {
	items, _ := behindProxies(t, engageBatch)
	kill := func() { bundle.Function(engageBatch).Kill() }
	body := batchBody()
	tests := []struct {
		name      string
		fault     *fault
		committed bool // the push is durable after the kill
	}{
		{"after the key's claim", &fault{operation: "PutItem", after: kill}, false},
		{"before the chunks", &fault{operation: "BatchWriteItem", answer: killed(engageBatch)}, false},
		{"between two writes of chunks", &fault{operation: "BatchWriteItem", after: kill}, false},
		{"between chunks and meta", &fault{operation: "BatchWriteItem", skip: 1, after: kill}, false},
		{"before meta", &fault{operation: "PutItem", skip: 1, answer: killed(engageBatch)}, false},
		{"after meta", &fault{operation: "PutItem", skip: 1, after: kill}, true},
		{"before the answer is kept", &fault{operation: "UpdateItem", answer: killed(engageBatch)}, true},
		{"after the answer is kept", &fault{operation: "UpdateItem", after: kill}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			headers := engageBearer(t)
			headers["Idempotency-Key"] = uuid.NewString()
			before := pushes(t)
			items.inject(test.fault)
			require.Equal(t, http.StatusInternalServerError, post(t, batchPath(), body, headers).status)
			items.inject()
			committed := 0
			for id, p := range pushes(t) {
				if _, old := before[id]; !old {
					committed += p.metas
				}
			}
			assert.Equal(t, test.committed, committed == 1)
			endLocks(t)
			answer := post(t, batchPath(), body, headers)
			require.Equal(t, http.StatusOK, answer.status, answer.body)
			again := post(t, batchPath(), body, headers)
			assert.Equal(t, answer.body, again.body, "a repeat gets the first answer")
			after := pushes(t)
			for id := range before {
				delete(after, id)
			}
			assert.Equal(t, map[string]push{field(t, answer.body, "requestId"): {metas: 1, contents: 1, chunks: 30}}, after, "pushed once, whole, under the id that was answered")
		})
	}
}

// A push that is durable stands, though its repeat would be refused by now.
func TestBatchKilledAndItsProgramTakenBack(t *testing.T) {
	items, _ := behindProxies(t, engageBatch)
	setComplete := func(complete bool) {
		_, err := bundle.DynamoDB().UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
			TableName: table("content"),
			Key: dynamo.Item{
				"pk": dynamo.String("provider#" + demoProvider), "sk": dynamo.String("program#" + bundle.Demo.Engage.ProgramContentUUID),
			},
			UpdateExpression:          aws.String("SET complete = :complete"),
			ConditionExpression:       aws.String("attribute_exists(pk)"),
			ExpressionAttributeValues: dynamo.Item{":complete": dynamo.Bool(complete)},
		})
		require.NoError(t, err)
	}
	headers, body := engageBearer(t), batchBody()
	headers["Idempotency-Key"] = uuid.NewString()
	before := pushes(t)
	items.inject(&fault{operation: "PutItem", skip: 1, after: func() { bundle.Function(engageBatch).Kill() }})
	require.Equal(t, http.StatusInternalServerError, post(t, batchPath(), body, headers).status)
	items.inject()
	setComplete(false)
	defer func() {
		setComplete(true)
		bundle.Function(engageBatch).Kill() // and with it what it keeps of the content
	}()
	require.Equal(t, http.StatusBadRequest, post(t, batchPath(), body, engageBearer(t)).status)
	endLocks(t)
	answer := post(t, batchPath(), body, headers)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	after := pushes(t)
	for id := range before {
		delete(after, id)
	}
	assert.Equal(t, map[string]push{field(t, answer.body, "requestId"): {metas: 1, contents: 1, chunks: 30}}, after)
}

func TestBatchWhenDynamoDBFails(t *testing.T) {
	const unavailable = `"response":"Service unavailable","message":"Batch push could not complete push successfully.","errorCode":503`
	const internal = `"response":"Internal server error","message":"Batch push could not complete push successfully.","errorCode":500`
	items, _ := behindProxies(t, engageBatch)
	body := batchBody()
	unprocessed := func(w http.ResponseWriter, r *http.Request) bool {
		// DynamoDB took nothing of it: what throttling on some partitions looks like.
		var request struct{ RequestItems json.RawMessage }
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			return false
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = fmt.Fprintf(w, `{"UnprocessedItems":%s}`, request.RequestItems)
		return true
	}
	tests := []struct {
		name   string
		fault  *fault
		status int
		body   string
	}{
		{"items left over three times", &fault{operation: "BatchWriteItem", times: 3, answer: unprocessed}, 200, `"response":"success"`},
		{"throttles three times", &fault{operation: "BatchWriteItem", times: 3, answer: awsError(400, "ThrottlingException")}, 200, `"response":"success"`},
		{"meta's answer is lost", &fault{operation: "PutItem", after: func() {}}, 200, `"response":"success"`},
		{"throttles on and on", &fault{operation: "PutItem", times: -1, answer: awsError(400, "ThrottlingException")}, 503, unavailable},
		{"denies access", &fault{operation: "BatchWriteItem", times: -1, answer: awsError(400, "AccessDeniedException")}, 500, internal},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			headers := engageBearer(t)
			before := pushes(t)
			items.inject(test.fault)
			answer := post(t, batchPath(), body, headers)
			items.inject()
			assert.Equal(t, test.status, answer.status)
			assert.Contains(t, answer.body, test.body)
			if test.status != http.StatusOK {
				return
			}
			id := field(t, answer.body, "requestId")
			assert.NotContains(t, before, id)
			assert.Equal(t, push{metas: 1, contents: 1, chunks: 30}, pushes(t)[id])
		})
	}
}

// ---- warm requests

func TestAWarmRequestAsksAWSForNothingThatIsKept(t *testing.T) {
	t.Run("token health", func(t *testing.T) {
		items, secrets := behindProxies(t, "EngageTokenHealthFunction")
		token := engageBearer(t)
		get := func() int {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, bundle.BaseURL+"/federated/content/v2/token/health", nil)
			require.NoError(t, err)
			request.Header.Set("Authorization", token["Authorization"])
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			return response.StatusCode
		}
		require.Equal(t, http.StatusOK, get())
		secrets.inject(&fault{operation: "GetSecretValue", times: -1, answer: awsError(500, "InternalServiceError")})
		assert.Equal(t, http.StatusOK, get())
		assert.Zero(t, secrets.count("GetSecretValue")+items.count("GetItem"))
	})
	t.Run("batch", func(t *testing.T) {
		items, secrets := behindProxies(t, engageBatch)
		token, body := engageBearer(t), batchBody()
		require.Equal(t, http.StatusOK, post(t, batchPath(), body, token).status)
		items.inject()
		secrets.inject()
		require.Equal(t, http.StatusOK, post(t, batchPath(), body, token).status)
		assert.Zero(t, secrets.count("GetSecretValue")+items.count("GetItem"))
		assert.Equal(t, 2, items.count("BatchWriteItem"))
		assert.Equal(t, 1, items.count("PutItem"))
	})
	t.Run("token", func(t *testing.T) {
		_, secrets := behindProxies(t, "EngageTokenFunction")
		engageBearer(t)
		secrets.inject()
		engageBearer(t)
		assert.Zero(t, secrets.count("GetSecretValue"))
	})
}
