// Command engage-token-health is the function behind GET /federated/content/v2/token/health.
package main

import (
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
	keys := secret.NewCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	handler := &engage.TokenHealthHandler{Tokens: engage.NewAuthority(keys, signingKey)}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: engage.EncodeTokenHealthError}
}
