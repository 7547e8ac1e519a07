// Package faults_test kills functions between any two of their writes, and makes AWS throttle and fail, while real
// binaries serve over real HTTP: nothing that was answered is lost, and what was not is mended by the same request
// again.
package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/shared/dynamo"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

var bundle *harness.Bundle

func TestMain(m *testing.M) {
	harness.Beside(100) // whoever waits for its turn in a lane counts
	harness.Main(m, local.Options{Stack: "carillon-faults", ManualSchedules: true}, &bundle)
}

// fault is what goes wrong at a step of a function.
type fault = harness.Fault

// before kills a function before AWS has seen its call of an operation, after once AWS has carried it out.
func before(operation, function string) *fault {
	return &fault{Operation: operation, Answer: bundle.KilledBefore(function)}
}

func after(operation, function string) *fault {
	return &fault{Operation: operation, After: bundle.KilledAfter(function)}
}

// lost is a call that is carried out, and nobody hears of it.
func lost(operation string) *fault { return &fault{Operation: operation, After: harness.AnswerLost} }

// times has AWS answer so n times, always each time.
func times(n int, operation string, answer func(http.ResponseWriter, *http.Request) bool) *fault {
	return &fault{Operation: operation, Times: n, Answer: answer}
}

func always(operation string, answer func(http.ResponseWriter, *http.Request) bool) *fault {
	return times(-1, operation, answer)
}

// later lets so many calls pass first.
func later(skip int, f *fault) *fault {
	f.Skip = skip
	return f
}

// with is for a call whose body holds a text.
func with(body string, f *fault) *fault {
	f.Body = body
	return f
}

// at is for a call that a path tells, and no operation.
func at(path string, f *fault) *fault {
	f.Path = path
	return f
}

// What AWS answers when it is asked too much, and when a permission is missing.
var (
	throttled = awsError(400, "ThrottlingException")
	denied    = awsError(400, "AccessDeniedException")
)

func awsError(status int, code string) func(http.ResponseWriter, *http.Request) bool {
	return harness.AWSError(status, code)
}

func ottBearer(t *testing.T) map[string]string {
	t.Helper()
	return bundle.OTTBearer(t, bundle.Demo.OTT)
}

func engageBearer(t *testing.T) map[string]string {
	t.Helper()
	return bundle.EngageBearer(t, bundle.Demo.Engage.DemoClient)
}

// lane is a row of tests that share functions and queues: one of them runs at a time, beside those of the other lanes.
// Most of a test's time is spent waiting: for the SDK to try again, for a queue.
type lane struct {
	sync.Mutex
	queues []string
	takers []string // functions that take from them
}

// Each API has a lane.
var (
	ottLane     = &lane{queues: []string{"OutboundQueue"}, takers: []string{ottDeliver}}
	engageLane  = &lane{queues: []string{"DeliveryQueue", "RetryQueue"}, takers: []string{engageDeliver}}
	productLane = &lane{
		queues: []string{"MailQueue", "MailEventQueue"}, takers: []string{productMail, productMailEvent},
	}
)

// enter waits for the test's turn, which it has until it ends. What the test before it left in the background is gone
// then.
func (l *lane) enter(t *testing.T) {
	t.Helper()
	t.Parallel()
	l.Lock()
	t.Cleanup(l.Unlock)
	for _, queue := range l.queues {
		require.NoError(t, bundle.PurgeQueue(t.Context(), queue))
	}
	for _, function := range l.takers {
		bundle.Function(function).Kill()
	}
}

// endLocks lets the time pass in which an operation of a killed process is its own. Each API's keys have prefixes of
// their own.
func endLocks(t *testing.T, prefixes ...string) {
	t.Helper()
	for _, item := range bundle.Scan(t, stackname.IdempotencyTable) {
		key := dynamo.GetString(item, "key")
		if !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
			continue
		}
		_, err := bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName:                 aws.String(bundle.Table(stackname.IdempotencyTable)),
			Key:                       dynamo.Item{"key": item["key"]},
			UpdateExpression:          aws.String("SET lockedUntil = :past"),
			ExpressionAttributeValues: dynamo.Item{":past": dynamo.Int(1)},
		})
		require.NoError(t, err)
	}
}

// ---- OTT registration

const ottRegister = "OttRegisterFunction"

// register registers a page and returns the answer's status.
func register(t *testing.T, pageID, version string, token map[string]string) int {
	t.Helper()
	return bundle.Post(t, "/ott/v1/registration", harness.RegistrationBody(pageID, version), token).Status
}

// registeredVersion returns which version is registered. It fails the test unless item and secret are of one version.
func registeredVersion(t *testing.T, pageID string) string {
	t.Helper()
	out, err := bundle.DynamoDB().GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: aws.String(
			bundle.Table(stackname.RegistrationsTable),
		), Key: dynamo.Item{"pk": dynamo.String("messenger#" + pageID)}, ConsistentRead: aws.Bool(true),
	})
	require.NoError(t, err)
	require.NotEmpty(t, out.Item, "the registration is lost")
	secret, err := bundle.SecretsManager().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(dynamo.GetString(out.Item, "secretName")),
	})
	require.NoError(t, err, "the registration's credentials are lost")
	version := dynamo.GetString(out.Item, "name")
	assert.Equal(
		t,
		"secret "+version,
		harness.Field(t, aws.ToString(secret.SecretString), "applicationSecret"),
		"item and secret are of different registrations",
	)
	return version
}

func TestRegistrationKilledBetweenTwoWrites(t *testing.T) {
	ottLane.enter(t)
	items, secrets := bundle.Behind(t, ottRegister)
	tests := []struct {
		name   string
		items  *fault
		secret *fault
		finds  string // what is registered after the kill
	}{
		{name: "before the secret", secret: before("CreateSecret", ottRegister), finds: "old"},
		{name: "between secret and item", secret: after("CreateSecret", ottRegister), finds: "old"},
		{name: "before the item", items: before("UpdateItem", ottRegister), finds: "old"},
		{name: "after the item", items: after("UpdateItem", ottRegister), finds: "new"},
		{name: "before the old secret's deletion", secret: before("DeleteSecret", ottRegister), finds: "new"},
		{name: "after the old secret's deletion", secret: after("DeleteSecret", ottRegister), finds: "new"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, register(t, pageID, "old", token))
			items.Inject(test.items)
			secrets.Inject(test.secret)
			assert.Equal(t, http.StatusInternalServerError, register(t, pageID, "new", token))
			assert.Equal(t, test.finds, registeredVersion(t, pageID))
			items.Inject()
			secrets.Inject()
			assert.Equal(t, http.StatusCreated, register(t, pageID, "new", token))
			assert.Equal(t, "new", registeredVersion(t, pageID))
		})
	}
}

func TestRegistrationWhenAWSFails(t *testing.T) {
	ottLane.enter(t)
	const internal = `{"message":"Internal Server Error","errorcode":0,"documentation":""}`
	const unavailable = `{"message":"Service Unavailable","errorcode":0,"documentation":""}`
	items, secrets := bundle.Behind(t, ottRegister)
	tests := []struct {
		name   string
		items  *fault
		secret *fault
		status int
		body   string
	}{
		{
			name:   "DynamoDB throttles three times",
			items:  times(3, "UpdateItem", awsError(400, "ProvisionedThroughputExceededException")),
			status: 201,
		},
		{
			name:   "DynamoDB fails three times",
			items:  times(3, "UpdateItem", awsError(500, "InternalServerError")),
			status: 201,
		},
		{name: "the answer to the item is lost", items: lost("UpdateItem"), status: 201},
		{name: "the answer to the secret is lost", secret: lost("CreateSecret"), status: 201},
		{name: "Secrets Manager throttles three times", secret: times(3, "CreateSecret", throttled), status: 201},
		{name: "DynamoDB throttles on and on", items: always("UpdateItem", throttled), status: 503, body: unavailable},
		{name: "DynamoDB denies access", items: always("UpdateItem", denied), status: 500, body: internal},
		{
			name:   "Secrets Manager refuses",
			secret: always("CreateSecret", awsError(400, "InvalidParameterException")),
			status: 500,
			body:   internal,
		},
		{name: "the old secret cannot be deleted", secret: always("DeleteSecret", denied), status: 201},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, register(t, pageID, "old", token))
			items.Inject(test.items)
			secrets.Inject(test.secret)
			answer := bundle.Post(t, "/ott/v1/registration", harness.RegistrationBody(pageID, "new"), token)
			items.Inject()
			secrets.Inject()
			assert.Equal(t, test.status, answer.Status)
			assert.Equal(t, test.body, answer.Body)
			registeredVersion(t, pageID)
			assert.Equal(t, http.StatusCreated, register(t, pageID, "newest", token))
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
	for _, item := range bundle.Scan(t, stackname.PushesTable) {
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
	engageLane.enter(t)
	items, _ := bundle.Behind(t, engageBatch)
	body := batchBody()
	tests := []struct {
		name      string
		fault     *fault
		committed bool // the push is durable after the kill
	}{
		{"after the key's claim", after("PutItem", engageBatch), false},
		{"before the chunks", before("BatchWriteItem", engageBatch), false},
		{"between two writes of chunks", after("BatchWriteItem", engageBatch), false},
		{"between chunks and meta", later(1, after("BatchWriteItem", engageBatch)), false},
		{"before meta", later(1, before("PutItem", engageBatch)), false},
		{"after meta", later(1, after("PutItem", engageBatch)), true},
		{"before the answer is kept", before("UpdateItem", engageBatch), true},
		{"after the answer is kept", after("UpdateItem", engageBatch), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			headers := engageBearer(t)
			headers["Idempotency-Key"] = uuid.NewString()
			before := pushes(t)
			items.Inject(test.fault)
			require.Equal(t, http.StatusInternalServerError, bundle.Post(t, batchPath(), body, headers).Status)
			items.Inject()
			committed := 0
			for id, p := range pushes(t) {
				if _, old := before[id]; !old {
					committed += p.metas
				}
			}
			assert.Equal(t, test.committed, committed == 1)
			endLocks(t, "engage#")
			answer := bundle.Post(t, batchPath(), body, headers)
			require.Equal(t, http.StatusOK, answer.Status, answer.Body)
			again := bundle.Post(t, batchPath(), body, headers)
			assert.Equal(t, answer.Body, again.Body, "a repeat gets the first answer")
			after := pushes(t)
			for id := range before {
				delete(after, id)
			}
			assert.Equal(
				t,
				map[string]push{answer.Field(t, "requestId"): {metas: 1, contents: 1, chunks: 30}},
				after,
				"pushed once, whole, under the id that was answered",
			)
		})
	}
}

// A push that is durable stands, though its repeat would be refused by now.
func TestBatchKilledAndItsProgramTakenBack(t *testing.T) {
	engageLane.enter(t)
	items, _ := bundle.Behind(t, engageBatch)
	setComplete := func(complete bool) {
		_, err := bundle.DynamoDB().UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
			TableName: aws.String(bundle.Table(stackname.ContentTable)),
			Key: dynamo.Item{
				"pk": dynamo.String(
					"provider#" + demoProvider,
				), "sk": dynamo.String("program#" + bundle.Demo.Engage.ProgramContentUUID),
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
	items.Inject(later(1, after("PutItem", engageBatch)))
	require.Equal(t, http.StatusInternalServerError, bundle.Post(t, batchPath(), body, headers).Status)
	items.Inject()
	setComplete(false)
	defer func() {
		setComplete(true)
		bundle.Function(engageBatch).Kill() // and with it what it keeps of the content
	}()
	require.Equal(t, http.StatusBadRequest, bundle.Post(t, batchPath(), body, engageBearer(t)).Status)
	endLocks(t, "engage#")
	answer := bundle.Post(t, batchPath(), body, headers)
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	after := pushes(t)
	for id := range before {
		delete(after, id)
	}
	assert.Equal(t, map[string]push{answer.Field(t, "requestId"): {metas: 1, contents: 1, chunks: 30}}, after)
}

func TestBatchWhenDynamoDBFails(t *testing.T) {
	engageLane.enter(t)
	const failed = `"message":"Batch push could not complete push successfully."`
	const unavailable = `"response":"Service unavailable",` + failed + `,"errorCode":503`
	const internal = `"response":"Internal server error",` + failed + `,"errorCode":500`
	items, _ := bundle.Behind(t, engageBatch)
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
		{"items left over three times", times(3, "BatchWriteItem", unprocessed), 200, `"response":"success"`},
		{"throttles three times", times(3, "BatchWriteItem", throttled), 200, `"response":"success"`},
		{"meta's answer is lost", lost("PutItem"), 200, `"response":"success"`},
		{"throttles on and on", always("PutItem", throttled), 503, unavailable},
		{"denies access", always("BatchWriteItem", denied), 500, internal},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			headers := engageBearer(t)
			before := pushes(t)
			items.Inject(test.fault)
			answer := bundle.Post(t, batchPath(), body, headers)
			items.Inject()
			assert.Equal(t, test.status, answer.Status)
			assert.Contains(t, answer.Body, test.body)
			if test.status != http.StatusOK {
				return
			}
			id := answer.Field(t, "requestId")
			assert.NotContains(t, before, id)
			assert.Equal(t, push{metas: 1, contents: 1, chunks: 30}, pushes(t)[id])
		})
	}
}

// ---- warm requests

func TestAWarmRequestAsksAWSForNothingThatIsKept(t *testing.T) {
	engageLane.enter(t)
	t.Run("token health", func(t *testing.T) {
		items, secrets := bundle.Behind(t, "EngageTokenHealthFunction")
		token := engageBearer(t)
		get := func() int { return bundle.Ask(t, http.MethodGet, "/federated/content/v2/token/health", token).Status }
		require.Equal(t, http.StatusOK, get())
		secrets.Inject(always("GetSecretValue", awsError(500, "InternalServiceError")))
		assert.Equal(t, http.StatusOK, get())
		assert.Zero(t, secrets.Count("GetSecretValue")+items.Count("GetItem"))
	})
	t.Run("batch", func(t *testing.T) {
		items, secrets := bundle.Behind(t, engageBatch)
		token, body := engageBearer(t), batchBody()
		require.Equal(t, http.StatusOK, bundle.Post(t, batchPath(), body, token).Status)
		items.Inject()
		secrets.Inject()
		require.Equal(t, http.StatusOK, bundle.Post(t, batchPath(), body, token).Status)
		assert.Zero(t, secrets.Count("GetSecretValue")+items.Count("GetItem"))
		assert.Equal(t, 2, items.Count("BatchWriteItem"))
		assert.Equal(t, 1, items.Count("PutItem"))
	})
	t.Run("token", func(t *testing.T) {
		_, secrets := bundle.Behind(t, "EngageTokenFunction")
		engageBearer(t)
		secrets.Inject()
		engageBearer(t)
		assert.Zero(t, secrets.Count("GetSecretValue"))
	})
}
