package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clientauth"
	"carillon/shared/clock/clocktest"
	"carillon/shared/contenttable"
	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/api"
	"carillon/shared/engage/schedule"
	"carillon/shared/engage/store"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/secret"
	"carillon/shared/stackname"
	"carillon/shared/token"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

const (
	tenant  = "acme"
	program = "0e6c2b8e-5d4f-4d0e-9c5a-3f2b7a1d9e11"
	aNumber = "+5014008029"
	body    = `{"aNumbers":["` + aNumber + `"],"destinations":[{"bNumber":"+15018902005"}]}`
)

// key is the signing key.
type key struct{}

func (key) Get(context.Context, string, secret.Stage, time.Duration) (secret.Version, error) {
	return secret.Version{ID: "1", Value: secret.NewText("a signing key of thirty-two bytes")}, nil
}

// service is the batch's endpoint on the emulators.
type service struct {
	stack    string
	bearer   string
	queueURL string
	clock    *clocktest.Clock
	handler  *api.BatchHandler
	serve    func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)
}

// newService returns an endpoint whose pushes are written through a client of that endpoint of DynamoDB's.
func newService(t *testing.T, stack, pushes string) *service {
	t.Helper()
	clock, items, messages := clocktest.New(), emulatortest.DynamoDB(), emulatortest.SQS()
	for sk, attributes := range map[string]dynamo.Item{
		"program#" + program: {"complete": dynamo.Bool(true), "content": dynamo.String("{}")},
		"anumbers":           {"numbers": &types.AttributeValueMemberSS{Value: []string{aNumber}}},
	} {
		attributes["pk"], attributes["sk"] = dynamo.String("provider#"+tenant), dynamo.String(sk)
		_, err := items.PutItem(t.Context(), &dynamodb.PutItemInput{
			TableName: aws.String(stackname.ContentTable(stack)), Item: attributes,
		})
		require.NoError(t, err)
	}
	created, err := messages.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(stack + "-own")})
	require.NoError(t, err)
	tokens := &token.Authority{Keys: key{}, KeyName: "key", Audience: "engage", Lifetime: time.Minute}
	client := clientauth.Client{ID: "acme-client", Tenant: tenant}
	bearer, err := tokens.Issue(t.Context(), client, []string{engage.ScopeInform})
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	handler := &api.BatchHandler{
		Tokens:     tokens,
		Content:    store.NewContent(contenttable.New(items, stackname.ContentTable(stack))),
		Pushes:     store.NewPushes(emulatortest.DynamoDBAt(pushes), stackname.PushesTable(stack), clock),
		Operations: idempotencystore.New(items, stackname.IdempotencyTable(stack), clock),
		Queue:      schedule.NewDeliveryQueue(messages, *created.QueueUrl, clock),
		Clock:      clock,
		Log:        log,
	}
	endpoint := httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
	return &service{
		stack: stack, bearer: bearer, queueURL: *created.QueueUrl, clock: clock, handler: handler,
		serve: httpapi.Adapt(endpoint, log),
	}
}

// post sends the batch under an idempotency key. It returns the status, and the request id of the answer.
func (s *service) post(t *testing.T, key string) (status int, requestID string) {
	t.Helper()
	return s.send(t, key, body)
}

func (s *service) send(t *testing.T, key, body string) (status int, requestID string) {
	t.Helper()
	response, err := s.serve(t.Context(), events.APIGatewayV2HTTPRequest{
		RawQueryString: "programContentUuid=" + program,
		Headers: map[string]string{
			"authorization": "Bearer " + s.bearer, "content-type": "application/json", "idempotency-key": key,
		},
		Body: body,
	})
	require.NoError(t, err)
	var answer struct{ RequestID string }
	require.NoError(t, json.Unmarshal([]byte(response.Body), &answer), response.Body)
	return response.StatusCode, answer.RequestID
}

// parts returns what the table holds of each push.
func (s *service) parts(t *testing.T) map[string][]string {
	t.Helper()
	table := aws.String(stackname.PushesTable(s.stack))
	out, err := emulatortest.DynamoDB().Scan(t.Context(), &dynamodb.ScanInput{TableName: table})
	require.NoError(t, err)
	parts := map[string][]string{}
	for _, item := range out.Items {
		id := dynamo.GetString(item, "requestId")
		parts[id] = append(parts[id], dynamo.GetString(item, "part"))
	}
	return parts
}

// jobs returns the bodies of what the queue holds.
func (s *service) jobs(t *testing.T) []string {
	t.Helper()
	out, err := emulatortest.SQS().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &s.queueURL, MaxNumberOfMessages: 10,
	})
	require.NoError(t, err)
	var bodies []string
	for _, message := range out.Messages {
		bodies = append(bodies, *message.Body)
	}
	return bodies
}

// The answer Unavailable invites the same request again. Whether the write that failed was carried out or not, the
// repeat goes on with the push that was begun, and does not make another one.
func TestARepeatAfterAThrottledWritePushesOnce(t *testing.T) {
	t.Parallel()
	for name, carriedOut := range map[string]bool{"that was carried out": true, "that was not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var commits atomic.Int64
			throttled := func(w http.ResponseWriter, call emulatortest.Call) bool {
				commit := call.Operation == "PutItem" && strings.Contains(call.Body, `"part":{"S":"meta"}`)
				if !commit || commits.Add(1) > 1 {
					return false
				}
				if carriedOut {
					assert.Equal(t, http.StatusOK, call.Send(call.Body).Code)
				}
				w.Header().Set("Content-Type", "application/x-amz-json-1.0")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprint(w, `{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException"}`)
				return true
			}
			stack := emulatortest.Deploy(t)
			s := newService(t, stack, emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), throttled))

			status, _ := s.post(t, "key-1")
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.EqualValues(t, 1, commits.Load(), "it is the write after the chunks that failed")
			status, id := s.post(t, "key-1")
			require.Equal(t, http.StatusOK, status)
			want := map[string][]string{id: {"chunk#00000", "content", "meta"}}
			assert.Equal(t, want, s.parts(t), "one push, under the one request id")
			jobs := s.jobs(t)
			require.Len(t, jobs, 1)
			assert.Contains(t, jobs[0], id)

			status, again := s.post(t, "key-1")
			assert.Equal(t, http.StatusOK, status)
			assert.Equal(t, id, again)
			assert.Equal(t, want, s.parts(t))
			assert.Empty(t, s.jobs(t))
		})
	}
}

// noQueue is SQS that does not answer.
type noQueue struct{}

func (noQueue) Send(context.Context, ...engage.Job) error { return errors.New("SQS is down") }

// A push that is due in minutes is on time although SQS takes none of its jobs when it is accepted: engage-schedule
// looks at it before its time. Where SQS takes them it looks after its time, and sends no job twice.
func TestAPushWhoseJobsSQSDoesNotTake(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"SQS is down": true, "SQS is well": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, emulatortest.Deploy(t), emulatortest.DynamoDBEndpoint())
			if down {
				s.handler.Queue = noQueue{}
			}
			notBefore := s.clock.Now().Add(5 * time.Minute)
			status, id := s.send(t, "", fmt.Sprintf(`{"notBefore":%q,%s`, notBefore.Format(time.RFC3339Nano), body[1:]))
			require.Equal(t, http.StatusOK, status, "it is durable")
			pushes := store.NewPushes(emulatortest.DynamoDB(), stackname.PushesTable(s.stack), s.clock)
			meta, err := pushes.Meta(t.Context(), tenant, id)
			require.NoError(t, err)
			const twoSweeps = 2 * time.Minute
			if down {
				assert.False(t, meta.DueAt.After(notBefore.Add(-twoSweeps)))
			} else {
				assert.True(t, meta.DueAt.After(notBefore))
			}
		})
	}
}
