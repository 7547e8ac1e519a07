// Command engage-token-health is the function behind GET /federated/content/v2/token/health.
package main

import (
	"errors"

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
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	keys := secret.NewCache(secret.NewStore(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	handler := &engage.TokenHealthHandler{Tokens: engage.NewAuthority(keys, signingKey)}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: engage.EncodeTokenHealthError}, nil
}
