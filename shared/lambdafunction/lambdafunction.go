// Package lambdafunction is a Lambda function's main.
package lambdafunction

import (
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"

	"carillon/shared/awsconfig"
	"carillon/shared/environment"
)

// Setup is what a function is set up with.
type Setup struct {
	Env    *environment.Variables
	Config aws.Config
	Log    *slog.Logger
}

// boundMemory lets the garbage of a large request be collected before it takes more memory than a request may: half of
// the function's (docs/contract.md, common). Go would let it grow to twice what is in use, however much that is.
func boundMemory() {
	if megabytes, err := strconv.ParseInt(os.Getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), 10, 32); err == nil {
		debug.SetMemoryLimit((megabytes << 20) * 2 / 5)
	}
}

// Main sets a handler up (any function that package lambda takes) and serves it until Lambda ends the process. If a
// setting is missing or wrong, Main logs all that is and exits with status 1, which Lambda reports as a failed init. So
// setUp need not look at Setup's values, and must do nothing but build.
func Main(setUp func(Setup) any) {
	boundMemory()
	log := lambdacontext.NewLogger()
	config, err := awsconfig.FromEnvironment()
	env := new(environment.Variables)
	handler := setUp(Setup{Env: env, Config: config, Log: log})
	if err := errors.Join(env.Err(), err); err != nil {
		log.Error("the function cannot start", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler)
}
