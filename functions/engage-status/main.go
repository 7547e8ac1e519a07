// Command engage-status is the function behind GET /federated/outbound/v2/batch/{requestId}.
package main

import (
	"carillon/shared/engage/api"
	"carillon/shared/engage/store"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.StatusHandler{
		Tokens: api.OpenAuthority(s.Env, s.Config),
		Pushes: store.OpenPushes(s.Env, s.Config),
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
