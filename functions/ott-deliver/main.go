// Command ott-deliver is the function that works through the outbound queue.
package main

import (
	"errors"
	"os"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/awsconfig"
	"carillon/shared/clock"
	"carillon/shared/environment"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott"
	"carillon/shared/ott/deliver"
	"carillon/shared/ott/outbound"
	"carillon/shared/secret"
)

func main() { lambdafunction.Main(setUp) }

func setUp() (any, error) {
	var env environment.Variables
	registrationsTable := env.String("REGISTRATIONS_TABLE")
	messagesTable := env.String("MESSAGES_TABLE")
	queueURL := env.String("OUTBOUND_QUEUE_URL")
	config, err := awsconfig.FromEnvironment()
	// The local run alone sets it.
	transport, transportErr := deliver.Transport(os.Getenv("PLATFORM_STANDIN_URL"))
	if err := errors.Join(env.Err(), err, transportErr); err != nil {
		return nil, err
	}
	items := dynamodb.NewFromConfig(config)
	deliverer := deliver.New(
		ott.NewMessageStore(items, messagesTable),
		ott.NewRegistrationReader(items, registrationsTable),
		ott.NewCredentialsReader(secret.NewUnthrottledCache(secret.NewStore(secretsmanager.NewFromConfig(config)))),
		outbound.NewQueue(sqs.NewFromConfig(config), queueURL),
		transport,
		clock.System{},
	)
	return deliverer.Handle, nil
}
