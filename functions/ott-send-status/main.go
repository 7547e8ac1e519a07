// Command ott-send-status is the function behind GET /ott/v1/send/{messageId}.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/awsconfig"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/secret"
)

func main() { httpapi.Main(setUp) }

func setUp() (httpapi.Endpoint, error) {
	var env environment.Variables
	signingKey := env.String("SIGNING_KEY_SECRET")
	messagesTable := env.String("MESSAGES_TABLE")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	keys := secret.NewCache(secret.NewStore(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	handler := &ott.SendStatusHandler{
		Tokens:   ott.NewAuthority(keys, signingKey),
		Messages: ott.NewMessageStore(dynamodb.NewFromConfig(config), messagesTable),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeError}, nil
}
