// Package api is the HTTP API of ENGAGE (docs/contract.md §2): its handlers, its JSON, and its error bodies.
package api

import (
	"net/http"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

// The rows of docs/contract.md §2 that no other API has.
const (
	noANumbers        fault.Code = "no_anumbers"
	invalidProgram    fault.Code = "invalid_program"
	aNumberNotAllowed fault.Code = "anumber_not_allowed"
)

// The message of every refused batch. The guide's example for missing aNumbers lacks a word, and so does its answer.
const (
	pushFailed      = "Batch push could not complete push successfully."
	noANumberFailed = "Batch could not complete push successfully."
)

// shownFaults is how many bad fields an answer names: 25,000 bad destinations would not help more.
const shownFaults = 20

// EncodeError maps an error to the status and body of /federated/outbound/v2/batch and of a push below it. A 401 has no
// body.
func EncodeError(r *httpapi.Request, err *fault.Error) *httpapi.Response {
	answer := func(status int, response, message string) *httpapi.Response {
		if err.Message != "" {
			response = err.Message
		}
		body := batchAnswer{Response: response, Message: &message, ErrorCode: status, RequestID: r.ID}
		return httpapi.JSON(status, body)
	}
	switch err.Code {
	case fault.Unauthenticated:
		return unauthorized()
	case noANumbers:
		return answer(http.StatusBadRequest, "Must send aNumbers or a valid ANumberGroupId", noANumberFailed)
	case invalidProgram:
		return answer(http.StatusBadRequest, "Invalid program setup on this program", pushFailed)
	case aNumberNotAllowed:
		return answer(http.StatusOK, "Not allowed to use one or more anumbers.", pushFailed)
	case fault.Invalid:
		return answer(http.StatusBadRequest, err.Violations.Join("; ", shownFaults), pushFailed)
	case fault.Malformed:
		return answer(http.StatusBadRequest, "the body is not valid JSON", pushFailed)
	case fault.TooLarge:
		return answer(http.StatusRequestEntityTooLarge, "the body is too large", pushFailed)
	case fault.UnsupportedMediaType:
		return answer(http.StatusUnsupportedMediaType, "the content encoding is not supported", pushFailed)
	case fault.NotFound:
		return answer(http.StatusNotFound, "Unknown request", pushFailed)
	case fault.Conflict:
		return answer(http.StatusConflict, "Idempotency-Key was used with another request", pushFailed)
	case fault.TooManyRequests:
		return answer(http.StatusTooManyRequests, "Too many requests", pushFailed)
	case fault.Unavailable:
		return answer(http.StatusServiceUnavailable, "Service unavailable", pushFailed)
	default:
		err.Message = "" // never an internal text
		return answer(http.StatusInternalServerError, "Internal server error", pushFailed)
	}
}

// EncodeTokenError maps an error to the status and body of POST /federated/content/v2/token: 500 for every refusal
// (seed 002), except for what no retry with other credentials mends.
func EncodeTokenError(r *httpapi.Request, err *fault.Error) *httpapi.Response {
	status := http.StatusInternalServerError
	switch err.Code {
	case fault.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case fault.UnsupportedMediaType:
		status = http.StatusUnsupportedMediaType
	case fault.Unavailable:
		status = http.StatusServiceUnavailable
	}
	answer := tokenAnswer{Message: "Failed to grant access token", ErrorCode: status, RequestID: r.ID}
	return httpapi.JSON(status, answer).With("cache-control", "no-store")
}

// EncodeTokenHealthError maps an error to the status of GET /federated/content/v2/token/health. A 401 has no body.
func EncodeTokenHealthError(r *httpapi.Request, err *fault.Error) *httpapi.Response {
	answer := func(status int, message string) *httpapi.Response {
		return httpapi.JSON(status, tokenAnswer{Message: message, ErrorCode: status, RequestID: r.ID})
	}
	switch err.Code {
	case fault.Unauthenticated:
		return unauthorized()
	case fault.Unavailable:
		return answer(http.StatusServiceUnavailable, "Service unavailable")
	default:
		return answer(http.StatusInternalServerError, "Internal server error")
	}
}

// unauthorized is the 401 of every endpoint that takes a token.
func unauthorized() *httpapi.Response {
	return httpapi.Empty(http.StatusUnauthorized).With("www-authenticate", "Bearer")
}

// invalid returns a fault Invalid with one message.
func invalid(message string) error {
	var faults fault.Violations
	faults.Add(fault.BadValue, "%s", message)
	return faults.Err()
}
