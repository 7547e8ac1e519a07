package main

import (
	"log/slog"

	"carillon/shared/clock"
	"carillon/shared/ott/store"
	"carillon/shared/stackname"
)

// OttCmd groups what an operator can do about OTT registrations and messages.
type OttCmd struct {
	Sweep    OttSweepCmd    `cmd:"" help:"Delete the secrets that no registration names any more."`
	Callback OttCallbackCmd `cmd:"" help:"Send a signed event to the API, as Messenger or LINE would."`
	Messages OttMessagesCmd `cmd:"" help:"List the messages of a page or channel that wait, and why."`
}

// registrations is the store of the stack's registrations.
func (b bundle) registrations() *store.Registrations {
	return store.NewRegistrations(
		b.ddb,
		stackname.RegistrationsTable(b.stack),
		b.secrets,
		stackname.RegistrationSecretPrefix(b.stack),
		clock.System{},
		slog.New(slog.DiscardHandler),
	) // nothing that is done here logs
}
