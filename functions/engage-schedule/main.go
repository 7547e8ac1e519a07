// Command engage-schedule is the function that EventBridge Scheduler invokes every minute.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/engage/schedule"
	"carillon/shared/engage/store"
	"carillon/shared/lambdafunction"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	scheduler := &schedule.Scheduler{
		Pushes: store.OpenPushes(s.Env, s.Config),
		Queue:  schedule.OpenQueue(s.Env, s.Config),
		Clock:  clock.System{},
		Log:    s.Log,
	}
	return scheduler.Sweep
}
