// Command engage-token-health is the function behind GET /federated/content/v2/token/health.
package main

import (
	"carillon/shared/engage/api"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.TokenHealthHandler{Tokens: api.OpenAuthority(s.Env, s.Config)}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeTokenHealthError}
}
