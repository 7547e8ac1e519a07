// Command product-list is the function behind GET /dxp-ux/v1/{businessId}/product.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/clientauth"
	"carillon/shared/contenttable"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/product"
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
	items := dynamodb.NewFromConfig(config)
	clients := secret.NewCache(secretstore.New(secretsmanager.NewFromConfig(config)))
	handler := &product.ListHandler{
		Clients:  &clientauth.Authenticator{Secrets: clients, Prefix: clientPrefix, RotationWindow: rotationWindow},
		Content:  product.NewContentStore(contenttable.New(items, contentTable)),
		Products: product.NewStore(items, productsTable),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: product.EncodeError}
}
