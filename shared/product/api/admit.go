// Package api is the DXP product API (TMF637): the handlers of its endpoints, what they show, and its error body
// (docs/contract.md §3). It links neither the tables nor the queue: what a handler needs of them is an interface of its
// own.
package api

import (
	"context"
	"strings"
	"unicode/utf8"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/product"
	"carillon/shared/secret"
)

// minCredential is how long client_id and client_secret are at least, in characters.
const minCredential = 5

// Businesses tells which countries are served; store.Catalog does.
type Businesses interface {
	// Business returns a fault NotFound for a country that is not served.
	Business(ctx context.Context, id string) (product.Business, error)
}

// admit returns who asks, and the business unit that they may ask for: nil if that is not served. It returns a fault
// Unauthenticated or Forbidden, or the error of Secrets Manager or DynamoDB.
func admit(
	ctx context.Context, clients *clientauth.Authenticator, businesses Businesses, r *httpapi.Request,
) (clientauth.Client, *product.Business, error) {
	client, err := authenticate(ctx, clients, r)
	if err != nil {
		return clientauth.Client{}, nil, err
	}
	businessID := r.PathParameter("businessId")
	business, err := businesses.Business(ctx, businessID)
	served := err == nil
	if err != nil && !fault.Is(err, fault.NotFound) {
		return clientauth.Client{}, nil, err
	}
	if !mayAsk(client, businessID, served) {
		return clientauth.Client{}, nil, fault.New(fault.Forbidden, "")
	}
	if !served {
		return client, nil, nil
	}
	return client, &business, nil
}

// authenticate returns who the headers client_id and client_secret belong to. Whatever is wrong with them, the fault is
// Unauthenticated, after the same time.
func authenticate(
	ctx context.Context, clients *clientauth.Authenticator, r *httpapi.Request,
) (clientauth.Client, error) {
	presented := r.Header("client_secret")
	if utf8.RuneCountInString(presented) < minCredential {
		presented = "" // which no client has
	}
	client, err := clients.Authenticate(ctx, r.Header("client_id"), secret.NewText(presented))
	if err == nil {
		r.Client = client.ID
	}
	return client, err
}

// mayAsk reports whether a client may ask for a business unit. One that is not served is nobody's: a client of this API
// learns that from the request's validation.
func mayAsk(client clientauth.Client, businessID string, served bool) bool {
	if client.Has(product.ScopeProduct) || client.Has(product.ScopeProduct+":"+businessID) {
		return true
	}
	for _, scope := range client.Scopes {
		if strings.HasPrefix(scope, product.ScopeProduct+":") {
			return !served
		}
	}
	return false
}

// addBusinessFaults adds what is wrong with the path's businessId. business is nil if it is not served.
func addBusinessFaults(r *httpapi.Request, business *product.Business, faults *fault.Violations) {
	businessID := r.PathParameter("businessId")
	switch {
	case !product.IsCountryCode(businessID):
		faults.Add(fault.BadValue, "businessId must be a country code of two capital letters")
	case business == nil:
		faults.Add(fault.BadValue, "businessId %s is not a country that is served", businessID)
	}
}
