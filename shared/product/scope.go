package product

// ScopeProduct is the scope of a client that may ask for products of every business unit; ScopeProduct + ":PA" is for
// that one alone.
const ScopeProduct = "dxp_product"

// Scopes returns the scopes of this API, those for one business unit aside.
func Scopes() []string { return []string{ScopeProduct} }
