// Command ott-delete is the function behind DELETE /ott/v1/registration/{platform}/{ottPropertyId}.
package main

import (
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott/api"
	"carillon/shared/ott/store"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.DeleteHandler{
		Tokens:        api.OpenAuthority(s.Env, s.Config),
		Registrations: store.OpenRegistrations(s.Env, s.Config, s.Log),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
