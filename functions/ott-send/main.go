// Command ott-send is the function behind POST /ott/v1/send.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott"
	"carillon/shared/ott/outbound"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	env, config := s.Env, s.Config
	signingKey := env.String("SIGNING_KEY_SECRET")
	registrationsTable := env.String("REGISTRATIONS_TABLE")
	messagesTable := env.String("MESSAGES_TABLE")
	queueURL := env.String("OUTBOUND_QUEUE_URL")
	keys := secret.NewCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	items := dynamodb.NewFromConfig(config)
	handler := &ott.SendHandler{
		Tokens:        ott.NewAuthority(keys, signingKey),
		Registrations: ott.NewRegistrationReader(items, registrationsTable),
		Messages:      ott.NewMessageStore(items, messagesTable),
		Outbox:        outbound.NewQueue(sqs.NewFromConfig(config), queueURL),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeError}
}
