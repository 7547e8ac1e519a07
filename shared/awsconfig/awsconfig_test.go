package awsconfig_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/awsconfig"
	"carillon/shared/fault"
)

// inLambda sets what Lambda sets; empty stands for not set.
func inLambda(t *testing.T, change map[string]string) {
	t.Helper()
	variables := map[string]string{
		"AWS_REGION":                       "eu-west-1",
		"AWS_ACCESS_KEY_ID":                "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY":            "hunter2",
		"AWS_SESSION_TOKEN":                "session",
		"AWS_MAX_ATTEMPTS":                 "",
		"AWS_ENDPOINT_URL":                 "",
		"AWS_ENDPOINT_URL_DYNAMODB":        "",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": "",
	}
	for name, value := range change {
		variables[name] = value
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
}

func TestFromEnvironment(t *testing.T) {
	inLambda(t, nil)
	config, err := awsconfig.FromEnvironment()
	require.NoError(t, err)
	assert.Equal(t, "eu-west-1", config.Region)
	credentials, err := config.Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "AKIDEXAMPLE", credentials.AccessKeyID)
	assert.Equal(t, "hunter2", credentials.SecretAccessKey)
	assert.Equal(t, "session", credentials.SessionToken)
	assert.Nil(t, config.BaseEndpoint)
}

func TestFromEnvironmentThatLacksSomething(t *testing.T) {
	for name, test := range map[string]struct{ variable, message string }{
		"region":            {"AWS_REGION", "awsconfig: AWS_REGION is not set"},
		"access key":        {"AWS_ACCESS_KEY_ID", "awsconfig: AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set"},
		"secret access key": {"AWS_SECRET_ACCESS_KEY", "awsconfig: AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			inLambda(t, map[string]string{test.variable: ""})
			_, err := awsconfig.FromEnvironment()
			assert.EqualError(t, err, test.message)
		})
	}
}

// service answers as an AWS service, and counts what it is asked.
type service struct {
	*httptest.Server
	asked  atomic.Int64
	signed atomic.Value // the last Authorization header
}

func newService(t *testing.T, answer func(n int64, w http.ResponseWriter)) *service {
	t.Helper()
	s := new(service)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.signed.Store(r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		answer(s.asked.Add(1), w)
	}))
	t.Cleanup(s.Close)
	return s
}

func empty(_ int64, w http.ResponseWriter) { _, _ = io.WriteString(w, "{}") }

func TestEndpointVariablesReachTheClients(t *testing.T) {
	tests := map[string]struct {
		all, dynamodb, secrets bool // which variables are set
		want                   [2]string
	}{
		"one for all":         {true, false, false, [2]string{"all", "all"}},
		"one for one service": {true, true, false, [2]string{"dynamodb", "all"}},
		"one for each":        {false, true, true, [2]string{"dynamodb", "secrets"}},
		"three":               {true, true, true, [2]string{"dynamodb", "secrets"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			services := map[string]*service{
				"all":      newService(t, empty),
				"dynamodb": newService(t, empty),
				"secrets":  newService(t, empty),
			}
			variables := map[string]string{}
			for name, set := range map[string]bool{"all": test.all, "dynamodb": test.dynamodb, "secrets": test.secrets} {
				if set {
					variables[map[string]string{"all": "AWS_ENDPOINT_URL", "dynamodb": "AWS_ENDPOINT_URL_DYNAMODB", "secrets": "AWS_ENDPOINT_URL_SECRETS_MANAGER"}[name]] = services[name].URL
				}
			}
			inLambda(t, variables)
			config, err := awsconfig.FromEnvironment()
			require.NoError(t, err)
			_, err = dynamodb.NewFromConfig(config).GetItem(t.Context(), getItem)
			require.NoError(t, err)
			_, err = secretsmanager.NewFromConfig(config).
				GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("s")})
			require.NoError(t, err)
			want := map[string]int64{}
			for _, name := range test.want {
				want[name]++
			}
			for name, s := range services {
				assert.Equal(t, want[name], s.asked.Load(), name)
				if want[name] > 0 {
					assert.Contains(t, s.signed.Load(), "AKIDEXAMPLE/")
					assert.Contains(t, s.signed.Load(), "/eu-west-1/")
					assert.Contains(t, s.signed.Load(), "x-amz-security-token")
				}
			}
		})
	}
}

var getItem = &dynamodb.GetItemInput{
	TableName: aws.String("t"),
	Key:       map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: "x"}},
}

func throttle(w http.ResponseWriter) {
	w.WriteHeader(http.StatusBadRequest)
	_, _ = io.WriteString(
		w,
		`{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}`,
	)
}

func newClient(t *testing.T, s *service) *dynamodb.Client {
	t.Helper()
	inLambda(t, map[string]string{"AWS_ENDPOINT_URL": s.URL})
	config, err := awsconfig.FromEnvironment()
	require.NoError(t, err)
	return dynamodb.NewFromConfig(config)
}

func TestCountCallsCountsRetries(t *testing.T) {
	s := newService(t, func(n int64, w http.ResponseWriter) {
		if n < 3 {
			throttle(w)
			return
		}
		empty(n, w)
	})
	client := newClient(t, s)
	ctx, calls := awsconfig.CountCalls(t.Context())
	_, err := client.GetItem(ctx, getItem)
	require.NoError(t, err)
	assert.EqualValues(t, 3, calls.Load())
	other, otherCalls := awsconfig.CountCalls(ctx)
	_, err = client.GetItem(other, getItem)
	require.NoError(t, err)
	assert.EqualValues(t, 1, otherCalls.Load())
	assert.EqualValues(t, 3, calls.Load(), "each request has its own count")
	_, err = client.GetItem(t.Context(), getItem)
	require.NoError(t, err, "nobody has to count")
}

// Retrying ends with the request's own time, and the error still says that AWS was unavailable.
func TestThrottlingIsRetriedWithinTheRequestsTime(t *testing.T) {
	s := newService(t, func(_ int64, w http.ResponseWriter) { throttle(w) })
	client := newClient(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := client.GetItem(ctx, getItem)
	require.Error(t, err)
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestServiceThatIsNotThere(t *testing.T) {
	s := newService(t, empty)
	client := newClient(t, s)
	s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.GetItem(ctx, getItem)
	require.Error(t, err)
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
}

func TestMaxAttempts(t *testing.T) {
	s := newService(t, func(_ int64, w http.ResponseWriter) { throttle(w) })
	inLambda(t, map[string]string{"AWS_ENDPOINT_URL": s.URL, "AWS_MAX_ATTEMPTS": "2"})
	config, err := awsconfig.FromEnvironment()
	require.NoError(t, err)
	_, err = dynamodb.NewFromConfig(config).GetItem(t.Context(), getItem)
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
	assert.EqualValues(t, 2, s.asked.Load())
	for _, bad := range []string{"0", "-1", "many"} {
		t.Setenv("AWS_MAX_ATTEMPTS", bad)
		_, err := awsconfig.FromEnvironment()
		assert.EqualError(t, err, "awsconfig: AWS_MAX_ATTEMPTS is not a positive integer", bad)
	}
}

func TestRefusalIsNotRetried(t *testing.T) {
	s := newService(t, func(_ int64, w http.ResponseWriter) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(
			w,
			`{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not authorized"}`,
		)
	})
	_, err := newClient(t, s).GetItem(t.Context(), getItem)
	require.Error(t, err)
	assert.False(t, fault.Is(err, fault.Unavailable), "%v", err)
	assert.EqualValues(t, 1, s.asked.Load())
}

// failWith makes every call end as if the SDK's retries had ended so.
func failWith(err error) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc(
			"FailWith",
			func(context.Context, middleware.FinalizeInput, middleware.FinalizeHandler) (
				middleware.FinalizeOutput, middleware.Metadata, error,
			) {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, err
			},
		), middleware.Before)
	}
}

func TestWhatIsUnavailable(t *testing.T) {
	api := func(code string) error { return &smithy.GenericAPIError{Code: code, Message: "x"} }
	status := func(code int) error {
		return &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}},
			Err:      errors.New("x"),
		}
	}
	tests := map[string]struct {
		err  error
		want bool
	}{
		"throttled, DynamoDB":        {&types.ProvisionedThroughputExceededException{}, true},
		"throttled, on demand":       {&types.RequestLimitExceeded{}, true},
		"throttled":                  {api("ThrottlingException"), true},
		"throttled, Secrets Manager": {api("Throttling"), true},
		"too many requests":          {api("TooManyRequestsException"), true},
		"500":                        {status(500), true},
		"502":                        {status(502), true},
		"503":                        {status(503), true},
		"504":                        {status(504), true},
		"request timed out":          {api("RequestTimeout"), true},
		"deadline":                   {context.DeadlineExceeded, true},
		"deadline within an operation": {
			&smithy.OperationError{
				ServiceID:     "DynamoDB",
				OperationName: "PutItem",
				Err:           &aws.RequestCanceledError{Err: context.DeadlineExceeded},
			},
			true,
		},
		"after the last attempt": {&retry.MaxAttemptsError{Attempt: 8, Err: api("ThrottlingException")}, true},
		"retry quota used up": {
			errors.Join(api("ThrottlingException"), errors.New("retry quota exceeded")),
			true,
		},
		"connection refused": {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, true},
		"connection broken": {
			fmt.Errorf("read: %w", &smithyhttp.RequestSendError{Err: io.ErrUnexpectedEOF}),
			true,
		},
		"access denied":    {api("AccessDeniedException"), false},
		"no such table":    {&types.ResourceNotFoundException{}, false},
		"condition failed": {&types.ConditionalCheckFailedException{}, false},
		"validation":       {api("ValidationException"), false},
		"400":              {status(400), false},
		"canceled":         {context.Canceled, false},
		"any other":        {errors.New(strings.Repeat("x", 10)), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inLambda(t, nil)
			config, err := awsconfig.FromEnvironment()
			require.NoError(t, err)
			client := dynamodb.NewFromConfig(config, func(o *dynamodb.Options) {
				o.APIOptions = append(o.APIOptions, failWith(test.err))
			})
			_, err = client.GetItem(t.Context(), getItem)
			require.ErrorIs(t, err, test.err, "the cause is there for the log and for who looks for its type")
			assert.Equal(t, test.want, fault.Is(err, fault.Unavailable))
		})
	}
}
