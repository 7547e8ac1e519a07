// Package api is the OTT API on the wire: its handlers, its JSON and its error bodies (docs/contract.md §1).
package api

import (
	"net/http"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

// The error codes of docs/contract.md §1.
const (
	codeNone       = 0
	codeWrongType  = 10001
	codeMissing    = 10002
	codeMalformed  = 10004
	codeBadValue   = 10005
	codeAggregate  = 10006
	codeForbidden  = 20002
	codeNotFound   = 30003
	codeConflict   = 30004
	aggregateTitle = "Please fix the following errors"
)

// errorBody is the error body of the OTT API.
type errorBody struct {
	Message          string      `json:"message"`
	ErrorCode        int         `json:"errorcode"`
	Documentation    string      `json:"documentation"`
	ValidationErrors []errorBody `json:"validationErrors,omitempty"`
}

// EncodeError maps an error to the OTT API's status and body (docs/contract.md §1, the table of cases).
func EncodeError(_ *httpapi.Request, err *fault.Error) *httpapi.Response {
	answer := func(status, code int, constant string) *httpapi.Response {
		message := err.Message
		if message == "" {
			message = constant
		}
		return httpapi.JSON(status, errorBody{Message: message, ErrorCode: code})
	}
	switch err.Code {
	case fault.Invalid:
		return httpapi.JSON(http.StatusBadRequest, aggregate(err.Violations))
	case fault.Malformed:
		return answer(http.StatusBadRequest, codeMalformed, "The request body is not valid JSON")
	case fault.TooLarge:
		return answer(http.StatusRequestEntityTooLarge, codeMalformed, "The request body is too large")
	case fault.UnsupportedMediaType:
		return httpapi.Empty(http.StatusUnsupportedMediaType)
	case fault.Unauthenticated:
		return answer(http.StatusUnauthorized, codeNone, "Not Authorized").With("www-authenticate", "Bearer")
	case fault.Forbidden:
		return answer(http.StatusForbidden, codeForbidden, "Insufficient Privileges")
	case fault.NotFound:
		return answer(http.StatusNotFound, codeNotFound, "The registration does not exist")
	case fault.Conflict:
		return answer(http.StatusConflict, codeConflict, "The request contradicts an earlier one")
	case fault.TooManyRequests:
		return answer(http.StatusTooManyRequests, codeNone, "Too Many Requests")
	case fault.Unavailable:
		return answer(http.StatusServiceUnavailable, codeNone, "Service Unavailable")
	default:
		return httpapi.JSON(http.StatusInternalServerError, errorBody{Message: "Internal Server Error"})
	}
}

func aggregate(violations []fault.Violation) errorBody {
	codes := map[fault.Code]int{
		fault.Missing: codeMissing, fault.WrongType: codeWrongType, fault.BadValue: codeBadValue,
	}
	body := errorBody{Message: aggregateTitle, ErrorCode: codeAggregate}
	for _, v := range violations {
		body.ValidationErrors = append(body.ValidationErrors, errorBody{Message: v.Message, ErrorCode: codes[v.Code]})
	}
	return body
}
