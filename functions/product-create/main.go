// Command product-create is the function behind POST /dxp-ux/v1/{businessId}/product.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/apiclient"
	"carillon/shared/awsconfig"
	"carillon/shared/contenttable"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
	"carillon/shared/product"
	"carillon/shared/product/mailqueue"
	"carillon/shared/secret"
)

func main() { httpapi.Main(setUp) }

func setUp() (httpapi.Endpoint, error) {
	var env environment.Variables
	clientPrefix := env.String("CLIENT_SECRET_PREFIX")
	rotationWindow := env.Duration("CLIENT_ROTATION_WINDOW")
	contentTable := env.String("CONTENT_TABLE")
	productsTable := env.String("PRODUCTS_TABLE")
	idempotencyTable := env.String("IDEMPOTENCY_TABLE")
	providerURL := env.String("PROVIDER_URL")
	providerSecret := env.String("PROVIDER_SECRET")
	mailsTable := env.String("MAILS_TABLE")
	mailQueueURL := env.String("MAIL_QUEUE_URL")
	hosts, hostsErr := product.ParseActivationHosts(env.List("ACTIVATION_HOSTS"))
	limits := product.Limits{
		Window:     env.Duration("RESEND_WINDOW"),
		PerAccount: env.Int("RESENDS_PER_ACCOUNT"),
		PerAddress: env.Int("RESENDS_PER_ADDRESS"),
	}
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), hostsErr, err); err != nil {
		return httpapi.Endpoint{}, err
	}
	store, items := secret.NewStore(secretsmanager.NewFromConfig(config)), dynamodb.NewFromConfig(config)
	credentials := secret.NewCache(store)
	provider, err := product.NewProviderClient(providerURL, hosts, credentials, providerSecret, product.ProviderTimeout)
	if err != nil {
		return httpapi.Endpoint{}, err
	}
	credentials.Warm(secret.Current, providerSecret)
	handler := &product.CreateHandler{
		Clients:     &apiclient.Authenticator{Secrets: secret.NewCache(store), Prefix: clientPrefix, RotationWindow: rotationWindow},
		Content:     product.NewContentStore(contenttable.New(items, contentTable)),
		Idempotency: idempotency.NewStore(items, idempotencyTable),
		Provider:    provider,
		Mails:       product.NewMailStore(items, mailsTable, productsTable),
		Queue:       mailqueue.NewQueue(sqs.NewFromConfig(config), mailQueueURL),
		Limits:      limits,
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: product.EncodeError}, nil
}
