// Command product-create is the function behind POST /dxp-ux/v1/{businessId}/product.
package main

import (
	"carillon/shared/clientauth"
	"carillon/shared/clock"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/lambdafunction"
	"carillon/shared/product/api"
	"carillon/shared/product/mailqueue"
	"carillon/shared/product/provider"
	"carillon/shared/product/store"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.CreateHandler{
		Clients:    clientauth.Open(s.Env, s.Config),
		Catalog:    store.OpenCatalog(s.Env, s.Config),
		Operations: idempotencystore.Open(s.Env, s.Config),
		Provider:   provider.Open(s.Env, s.Config),
		Products:   store.OpenProducts(s.Env, s.Config), Mails: store.OpenMails(s.Env, s.Config),
		Queue:  mailqueue.OpenQueue(s.Env, s.Config),
		Limits: api.LimitsFrom(s.Env),
		Clock:  clock.System{}, Log: s.Log,
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
