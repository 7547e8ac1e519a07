// Command engage-deliver is the function that works through the delivery queue.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/lambdafunction"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	env, config := s.Env, s.Config
	pushesTable := env.String("PUSHES_TABLE")
	queueURL := env.String("DELIVERY_QUEUE_URL")
	gatewayURL := env.String("GATEWAY_URL")
	gatewaySecret := env.String("GATEWAY_SECRET")
	secrets := secret.NewCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	secrets.Warm(secret.Current, gatewaySecret)
	gateway, err := engage.NewGateway(gatewayURL, secrets, gatewaySecret)
	env.Reject("GATEWAY_URL", err)
	deliverer := engage.NewDeliverer(
		engage.NewPushStore(dynamodb.NewFromConfig(config), pushesTable),
		engage.NewDeliveryQueue(sqs.NewFromConfig(config), queueURL),
		gateway,
		clock.System{},
	)
	return deliverer.Handle
}
