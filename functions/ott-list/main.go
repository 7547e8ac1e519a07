// Command ott-list is the function behind GET /ott/v1/registration/{platform}.
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
	keys := secret.NewCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	handler := &ott.ListHandler{
		Tokens:        ott.NewAuthority(keys, signingKey),
		Registrations: ott.NewRegistrationReader(dynamodb.NewFromConfig(config), table),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeError}
}
