package api

import (
	"net/http"
	"net/url"
	"strings"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/product"
)

// readFaults adds what is wrong with a read's path, headers and the form of its query, and returns the query's
// parameters. business is nil if the country is not served. X-Correlation-ID is optional here.
func readFaults(r *httpapi.Request, business *product.Business, faults *fault.Violations) url.Values {
	addBusinessFaults(r, business, faults)
	addCorrelationFaults(r, faults)
	// A bare ; is a part of a value, as %3B is: it joins filters (TMF630), and parts no parameters.
	parameters, err := url.ParseQuery(strings.ReplaceAll(r.RawQuery(), ";", "%3B"))
	if err != nil {
		faults.Add(fault.Malformed, "the query is not URL-encoded")
	}
	return parameters
}

// collectionURL is the URL of a business unit's products, as the caller sees it.
func collectionURL(r *httpapi.Request) string {
	return r.BaseURL() + "/dxp-ux/v1/" + r.PathParameter("businessId") + "/product"
}

// readAnswer is an answer with products. It must not be kept on its way: a cache knows nothing of client_id.
func readAnswer(r *httpapi.Request, body any) *httpapi.Response {
	return withCorrelation(r, httpapi.JSON(http.StatusOK, body).With("cache-control", "no-store"))
}
