// Command engage-batch is the function behind POST /federated/outbound/v2/batch.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/awsconfig"
	"carillon/shared/contenttable"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
	"carillon/shared/secret"
)

func main() { httpapi.Main(setUp) }

func setUp() (httpapi.Endpoint, error) {
	var env environment.Variables
	signingKey := env.String("SIGNING_KEY_SECRET")
	contentTable := env.String("CONTENT_TABLE")
	pushesTable := env.String("PUSHES_TABLE")
	idempotencyTable := env.String("IDEMPOTENCY_TABLE")
	queueURL := env.String("DELIVERY_QUEUE_URL")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	keys := secret.NewCache(secret.NewStore(secretsmanager.NewFromConfig(config)))
	keys.Warm(secret.Current, signingKey)
	tables := dynamodb.NewFromConfig(config)
	handler := &engage.BatchHandler{
		Tokens:      engage.NewAuthority(keys, signingKey),
		Content:     engage.NewContentStore(contenttable.New(tables, contentTable)),
		Pushes:      engage.NewPushStore(tables, pushesTable),
		Idempotency: idempotency.NewStore(tables, idempotencyTable),
		Queue:       engage.NewDeliveryQueue(sqs.NewFromConfig(config), queueURL),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: engage.EncodeError}, nil
}
