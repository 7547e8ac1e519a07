package main

import (
	"log/slog"

	"carillon/shared/clock"
	"carillon/shared/ott/store"
)

// OttCmd groups what an operator can do about OTT registrations.
type OttCmd struct {
	Sweep    OttSweepCmd    `cmd:"" help:"Delete the secrets that no registration names any more."`
	Callback OttCallbackCmd `cmd:"" help:"Send a signed event to the API, as Messenger or LINE would."`
}

// registrations is the store of the stack's registrations.
func (b bundle) registrations() *store.Registrations {
	return store.NewRegistrations(b.ddb, b.stack+"-registrations", b.secrets, b.stack+"/ott/", clock.System{},
		slog.New(slog.DiscardHandler)) // nothing that is done here logs
}
