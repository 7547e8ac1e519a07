// Command engage-token is the function behind POST /federated/content/v2/token.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/clientauth"
	"carillon/shared/engage"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	env, config := s.Env, s.Config
	clientPrefix := env.String("CLIENT_SECRET_PREFIX")
	rotationWindow := env.Duration("CLIENT_ROTATION_WINDOW")
	signingKey := env.String("SIGNING_KEY_SECRET")
	store := secretstore.New(secretsmanager.NewFromConfig(config))
	keys := secret.NewCache(store)
	keys.Warm(secret.Current, signingKey)
	handler := &engage.TokenHandler{
		Clients: &clientauth.Authenticator{Secrets: secret.NewCache(store), Prefix: clientPrefix, RotationWindow: rotationWindow},
		Tokens:  engage.NewAuthority(keys, signingKey),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: engage.EncodeTokenError}
}
