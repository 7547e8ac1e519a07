// Command ott-deliver is the function that works through the outbound queue.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/lambdafunction"
	"carillon/shared/ott/deliver"
	"carillon/shared/ott/outbound"
	"carillon/shared/ott/store"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	registrations := store.OpenRegistrationReader(s.Env, s.Config)
	deliverer := &deliver.Deliverer{
		Messages:      store.OpenMessages(s.Env, s.Config),
		Registrations: registrations,
		Credentials:   store.OpenCredentials(registrations, s.Config),
		States:        store.OpenCredentialStates(s.Env, s.Config),
		Properties:    store.OpenProperties(s.Env, s.Config),
		Events:        deliver.OpenBus(s.Env, s.Config),
		Outbox:        outbound.OpenQueue(s.Env, s.Config),
		Platforms:     deliver.Platforms(deliver.OpenTransport(s.Env), clock.System{}),
		Clock:         clock.System{},
		Log:           s.Log,
	}
	return deliverer.Handle
}
