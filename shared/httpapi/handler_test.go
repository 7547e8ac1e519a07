package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
)

const lambdaID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

// encodeError answers each code with a status of its own, and writes down what it was given.
func encodeError(given *[]*fault.Error) httpapi.ErrorEncoder {
	return func(_ *httpapi.Request, err *fault.Error) *httpapi.Response {
		*given = append(*given, err)
		status := map[fault.Code]int{
			fault.Unauthenticated: http.StatusUnauthorized, fault.TooManyRequests: http.StatusTooManyRequests,
			fault.Unavailable: http.StatusServiceUnavailable, fault.Internal: http.StatusInternalServerError,
			fault.GatewayTimeout: http.StatusGatewayTimeout, fault.Malformed: http.StatusInternalServerError,
		}[err.Code]
		return httpapi.JSON(status, map[string]string{"message": err.Message})
	}
}

// outcome is what became of one request.
type outcome struct {
	answer events.APIGatewayV2HTTPResponse
	faults []*fault.Error // what EncodeError was given
	lines  []map[string]any
	log    string
}

func serve(ctx context.Context, t *testing.T, handler httpapi.Handler) outcome {
	t.Helper()
	var o outcome
	var log bytes.Buffer
	adapted := httpapi.Adapt(httpapi.Endpoint{Handler: handler, EncodeError: encodeError(&o.faults)},
		slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{ReplaceAttr: lambdacontext.ReplaceAttr})))
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: lambdaID})
	var err error
	o.answer, err = adapted(ctx, events.APIGatewayV2HTTPRequest{RouteKey: "POST /v2/token"})
	require.NoError(t, err, "Lambda would answer an error in a body of its own")
	o.log = log.String()
	for line := range strings.Lines(o.log) {
		var members map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &members))
		o.lines = append(o.lines, members)
	}
	assert.Equal(t, lambdaID, o.answer.Headers["x-request-id"], "every answer carries a request id")
	require.Len(t, o.lines, 1, "one line for each request")
	return o
}

func TestAdaptAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := serve(t.Context(), t, func(_ context.Context, r *httpapi.Request) (*httpapi.Response, error) {
			r.Client = "client-1"
			<-time.After(1500 * time.Microsecond)
			return httpapi.JSON(http.StatusOK, map[string]string{"a": "<b>"}).With("cache-control", "no-store"), nil
		})
		assert.Equal(t, http.StatusOK, o.answer.StatusCode)
		assert.Equal(t, `{"a":"<b>"}`, o.answer.Body)
		assert.False(t, o.answer.IsBase64Encoded)
		assert.Equal(
			t,
			map[string]string{
				"content-type":  "application/json",
				"cache-control": "no-store",
				"x-request-id":  lambdaID,
			},
			o.answer.Headers,
		)
		assert.Empty(t, o.faults)

		line := o.lines[0]
		assert.Equal(t, "POST /v2/token", line["route"])
		assert.InEpsilon(t, 200, line["status"], 0)
		assert.Equal(t, "client-1", line["client"])
		assert.InEpsilon(t, 1.5, line["durationMs"], 0)
		assert.Zero(t, line["awsCalls"])
		assert.Zero(t, line["serverErrors"])
		assert.Equal(t, "INFO", line["level"])
		assert.NotContains(t, line, "error")
		assertEmbeddedMetrics(t, line)
	})
}

// assertEmbeddedMetrics holds a line to CloudWatch's embedded metric format: the directive names the line's own
// members.
func assertEmbeddedMetrics(t *testing.T, line map[string]any) {
	t.Helper()
	raw, err := json.Marshal(line["_aws"])
	require.NoError(t, err)
	var directive struct {
		Timestamp         int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&directive))
	assert.Equal(t, time.Now().UnixMilli(), directive.Timestamp)
	require.Len(t, directive.CloudWatchMetrics, 1)
	metrics := directive.CloudWatchMetrics[0]
	assert.Equal(t, "Carillon", metrics.Namespace)
	assert.Equal(t, [][]string{{"route"}}, metrics.Dimensions)
	require.NotEmpty(t, metrics.Metrics)
	for _, metric := range metrics.Metrics {
		assert.Contains(t, []string{"Milliseconds", "Count"}, metric.Unit)
		assert.IsType(t, 0.0, line[metric.Name], "metric %s is a number at the top of the line", metric.Name)
	}
	assert.NotEmpty(t, line["route"], "a dimension must have a value")
}

func TestAdaptAnError(t *testing.T) {
	// As the clients of package awsconfig return it.
	throttled := &smithy.OperationError{
		ServiceID:     "DynamoDB",
		OperationName: "PutItem",
		Err: fault.Wrap(fault.Unavailable,
			&smithy.GenericAPIError{Code: "ProvisionedThroughputExceededException", Message: "hunter2"}),
	}
	tests := map[string]struct {
		handler      httpapi.Handler
		status       int
		code         fault.Code
		serverErrors float64
		level, log   string
	}{
		"a fault": {
			returns(fault.New(fault.Unauthenticated, "")),
			401,
			fault.Unauthenticated,
			0,
			"INFO",
			"unauthenticated",
		},
		"a fault within an error": {
			returns(fmt.Errorf("hunter2: %w", errors.Join(errors.New("other"), fault.New(fault.Unauthenticated, "")))),
			401, fault.Unauthenticated, 0, "INFO", "unauthenticated"},
		"a fault with a cause": {
			returns(fault.Wrap(fault.GatewayTimeout, errors.New("hunter2"))),
			504,
			fault.GatewayTimeout,
			1,
			"ERROR",
			"hunter2",
		},
		"a caller's fault that is a 500": {
			returns(fault.New(fault.Malformed, "")),
			500,
			fault.Malformed,
			0,
			"INFO",
			"malformed",
		},
		"any other error": {
			returns(errors.New("hunter2")),
			500,
			fault.Internal,
			1,
			"ERROR",
			"hunter2",
		},
		"a throttled AWS call": {
			returns(throttled),
			503,
			fault.Unavailable,
			1,
			"ERROR",
			"ProvisionedThroughputExceeded",
		},
		"a deadline that ended": {
			returns(fmt.Errorf("put: %w", context.DeadlineExceeded)),
			503,
			fault.Unavailable,
			1,
			"ERROR",
			"deadline",
		},
		"AWS refusing on our own account": {
			returns(&smithy.GenericAPIError{Code: "AccessDeniedException", Message: "hunter2"}),
			500,
			fault.Internal,
			1,
			"ERROR",
			"AccessDenied",
		},
		"a panic": {panics("hunter2"), 500, fault.Internal, 1, "ERROR", "panic: hunter2"},
		"a panic with an error": {
			panics(errors.New("hunter2")),
			500,
			fault.Internal,
			1,
			"ERROR",
			"panic: hunter2",
		},
		"a runtime error":                {panics(nil), 500, fault.Internal, 1, "ERROR", "panic"},
		"neither an answer nor an error": {returns(nil), 500, fault.Internal, 1, "ERROR", "neither"},
		"a panic with a fault": {
			panics(fault.New(fault.Unauthenticated, "hunter2")),
			500,
			fault.Internal,
			1,
			"ERROR",
			"panic",
		},
		"a canceled call":                  {returns(context.Canceled), 500, fault.Internal, 1, "ERROR", "canceled"},
		"an answer together with an error": {both, 500, fault.Internal, 1, "ERROR", "hunter2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := serve(t.Context(), t, test.handler)
			assert.Equal(t, test.status, o.answer.StatusCode)
			assert.NotContains(t, o.answer.Body, "hunter2", "a caller sees nothing internal")
			require.Len(t, o.faults, 1, "EncodeError is asked once")
			assert.Equal(t, test.code, o.faults[0].Code)
			assert.NotContains(t, o.answer.Headers, "retry-after")
			line := o.lines[0]
			assert.EqualValues(t, test.status, line["status"])
			assert.EqualValues(t, test.serverErrors, line["serverErrors"])
			assert.Equal(t, test.level, line["level"])
			assert.Contains(t, line["error"], test.log)
		})
	}
}

func returns(err error) httpapi.Handler {
	return func(context.Context, *httpapi.Request) (*httpapi.Response, error) { return nil, err }
}

func both(context.Context, *httpapi.Request) (*httpapi.Response, error) {
	return httpapi.JSON(http.StatusOK, "hunter2"), errors.New("hunter2")
}

func panics(value any) httpapi.Handler {
	return func(_ context.Context, r *httpapi.Request) (*httpapi.Response, error) {
		if value == nil {
			return nil, []error{}[len(r.ID)]
		}
		panic(value)
	}
}

func TestAdaptRetryAfter(t *testing.T) {
	for after, want := range map[time.Duration]string{
		0: "", -time.Second: "", 1: "1", time.Millisecond: "1", time.Second: "1", time.Second + 1: "2", 90 * time.Second: "90", time.Hour + time.Millisecond: "3601",
	} {
		o := serve(t.Context(), t, returns(&fault.Error{Code: fault.TooManyRequests, RetryAfter: after}))
		assert.Equal(t, want, o.answer.Headers["retry-after"], "%v", after)
	}
}

// A handler's calls are given up half a second before Lambda would give up the function.
func TestAdaptLeavesTimeToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		o := serve(ctx, t, func(ctx context.Context, _ *httpapi.Request) (*httpapi.Response, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		assert.Equal(t, 9500*time.Millisecond, time.Since(start))
		assert.NoError(t, ctx.Err())
		assert.Equal(t, http.StatusServiceUnavailable, o.answer.StatusCode)
		assert.InEpsilon(t, 9500, o.lines[0]["durationMs"], 0)
	})
}

func TestAdaptWithoutADeadline(t *testing.T) {
	serve(t.Context(), t, func(ctx context.Context, _ *httpapi.Request) (*httpapi.Response, error) {
		_, bounded := ctx.Deadline()
		assert.False(t, bounded)
		return httpapi.Empty(http.StatusNoContent), nil
	})
}

func TestAdaptAnAnswerWithoutHeaders(t *testing.T) {
	o := serve(t.Context(), t, func(context.Context, *httpapi.Request) (*httpapi.Response, error) {
		return &httpapi.Response{Status: http.StatusCreated}, nil
	})
	assert.Equal(t, http.StatusCreated, o.answer.StatusCode)
	assert.Empty(t, o.answer.Body)
}

func TestAdaptAnEncoderThatFails(t *testing.T) {
	encoders := map[string]httpapi.ErrorEncoder{
		"by a panic":       func(*httpapi.Request, *fault.Error) *httpapi.Response { panic("hunter2") },
		"to make anything": func(*httpapi.Request, *fault.Error) *httpapi.Response { return nil },
	}
	for name, encoder := range encoders {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			adapted := httpapi.Adapt(
				httpapi.Endpoint{Handler: returns(errors.New("x")), EncodeError: encoder},
				slog.New(slog.NewJSONHandler(&log, nil)),
			)
			answer, err := adapted(t.Context(), events.APIGatewayV2HTTPRequest{})
			require.NoError(t, err)
			assert.Equal(t, http.StatusInternalServerError, answer.StatusCode)
			assert.Empty(t, answer.Body)
			assert.NotEmpty(t, answer.Headers["x-request-id"])
			assert.Contains(t, log.String(), `"level":"ERROR"`)
			assert.Contains(t, log.String(), "panic")
		})
	}
}

func TestJSONOfWhatCannotBeMarshalled(t *testing.T) {
	assert.Panics(t, func() { httpapi.JSON(http.StatusOK, make(chan int)) })
}

const reexecuted = "CARILLON_TEST_FAILING_SETUP"

// A function that cannot be set up says why and ends with status 1: Lambda calls it a failed init.
func TestMainWithoutWhatItNeeds(t *testing.T) {
	if os.Getenv(reexecuted) != "" {
		httpapi.Main(func(s lambdafunction.Setup) httpapi.Endpoint {
			s.Env.String("CARILLON_TEST_ABSENT")
			s.Env.Reject("CARILLON_TEST_URL", errors.New("is not an https URL"))
			return httpapi.Endpoint{}
		})
	}
	program, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), program, "-test.run=^TestMainWithoutWhatItNeeds$")
	command.Env = []string{reexecuted + "=1", "AWS_LAMBDA_LOG_FORMAT=JSON"}
	output, err := command.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Contains(t, string(output), `"level":"ERROR"`)
	for _, missing := range []string{
		"AWS_REGION is not set", "CARILLON_TEST_ABSENT is not set", "CARILLON_TEST_URL: is not an https URL",
	} {
		assert.Contains(t, string(output), missing)
	}
}
