// Command product-get is the function behind GET /dxp-ux/v1/{businessId}/product/{id}.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/shared/apiclient"
	"carillon/shared/awsconfig"
	"carillon/shared/contenttable"
	"carillon/shared/environment"
	"carillon/shared/httpapi"
	"carillon/shared/product"
	"carillon/shared/secret"
)

func main() { httpapi.Main(setUp) }

func setUp() (httpapi.Endpoint, error) {
	var env environment.Variables
	clientPrefix := env.String("CLIENT_SECRET_PREFIX")
	rotationWindow := env.Duration("CLIENT_ROTATION_WINDOW")
	contentTable := env.String("CONTENT_TABLE")
	productsTable := env.String("PRODUCTS_TABLE")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return httpapi.Endpoint{}, err
	}
	items := dynamodb.NewFromConfig(config)
	clients := secret.NewCache(secret.NewStore(secretsmanager.NewFromConfig(config)))
	handler := &product.GetHandler{
		Clients:  &apiclient.Authenticator{Secrets: clients, Prefix: clientPrefix, RotationWindow: rotationWindow},
		Content:  product.NewContentStore(contenttable.New(items, contentTable)),
		Products: product.NewStore(items, productsTable),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: product.EncodeError}, nil
}
