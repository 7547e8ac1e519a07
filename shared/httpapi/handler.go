package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"carillon/shared/awsconfig"
	"carillon/shared/fault"
	"carillon/shared/lambdafunction"
	"carillon/shared/metrics"
)

// answerMargin is what is left of a function's time when its calls are given up, to answer and to log.
const answerMargin = 500 * time.Millisecond

// Handler serves one endpoint. Its error is a *fault.Error, or anything else, which the caller sees as an internal
// error.
type Handler func(ctx context.Context, r *Request) (*Response, error)

// ErrorEncoder maps an error to an API's own error body. It is the only place where an API does so.
type ErrorEncoder func(r *Request, err *fault.Error) *Response

// Endpoint is what a function serves.
type Endpoint struct {
	Handler     Handler
	EncodeError ErrorEncoder
}

// Main is the main of a function that serves an endpoint: lambdafunction.Main.
func Main(setUp func(lambdafunction.Setup) Endpoint) {
	lambdafunction.Main(func(s lambdafunction.Setup) any { return Adapt(setUp(s), s.Log) })
}

// Adapt makes a Lambda handler of an endpoint's: it answers each error through EncodeError, a panic as an internal
// error, gives the handler a deadline that leaves time to answer, and writes one log line per request with its metrics
// in it (CloudWatch embedded metric format). The Lambda handler never returns an error.
func Adapt(
	endpoint Endpoint,
	log *slog.Logger,
) func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	return func(ctx context.Context, event events.APIGatewayV2HTTPRequest) (
		answer events.APIGatewayV2HTTPResponse, _ error,
	) {
		start := time.Now()
		r := NewRequest(ctx, event)
		defer func() {
			if p := recover(); p != nil { // EncodeError's: a handler's own is an internal error by now
				log.ErrorContext(
					ctx,
					"no answer could be made",
					"error",
					fmt.Sprintf("panic: %v\n%s", p, debug.Stack()),
				)
				answer = Empty(http.StatusInternalServerError).With("x-request-id", r.ID).event()
			}
		}()
		bounded, calls := awsconfig.CountCalls(ctx)
		if deadline, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			bounded, cancel = context.WithDeadline(bounded, deadline.Add(-answerMargin))
			defer cancel()
		}
		response, err := recovered(bounded, endpoint.Handler, r)
		var failure *fault.Error
		if err != nil {
			failure = classify(err)
			response = endpoint.EncodeError(r, failure)
			if failure.RetryAfter > 0 {
				response.With(
					"retry-after",
					strconv.FormatInt(int64((failure.RetryAfter+time.Second-1)/time.Second), 10),
				)
			}
		}
		response.With("x-request-id", r.ID)
		logRequest(ctx, log, r, response, failure, time.Since(start), calls.Load())
		return response.event(), nil
	}
}

func recovered(ctx context.Context, handler Handler, r *Request) (response *Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Internal, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	response, err = handler(ctx, r)
	if response == nil && err == nil {
		err = errors.New("the handler returned neither an answer nor an error")
	}
	return response, err
}

func classify(err error) *fault.Error {
	failure, known := errors.AsType[*fault.Error](err)
	switch {
	case known:
		return failure
	case errors.Is(err, context.DeadlineExceeded): // of a wait of ours; a call of AWS says so itself
		return fault.Wrap(fault.Unavailable, err)
	default:
		return fault.Wrap(fault.Internal, err)
	}
}

func logRequest(
	ctx context.Context,
	log *slog.Logger,
	r *Request,
	response *Response,
	failure *fault.Error,
	took time.Duration,
	calls int64,
) {
	level, serverErrors := slog.LevelInfo, 0
	if response.Status >= 500 && (failure == nil || !failure.IsCallers()) { // ENGAGE answers 500 to wrong credentials
		level, serverErrors = slog.LevelError, 1
	}
	attrs := []slog.Attr{
		slog.String("route", r.Route()),
		slog.Int("status", response.Status),
		slog.String("client", r.Client),
		slog.Float64("durationMs", float64(took.Microseconds())/1000),
		slog.Int64("awsCalls", calls),
		slog.Int("serverErrors", serverErrors),
		metrics.Embedded("route", "durationMs", "awsCalls", "serverErrors"),
	}
	if failure != nil {
		attrs = append(attrs, slog.String("error", failure.Error()))
	}
	log.LogAttrs(ctx, level, "request", attrs...)
}
