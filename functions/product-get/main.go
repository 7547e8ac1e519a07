// Command product-get is the function behind GET /dxp-ux/v1/{businessId}/product/{id}.
package main

import (
	"carillon/shared/clientauth"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/product/api"
	"carillon/shared/product/store"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.GetHandler{
		Clients:  clientauth.Open(s.Env, s.Config),
		Catalog:  store.OpenCatalog(s.Env, s.Config),
		Products: store.OpenProducts(s.Env, s.Config),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
