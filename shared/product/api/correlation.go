package api

import (
	"strings"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

const (
	correlationHeader = "x-correlation-id"
	maxCorrelationID  = 255 // characters
)

// correlationID returns the request's X-Correlation-ID, or "" if there is none that an answer's header may carry.
func correlationID(r *httpapi.Request) string {
	id := strings.TrimSpace(r.Header(correlationHeader))
	if len(id) > maxCorrelationID || strings.ContainsFunc(id, notPrintableASCII) {
		return ""
	}
	return id
}

func notPrintableASCII(r rune) bool { return r < ' ' || r > '~' }

// addCorrelationFaults adds what is wrong with an X-Correlation-ID that is there: that no answer could echo it.
func addCorrelationFaults(r *httpapi.Request, faults *fault.Violations) {
	if strings.TrimSpace(r.Header(correlationHeader)) != "" && correlationID(r) == "" {
		faults.Add(fault.BadValue, "X-Correlation-ID must be at most %d printable ASCII characters", maxCorrelationID)
	}
}

func withCorrelation(r *httpapi.Request, response *httpapi.Response) *httpapi.Response {
	if id := correlationID(r); id != "" {
		response.With(correlationHeader, id)
	}
	return response
}
