// Command ott-callback is the function behind GET and POST /ott/v1/callback/{platform}/{ottPropertyId}.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/httpapi"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott/api"
	"carillon/shared/ott/callback"
	"carillon/shared/ott/store"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &callback.Handler{
		Registrations: store.OpenCredentials(store.OpenRegistrationReader(s.Env, s.Config), s.Config),
		Receipts:      store.OpenMessages(s.Env, s.Config),
		Events:        callback.OpenPublisher(s.Env, s.Config),
		Clock:         clock.System{},
		Log:           s.Log,
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
