// Command ott-callback is the function behind GET and POST /ott/v1/callback/{platform}/{ottPropertyId}.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/clock"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	env, config := s.Env, s.Config
	table := env.String("REGISTRATIONS_TABLE")
	bus := env.String("EVENT_BUS")
	secrets := secret.NewUnthrottledCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	handler := &callback.Handler{
		Registrations: ott.NewRegistrationReader(dynamodb.NewFromConfig(config), table),
		Credentials:   ott.NewCredentialsReader(secrets),
		Events:        callback.NewPublisher(eventbridge.NewFromConfig(config), bus, clock.System{}),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: ott.EncodeError}
}
