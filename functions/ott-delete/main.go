// Command ott-delete is the function behind DELETE /ott/v1/registration/{platform}/{ottPropertyId}.
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
	table := env.String("REGISTRATIONS_TABLE")
	secretPrefix := env.String("OTT_SECRET_PREFIX")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	secrets := secretsmanager.NewFromConfig(config)
	keys := secret.NewCache(secret.NewStore(secrets))
	keys.Warm(secret.Current, signingKey)
	handler := &ott.DeleteHandler{
		Tokens:        ott.NewAuthority(keys, signingKey),
		Registrations: ott.NewRegistrationStore(dynamodb.NewFromConfig(config), table, secrets, secretPrefix),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeError}, nil
}
