// Command ott-send is the function behind POST /ott/v1/send.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/awsconfig"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/ott/outbound"
	"carillon/shared/secret"
)

func main() { httpapi.Main(setUp) }

func setUp() (httpapi.Endpoint, error) {
	var env environment.Variables
	signingKey := env.String("SIGNING_KEY_SECRET")
	registrationsTable := env.String("REGISTRATIONS_TABLE")
	messagesTable := env.String("MESSAGES_TABLE")
	queueURL := env.String("OUTBOUND_QUEUE_URL")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	keys := secret.NewCache(secret.NewStore(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	items := dynamodb.NewFromConfig(config)
	handler := &ott.SendHandler{
		Tokens:        ott.NewAuthority(keys, signingKey),
		Registrations: ott.NewRegistrationReader(items, registrationsTable),
		Messages:      ott.NewMessageStore(items, messagesTable),
		Outbox:        outbound.NewQueue(sqs.NewFromConfig(config), queueURL),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeError}, nil
}
