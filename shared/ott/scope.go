package ott

// The scopes of this API.
const (
	ScopeRegistrationRead  = "ott_registration_read"
	ScopeRegistrationWrite = "ott_registration_write"
	ScopeSend              = "ott_send"
)

// Scopes returns the scopes of this API, in the order in which a token lists them.
func Scopes() []string { return []string{ScopeRegistrationRead, ScopeRegistrationWrite, ScopeSend} }
