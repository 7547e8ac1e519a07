// Command engage-cancel is the function behind DELETE /federated/outbound/v2/batch/{requestId}.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/engage"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	env, config := s.Env, s.Config
	signingKey := env.String("SIGNING_KEY_SECRET")
	pushesTable := env.String("PUSHES_TABLE")
	keys := secret.NewCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	handler := &engage.CancelHandler{
		Tokens: engage.NewAuthority(keys, signingKey),
		Pushes: engage.NewPushStore(dynamodb.NewFromConfig(config), pushesTable),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: engage.EncodeError}
}
