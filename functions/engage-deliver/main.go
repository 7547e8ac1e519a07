// Command engage-deliver is the function that works through the delivery queue.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/awsconfig"
	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/lambdafunction"
	"carillon/shared/secret"
)

func main() { lambdafunction.Main(setUp) }

func setUp() (any, error) {
	var env environment.Variables
	pushesTable := env.String("PUSHES_TABLE")
	queueURL := env.String("DELIVERY_QUEUE_URL")
	gatewayURL := env.String("GATEWAY_URL")
	gatewaySecret := env.String("GATEWAY_SECRET")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return nil, err
	}
	secrets := secret.NewCache(secret.NewStore(secretsmanager.NewFromConfig(config)))
	secrets.Warm(secret.Current, gatewaySecret)
	gateway, err := engage.NewGateway(gatewayURL, secrets, gatewaySecret)
	if err != nil {
		return nil, err
	}
	deliverer := engage.NewDeliverer(
		engage.NewPushStore(dynamodb.NewFromConfig(config), pushesTable),
		engage.NewDeliveryQueue(sqs.NewFromConfig(config), queueURL),
		gateway,
		clock.System{},
	)
	return deliverer.Handle, nil
}
