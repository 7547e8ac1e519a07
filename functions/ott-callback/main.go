// Command ott-callback is the function behind GET and POST /ott/v1/callback/{platform}/{ottPropertyId}.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/awsconfig"
	"carillon/shared/clock"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/secret"
)

func main() { httpapi.Main(setUp) }

func setUp() (httpapi.Endpoint, error) {
	var env environment.Variables
	table := env.String("REGISTRATIONS_TABLE")
	bus := env.String("EVENT_BUS")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	secrets := secret.NewUnthrottledCache(secret.NewStore(secretsmanager.NewFromConfig(config)))
	handler := &callback.Handler{
		Registrations: ott.NewRegistrationReader(dynamodb.NewFromConfig(config), table),
		Credentials:   ott.NewCredentialsReader(secrets),
		Events:        callback.NewPublisher(eventbridge.NewFromConfig(config), bus, clock.System{}),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeError}, nil
}
