// Command oauth-token is the function behind POST /v2/token.
package main

import (
	"carillon/shared/clientauth"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott/api"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.TokenHandler{
		Clients: clientauth.Open(s.Env, s.Config),
		Tokens:  api.OpenAuthority(s.Env, s.Config),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeTokenError}
}
