// Command ott-delete is the function behind DELETE /ott/v1/registration/{platform}/{ottPropertyId}.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	env, config := s.Env, s.Config
	signingKey := env.String("SIGNING_KEY_SECRET")
	table := env.String("REGISTRATIONS_TABLE")
	secretPrefix := env.String("OTT_SECRET_PREFIX")
	secrets := secretsmanager.NewFromConfig(config)
	keys := secret.NewCache(secretstore.New(secrets))
	keys.Warm(secret.Current, signingKey)
	handler := &ott.DeleteHandler{
		Tokens:        ott.NewAuthority(keys, signingKey),
		Registrations: ott.NewRegistrationStore(dynamodb.NewFromConfig(config), table, secrets, secretPrefix),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeError}
}
