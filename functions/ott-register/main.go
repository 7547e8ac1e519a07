// Command ott-register is the function behind POST /ott/v1/registration.
package main

import (
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott/api"
	"carillon/shared/ott/store"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.RegisterHandler{
		Tokens:        api.OpenAuthority(s.Env, s.Config),
		Registrations: store.OpenRegistrations(s.Env, s.Config, s.Log),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
