// Package permissions_test holds every role of template.yaml to what its function does: the emulators check no
// permissions, so a function's calls are recorded on their way to them and compared with what its role allows, both
// ways.
package permissions_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
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
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/schedule"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/secret"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

// permission is an action on a resource: dynamodb:PutItem on PushesTable, secretsmanager:GetSecretValue on client/*.
type permission struct{ action, resource string }

func TestRolesAllowWhatTheirFunctionsDoAndNoMore(t *testing.T) {
	bundle := harness.StartFor(t, local.Options{Stack: "carillon-permissions", ManualSchedules: true})
	used := map[string]*recorder{}
	for id, function := range bundle.Functions() {
		r := newRecorder(t, bundle)
		function.SetEnvironment(map[string]string{
			"AWS_ENDPOINT_URL":             r.url,
			"AWS_ENDPOINT_URL_DYNAMODB":    r.url,
			"AWS_ENDPOINT_URL_SESV2":       r.url,
			"AWS_ENDPOINT_URL_EVENTBRIDGE": r.url,
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
func useEverything(t *testing.T, bundle *harness.Bundle, didAll func(function string) bool) {
	t.Helper()
	d := bundle.Demo
	// First what each endpoint's event in events/ does. What follows are the ways that it does not take.
	examples, err := bundle.Examples()
	require.NoError(t, err)
	output, err := exec.CommandContext(t.Context(), "bash", "-ec", examples).CombinedOutput()
	require.NoError(t, err, string(output))
	call := func(method, path, body string, headers ...map[string]string) string {
		t.Helper()
		all := map[string]string{}
		for _, some := range headers {
			maps.Copy(all, some)
		}
		reply := bundle.Call(t, method, path, body, all)
		require.Less(t, reply.Status, http.StatusInternalServerError, reply.Body)
		return reply.Body
	}
	post := func(path, body string, headers ...map[string]string) string {
		t.Helper()
		return call(http.MethodPost, path, body, headers...)
	}
	member := func(text, name string) string {
		t.Helper()
		value := harness.Field(t, text, name)
		require.NotEmpty(t, value, text)
		return value
	}
	bearer := bundle.OTTBearer(t, d.OTT)
	registration := `{"ottPlatformName":"line","ottPlatformAttributes":{"channelId":"1","channelName":"n","channelSecret":"s",
		"endpointUrl":"https://example.com/1","isTransactional":true,"isTestChannel":false,"isActive":true}}`
	for range 2 { // the second one replaces the first one's secret
		post("/ott/v1/registration", registration, bearer)
	}
	call(http.MethodGet, "/ott/v1/registration/line", "", bearer)
	call(http.MethodGet, "/ott/v1/registration/line/1", "", bearer)
	message := func(key string) string {
		return fmt.Sprintf(
			`{"messageKey":%q,"from":{"senderType":"line","senderId":"1"},"to":{"ottId":"U0098560c6da67ea9cab11d4405e3c018"},"message":{"contents":[{"type":"text","text":"a"}]},"validityPeriod":1}`,
			key,
		)
	}
	// One that LINE wants again later, and one that it takes and that comes again.
	require.NoError(
		t,
		bundle.Partners.Script("ott", standin.Answer{Status: 503, Headers: map[string]string{"Retry-After": "30"}}),
	)
	post("/ott/v1/send", message("first"), bearer)
	var second string
	for range 2 {
		second = post("/ott/v1/send", message("second"), bearer)
	}
	call(http.MethodGet, "/ott/v1/send/second", "", bearer)
	// One whose key is used again, a day later.
	_, err = bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: aws.String(bundle.Table(stackname.MessagesTable)),
		Key: dynamo.Item{
			"id": dynamo.String("demo-brand#message#" + harness.Field(t, second, "ottRequestId")),
		},
		UpdateExpression:          aws.String("SET reusableAt = :past"),
		ConditionExpression:       aws.String("attribute_exists(id)"),
		ExpressionAttributeValues: dynamo.Item{":past": dynamo.Int(1)},
	})
	require.NoError(t, err)
	post("/ott/v1/send", message("second"), bearer)
	eventually(t, func() bool { return didAll("OttDeliverFunction") })
	body := `{"events":[{"type":"follow"}]}`
	signature, value := callback.Sign("line", ott.Credentials{ChannelSecret: secret.NewText("s")}, []byte(body))
	post("/ott/v1/callback/line/1", body, map[string]string{signature: value})
	post("/ott/v1/registration", harness.RegistrationBody("1", "v"), bearer)
	body = `{"object":"page","entry":[{"id":"1","messaging":[{"sender":{"id":"2"},"read":{"watermark":1700000000000}}]}]}`
	signature, value = callback.Sign(
		"messenger", ott.Credentials{ApplicationSecret: secret.NewText("secret v")}, []byte(body))
	post("/ott/v1/callback/messenger/1", body, map[string]string{signature: value})
	call(http.MethodDelete, "/ott/v1/registration/line/1", "", bearer)

	c := d.Engage
	engageBearer := bundle.EngageBearer(t, c.DemoClient)
	key := func(key string) map[string]string { return map[string]string{"Idempotency-Key": key} }
	call(http.MethodGet, "/federated/content/v2/token/health", "", engageBearer)
	batch := func(notBefore time.Time) string {
		return fmt.Sprintf(
			`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":[%q],"notBefore":%q}`,
			c.ANumbers[0],
			notBefore.Format(time.RFC3339),
		)
	}
	const pushes = "/federated/outbound/v2/batch"
	batches := pushes + "?programContentUuid=" + c.ProgramContentUUID
	post(batches, `{}`, engageBearer, key(uuid.NewString())) // gives its key back

	// One that the gateway wants again later, one that it gives no result, one that it takes, and a job that is too
	// early; then one for the schedule.
	require.NoError(t, bundle.Partners.Script("gateway",
		standin.Answer{Status: 503, Headers: map[string]string{"Retry-After": "60"}},
		standin.Answer{Status: 200, Body: `{"results":[]}`}))
	for range 3 {
		post(batches, batch(time.Now()), engageBearer, key(uuid.NewString()))
	}
	early := schedule.NewDeliveryQueue(
		bundle.SQS(),
		bundle.QueueURL("DeliveryQueue"),
		clocktest.At(time.Now().Add(time.Hour)),
	)
	require.NoError(t, early.Send(t.Context(), engage.NewJob("acme", uuid.NewString(), 0, time.Now().Add(time.Hour))))
	eventually(t, func() bool { return didAll("EngageDeliverFunction") })
	// One that comes again as if the process had died before it could keep its answer.
	again, repeated := uuid.NewString(), batch(time.Now())
	post(batches, repeated, engageBearer, key(again))
	_, err = bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 aws.String(bundle.Table(stackname.IdempotencyTable)),
		Key:                       dynamo.Item{"key": dynamo.String("engage#" + c.ClientID + "#" + again)},
		UpdateExpression:          aws.String("SET lockedUntil = :past REMOVE answer"),
		ConditionExpression:       aws.String("attribute_exists(answer)"),
		ExpressionAttributeValues: dynamo.Item{":past": dynamo.Int(0)},
	})
	require.NoError(t, err)
	post(batches, repeated, engageBearer, key(again))
	push := member(post(batches, batch(time.Now().Add(time.Hour)), engageBearer), "requestId")
	call(http.MethodGet, pushes+"/"+push, "", engageBearer)
	// The first look sends its first jobs; the second finds a chunk whose job for another try was lost.
	for _, update := range []string{"SET dueAt = :past", "SET dueAt = :past, notBefore = :past, c0 = :waiting REMOVE enqueuedAt"} {
		values := dynamo.Item{":past": dynamo.Int(1), ":waiting": dynamo.String("W1")}
		if !strings.Contains(update, ":waiting") {
			delete(values, ":waiting")
		}
		_, err = bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName:                 aws.String(bundle.Table(stackname.PushesTable)),
			Key:                       dynamo.Item{"requestId": dynamo.String(push), "part": dynamo.String("meta")},
			UpdateExpression:          aws.String(update),
			ExpressionAttributeValues: values,
		})
		require.NoError(t, err)
		require.NoError(t, bundle.TriggerSchedules(t.Context()))
	}
	push = member(post(batches, batch(time.Now().Add(time.Hour)), engageBearer), "requestId")
	call(http.MethodDelete, pushes+"/"+push, "", engageBearer)

	product := func(referredType string) string {
		return fmt.Sprintf(
			`{"productSpecification":{"id":%q},"@baseType":"product","@type":"OTT","@referredType":%q,"billingAccount":{"id":"1",
			"contact":[{"contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}]}}`,
			d.Product.ProductID,
			referredType,
		)
	}
	// One whose mail SES wants again later, one that the provider refuses, one that is mailed.
	throttled := map[string]string{"X-Amzn-ErrorType": "TooManyRequestsException"}
	require.NoError(
		t,
		bundle.Partners.Script(
			"mail",
			standin.Answer{Status: 429, Headers: throttled, Body: `{"message":"Maximum sending rate exceeded."}`},
		),
	)
	products := "/dxp-ux/v1/" + d.Product.BusinessID + "/product"
	var id string
	for _, referredType := range []string{d.Product.ReferredType, "UNKNOWN", d.Product.ReferredType} {
		answer := post(products, product(referredType), harness.DXPHeaders(d.Product.DemoClient, uuid.NewString()))
		if referredType != "UNKNOWN" {
			id = member(answer, "id")
		}
	}
	call(http.MethodGet, products, "", harness.DXPHeaders(d.Product.DemoClient, ""))
	call(http.MethodGet, products+"/"+id, "", harness.DXPHeaders(d.Product.DemoClient, ""))
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
				polls := slices.Contains(values(&statement.Action), "sqs:ReceiveMessage")
				for _, action := range values(&statement.Action) {
					if strings.HasPrefix(action, "logs:") || polls && slices.Contains(polling, action) {
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
