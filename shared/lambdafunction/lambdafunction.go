// Package lambdafunction is a Lambda function's main.
package lambdafunction

import (
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Main sets a handler up (any function that package lambda takes) and serves it until Lambda ends the process. If it
// cannot be set up, Main logs why and exits with status 1, which Lambda reports as a failed init.
func Main(setUp func() (handler any, err error)) {
	slog.SetDefault(lambdacontext.NewLogger())
	handler, err := setUp()
	if err != nil {
		slog.Error("the function cannot start", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler)
}
