// Command engage-deliver is the function that works through the delivery queue.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/engage/deliver"
	"carillon/shared/engage/schedule"
	"carillon/shared/engage/store"
	"carillon/shared/lambdafunction"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	pushes := store.OpenPushes(s.Env, s.Config)
	concurrency := deliver.Concurrency{First: s.Env.Int("DELIVERY_CONCURRENCY"), Again: s.Env.Int("RETRY_CONCURRENCY")}
	deliverer := deliver.NewDeliverer(deliver.Options{
		Pushes:  pushes,
		Queue:   schedule.OpenQueue(s.Env, s.Config),
		Permits: deliver.NewLanes(pushes, concurrency),
		Gateway: deliver.OpenGateway(s.Env, s.Config),
		Clock:   clock.System{},
		Log:     s.Log,
	})
	return deliverer.Handle
}
