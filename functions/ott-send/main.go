// Command ott-send is the function behind POST /ott/v1/send.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott/api"
	"carillon/shared/ott/outbound"
	"carillon/shared/ott/store"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.SendHandler{
		Tokens:        api.OpenAuthority(s.Env, s.Config),
		Registrations: store.OpenRegistrationReader(s.Env, s.Config),
		Messages:      store.OpenMessages(s.Env, s.Config),
		Backlogs:      store.OpenBacklogs(s.Env, s.Config),
		Outbox:        outbound.OpenQueue(s.Env, s.Config),
		Clock:         clock.System{},
		Log:           s.Log,
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
