// Command ott-send-status is the function behind GET /ott/v1/send/{messageId}.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott/api"
	"carillon/shared/ott/store"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.SendStatusHandler{
		Tokens:   api.OpenAuthority(s.Env, s.Config),
		Messages: store.OpenMessages(s.Env, s.Config),
		Clock:    clock.System{},
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
