// Command engage-token is the function behind POST /federated/content/v2/token.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/apiclient"
	"carillon/shared/awsconfig"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
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
	handler := &engage.TokenHandler{
		Clients: &apiclient.Authenticator{Secrets: secret.NewCache(store), Prefix: clientPrefix, RotationWindow: rotationWindow},
		Tokens:  engage.NewAuthority(keys, signingKey),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: engage.EncodeTokenError}, nil
}
