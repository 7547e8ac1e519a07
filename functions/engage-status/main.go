// Command engage-status is the function behind GET /federated/outbound/v2/batch/{requestId}.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/awsconfig"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
	"carillon/shared/secret"
)

func main() { httpapi.Main(setUp) }

func setUp() (httpapi.Endpoint, error) {
	var env environment.Variables
	signingKey := env.String("SIGNING_KEY_SECRET")
	pushesTable := env.String("PUSHES_TABLE")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	keys := secret.NewCache(secret.NewStore(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	handler := &engage.StatusHandler{
		Tokens: engage.NewAuthority(keys, signingKey),
		Pushes: engage.NewPushStore(dynamodb.NewFromConfig(config), pushesTable),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: engage.EncodeError}, nil
}
