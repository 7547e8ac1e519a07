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
	deliverer := deliver.NewDeliverer(
		store.OpenPushes(s.Env, s.Config),
		schedule.OpenQueue(s.Env, s.Config),
		deliver.OpenGateway(s.Env, s.Config),
		clock.System{},
		s.Log,
	)
	return deliverer.Handle
}
