package api

import (
	"net/http"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/product"
)

// The error messages of docs/contract.md §3.
const (
	messageBadRequest      = "APIKIT:BAD_REQUEST"
	messageWrongConstant   = "VALIDATION:INVALID_BOOLEAN"
	messageInvalidEmail    = "VALIDATION:INVALID_EMAIL"
	messageProviderRefused = "Bango: Error while creating an entitlement"
	messageUnauthenticated = "The user could not be authenticated for this request."
)

// errorBody is the error body of the DXP API.
type errorBody struct {
	Errors []errorItem `json:"errors"`
}

type errorItem struct {
	Code        int    `json:"code"` // the HTTP status
	Message     string `json:"message"`
	Description string `json:"description"`
}

// EncodeError maps an error to the DXP API's status and body (docs/contract.md §3, the table of cases), with the
// request's X-Correlation-ID. Where the contract is silent the message is named after the status in the manner of
// APIKit.
func EncodeError(r *httpapi.Request, err *fault.Error) *httpapi.Response {
	answer := func(status int, message, constant string) *httpapi.Response {
		description := constant
		if err.Message != "" && status < http.StatusInternalServerError {
			description = err.Message
		}
		return httpapi.JSON(status, errorBody{Errors: []errorItem{
			{Code: status, Message: message, Description: description},
		}})
	}
	var response *httpapi.Response
	switch err.Code {
	case fault.Invalid:
		response = httpapi.JSON(http.StatusBadRequest, aggregate(err.Violations))
	case fault.Malformed:
		response = answer(http.StatusBadRequest, messageBadRequest, "the body is not valid JSON")
	case product.ProviderRefused:
		response = answer(http.StatusBadRequest, messageProviderRefused, "")
	case fault.Unauthenticated:
		response = answer(http.StatusUnauthorized, messageUnauthenticated,
			"The request has not been applied because it lacks valid authentication credentials for the target "+
				"resource.").
			With("www-authenticate", "Client-ID-Enforcement")
	case fault.Forbidden:
		response = answer(http.StatusForbidden, "APIKIT:FORBIDDEN", "The client is not allowed for this businessId.")
	case fault.NotFound:
		response = answer(http.StatusNotFound, "APIKIT:NOT_FOUND", "There is no such product.")
	case fault.MethodNotAllowed:
		response = answer(http.StatusMethodNotAllowed, "APIKIT:METHOD_NOT_ALLOWED",
			"The method is not allowed for this resource.").
			With("allow", allowed(r))
	case fault.Conflict:
		response = answer(http.StatusConflict, "APIKIT:CONFLICT",
			"The X-Correlation-ID was used for a request with another body.")
	case fault.TooLarge:
		response = answer(http.StatusRequestEntityTooLarge, "APIKIT:PAYLOAD_TOO_LARGE", "The body is too large.")
	case fault.UnsupportedMediaType:
		response = answer(http.StatusUnsupportedMediaType, "APIKIT:UNSUPPORTED_MEDIA_TYPE",
			"Content-Type must be application/json.")
	case fault.TooManyRequests:
		response = answer(http.StatusTooManyRequests, "APIKIT:TOO_MANY_REQUESTS", "Too many requests. Try again later.")
	case fault.BadGateway:
		response = answer(http.StatusBadGateway, "APIKIT:BAD_GATEWAY",
			"The provider could not process the request. Send the same request again.")
	case fault.GatewayTimeout:
		response = answer(http.StatusGatewayTimeout, "APIKIT:GATEWAY_TIMEOUT",
			"The provider did not answer in time. Send the same request again.")
	case fault.Unavailable:
		response = answer(http.StatusServiceUnavailable, "APIKIT:SERVICE_UNAVAILABLE",
			"The service is not available. Send the same request again later.")
	default:
		response = answer(http.StatusInternalServerError, "APIKIT:INTERNAL_SERVER_ERROR",
			"The request could not be processed.")
	}
	return withCorrelation(r, response)
}

// allowed are the methods of the request's resource: the products, or one of them.
func allowed(r *httpapi.Request) string {
	if r.PathParameter("id") != "" {
		return http.MethodGet
	}
	return http.MethodGet + ", " + http.MethodPost
}

func aggregate(violations []fault.Violation) errorBody {
	messages := map[fault.Code]string{
		product.WrongConstant: messageWrongConstant,
		product.InvalidEmail:  messageInvalidEmail,
	}
	var body errorBody
	for _, v := range violations {
		message, ok := messages[v.Code]
		if !ok {
			message = messageBadRequest
		}
		item := errorItem{Code: http.StatusBadRequest, Message: message, Description: v.Message}
		body.Errors = append(body.Errors, item)
	}
	return body
}
