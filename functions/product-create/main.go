// Command product-create is the function behind POST /dxp-ux/v1/{businessId}/product.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/clientauth"
	"carillon/shared/clock"
	"carillon/shared/contenttable"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/lambdafunction"
	"carillon/shared/product"
	"carillon/shared/product/mailqueue"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	env, config := s.Env, s.Config
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
	env.Reject("ACTIVATION_HOSTS", hostsErr)
	store, items := secretstore.New(secretsmanager.NewFromConfig(config)), dynamodb.NewFromConfig(config)
	credentials := secret.NewCache(store)
	provider, err := product.NewProviderClient(providerURL, hosts, credentials, providerSecret, product.ProviderTimeout)
	env.Reject("PROVIDER_URL", err)
	credentials.Warm(secret.Current, providerSecret)
	handler := &product.CreateHandler{
		Clients:     &clientauth.Authenticator{Secrets: secret.NewCache(store), Prefix: clientPrefix, RotationWindow: rotationWindow},
		Content:     product.NewContentStore(contenttable.New(items, contentTable)),
		Idempotency: idempotencystore.New(items, idempotencyTable, clock.System{}),
		Provider:    provider,
		Mails:       product.NewMailStore(items, mailsTable, productsTable),
		Queue:       mailqueue.NewQueue(sqs.NewFromConfig(config), mailQueueURL),
		Limits:      limits,
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: product.EncodeError}
}
