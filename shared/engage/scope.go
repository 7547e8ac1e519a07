package engage

// ScopeInform is the scope of a client that may push: X-Federated-Purpose: inform.
const ScopeInform = "engage_inform"

// Scopes returns the scopes of this API.
func Scopes() []string { return []string{ScopeInform} }
