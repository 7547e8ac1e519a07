// Command oauth-token is the function behind POST /v2/token.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/apiclient"
	"carillon/shared/awsconfig"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/secret"
)

func main() { httpapi.Main(setUp) }

func setUp() (httpapi.Endpoint, error) {
	var env environment.Variables
	clientPrefix := env.String("CLIENT_SECRET_PREFIX")
	rotationWindow := env.Duration("CLIENT_ROTATION_WINDOW")
	signingKey := env.String("SIGNING_KEY_SECRET")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	store := secret.NewStore(secretsmanager.NewFromConfig(config))
	keys := secret.NewCache(store)
	keys.Warm(secret.Current, signingKey)
	handler := &ott.TokenHandler{
		Clients: &apiclient.Authenticator{Secrets: secret.NewCache(store), Prefix: clientPrefix, RotationWindow: rotationWindow},
		Tokens:  ott.NewAuthority(keys, signingKey),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeTokenError}, nil
}
