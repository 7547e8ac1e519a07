// Command ott-list is the function behind GET /ott/v1/registration/{platform}.
package main

import (
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott/api"
	"carillon/shared/ott/store"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.ListHandler{
		Tokens:        api.OpenAuthority(s.Env, s.Config),
		Registrations: store.OpenRegistrationReader(s.Env, s.Config),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
