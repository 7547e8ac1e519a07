// Command engage-batch is the function behind POST /federated/outbound/v2/batch.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/engage/api"
	"carillon/shared/engage/schedule"
	"carillon/shared/engage/store"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/lambdafunction"
)

func main() { httpapi.Main(setUp) }

func setUp(s lambdafunction.Setup) httpapi.Endpoint {
	handler := &api.BatchHandler{
		Tokens:     api.OpenAuthority(s.Env, s.Config),
		Content:    store.OpenContent(s.Env, s.Config),
		Pushes:     store.OpenPushes(s.Env, s.Config),
		Operations: idempotencystore.Open(s.Env, s.Config),
		Queue:      schedule.OpenDeliveryQueue(s.Env, s.Config),
		Clock:      clock.System{},
		Log:        s.Log,
	}
	return httpapi.Endpoint{Handler: handler.Serve, EncodeError: api.EncodeError}
}
