// Command ott-deliver is the function that works through the outbound queue.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/clock"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott"
	"carillon/shared/ott/deliver"
	"carillon/shared/ott/outbound"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	env, config := s.Env, s.Config
	registrationsTable := env.String("REGISTRATIONS_TABLE")
	messagesTable := env.String("MESSAGES_TABLE")
	queueURL := env.String("OUTBOUND_QUEUE_URL")
	// The local run alone sets it.
	transport, err := deliver.Transport(env.Optional("PLATFORM_STANDIN_URL"))
	env.Reject("PLATFORM_STANDIN_URL", err)
	items := dynamodb.NewFromConfig(config)
	deliverer := deliver.New(
		ott.NewMessageStore(items, messagesTable),
		ott.NewRegistrationReader(items, registrationsTable),
		ott.NewCredentialsReader(secret.NewUnthrottledCache(secretstore.New(secretsmanager.NewFromConfig(config)))),
		outbound.NewQueue(sqs.NewFromConfig(config), queueURL),
		transport,
		clock.System{},
	)
	return deliverer.Handle
}
