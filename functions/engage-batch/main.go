// Command engage-batch is the function behind POST /federated/outbound/v2/batch.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/clock"
	"carillon/shared/contenttable"
	"carillon/shared/engage"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/lambdafunction"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	env, config := s.Env, s.Config
	signingKey := env.String("SIGNING_KEY_SECRET")
	contentTable := env.String("CONTENT_TABLE")
	pushesTable := env.String("PUSHES_TABLE")
	idempotencyTable := env.String("IDEMPOTENCY_TABLE")
	queueURL := env.String("DELIVERY_QUEUE_URL")
	keys := secret.NewCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	tables := dynamodb.NewFromConfig(config)
	handler := &engage.BatchHandler{
		Tokens:      engage.NewAuthority(keys, signingKey),
		Content:     engage.NewContentStore(contenttable.New(tables, contentTable)),
		Pushes:      engage.NewPushStore(tables, pushesTable),
		Idempotency: idempotencystore.New(tables, idempotencyTable, clock.System{}),
		Queue:       engage.NewDeliveryQueue(sqs.NewFromConfig(config), queueURL),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: engage.EncodeError}
}
