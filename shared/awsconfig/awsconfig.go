// Package awsconfig builds the AWS SDK's configuration from the Lambda environment by hand. The SDK's own config module
// looks in files, profiles and metadata services that a function does not have, and more than doubles its start.
package awsconfig

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go/middleware"

	"carillon/shared/fault"
)

// Limits of one AWS call. The request's own deadline bounds them all.
const (
	maxAttempts     = 8
	maxBackoff      = 2 * time.Second
	dialTimeout     = 2 * time.Second
	responseTimeout = 5 * time.Second
)

// FromEnvironment returns the configuration of a Lambda function: AWS_REGION and the role's credentials. Endpoints are
// the SDK's own variables (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_DYNAMODB, …): a function knows nothing of emulators. So
// is AWS_MAX_ATTEMPTS, for fewer tries than New has. It returns an error if the region or the credentials are missing,
// or if AWS_MAX_ATTEMPTS is not a positive integer.
func FromEnvironment() (aws.Config, error) {
	region := os.Getenv("AWS_REGION")
	if region == "" {
		return aws.Config{}, errors.New("awsconfig: AWS_REGION is not set")
	}
	credentials := aws.Credentials{
		AccessKeyID:     os.Getenv("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken:    os.Getenv("AWS_SESSION_TOKEN"),
		Source:          "Lambda environment",
	}
	if !credentials.HasKeys() {
		return aws.Config{}, errors.New("awsconfig: AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set")
	}
	attempts := maxAttempts
	if text := os.Getenv("AWS_MAX_ATTEMPTS"); text != "" {
		var err error
		if attempts, err = strconv.Atoi(text); err != nil || attempts < 1 {
			return aws.Config{}, errors.New("awsconfig: AWS_MAX_ATTEMPTS is not a positive integer")
		}
	}
	config := newConfig(attempts, region, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return credentials, nil
	}))
	config.BaseEndpoint = baseEndpoint()
	config.ConfigSources = []any{endpointVariables{}}
	return config, nil
}

// New returns the configuration that every client of the bundle has, wherever it finds its endpoints. Each call is
// tried eight times at most, within its context's time; calls are counted (CountCalls); and what AWS does not do in
// time, for throttling, a failure of its own or the context's deadline, is a fault Unavailable.
func New(region string, credentials aws.CredentialsProvider) aws.Config {
	return newConfig(maxAttempts, region, credentials)
}

func newConfig(attempts int, region string, credentials aws.CredentialsProvider) aws.Config {
	return aws.Config{
		Region:      region,
		Credentials: credentials,
		HTTPClient: awshttp.NewBuildableClient().
			WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
			WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = responseTimeout }),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = attempts
				o.MaxBackoff = maxBackoff
			})
		},
		APIOptions: []func(*middleware.Stack) error{countAttempts, sayUnavailable},
	}
}

func baseEndpoint() *string {
	if url := os.Getenv("AWS_ENDPOINT_URL"); url != "" {
		return &url
	}
	return nil
}

// endpointVariables is what a service's client asks for AWS_ENDPOINT_URL_<SERVICE>.
type endpointVariables struct{}

// GetServiceBaseEndpoint returns the service's own endpoint variable, e.g. AWS_ENDPOINT_URL_DYNAMODB.
func (endpointVariables) GetServiceBaseEndpoint(_ context.Context, sdkID string) (string, bool, error) {
	url := os.Getenv("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(sdkID, " ", "_")))
	return url, url != "", nil
}

type callsKey struct{}

// CountCalls returns a context under which AWS requests are counted, retries too, and the count.
func CountCalls(ctx context.Context) (context.Context, *atomic.Int64) {
	var calls atomic.Int64
	return context.WithValue(ctx, callsKey{}, &calls), &calls
}

func countAttempts(stack *middleware.Stack) error {
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("CountAttempts",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
			middleware.FinalizeOutput, middleware.Metadata, error,
		) {
			if calls, ok := ctx.Value(callsKey{}).(*atomic.Int64); ok {
				calls.Add(1)
			}
			return next.HandleFinalize(ctx, in)
		}), "Retry", middleware.After)
}

// sayUnavailable is the one place where an error of AWS becomes a fault. It is around the SDK's retries, so it sees
// what they ended with.
func sayUnavailable(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("SayUnavailable",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
			middleware.InitializeOutput, middleware.Metadata, error,
		) {
			out, metadata, err := next.HandleInitialize(ctx, in)
			if err != nil && isUnavailable(err) {
				err = fault.Wrap(fault.Unavailable, err)
			}
			return out, metadata, err
		}), middleware.Before)
}

// isUnavailable reports whether AWS throttles, fails on its side or does not answer in time: asking again later may
// help.
func isUnavailable(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) ||
		retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err).Bool() ||
		retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err).Bool()
}
