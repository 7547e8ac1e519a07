package main

import (
	"carillon/shared/ott"
	"carillon/shared/stackname"
)

// OttCmd groups what an operator can do about OTT registrations.
type OttCmd struct {
	Sweep    OttSweepCmd    `cmd:"" help:"Delete the secrets that no registration names any more."`
	Callback OttCallbackCmd `cmd:"" help:"Send a signed event to the API, as Messenger or LINE would."`
}

// registrations is the store of the stack's registrations.
func (b bundle) registrations() *ott.RegistrationStore {
	return ott.NewRegistrationStore(b.ddb, stackname.RegistrationsTable(b.stack),
		b.secrets, stackname.RegistrationSecretPrefix(b.stack))
}
