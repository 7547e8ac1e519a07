// Command engage-token is the function behind POST /federated/content/v2/token.
package main

import (
	"carillon/shared/clientauth"
	"carillon/shared/engage/api"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.TokenHandler{
		Clients: clientauth.Open(s.Env, s.Config),
		Tokens:  api.OpenAuthority(s.Env, s.Config),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeTokenError}
}
