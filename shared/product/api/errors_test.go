package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/product"
	"carillon/shared/product/api"
)

// answerTo returns what a caller gets whose request ends with that error.
func answerTo(t *testing.T, failure error, headers map[string]string) events.APIGatewayV2HTTPResponse {
	t.Helper()
	serve := httpapi.Adapt(httpapi.Endpoint{
		Handler:     func(context.Context, *httpapi.Request) (*httpapi.Response, error) { return nil, failure },
		EncodeError: api.EncodeError,
	}, slog.New(slog.DiscardHandler))
	answer, err := serve(t.Context(), events.APIGatewayV2HTTPRequest{Headers: headers})
	require.NoError(t, err)
	return answer
}

// docs/contract.md §3, the table of cases.
func TestEncodeErrorAnswersEveryFault(t *testing.T) {
	const internal = "dial tcp 10.1.2.3: secret detail"
	tests := map[fault.Code]struct {
		status               int
		message, description string
	}{
		fault.Malformed: {400, "APIKIT:BAD_REQUEST", "the body is not valid JSON"},
		fault.Unauthenticated: {401, "The user could not be authenticated for this request.",
			"The request has not been applied because it lacks valid authentication credentials for the target " +
				"resource."},
		fault.Forbidden: {403, "APIKIT:FORBIDDEN", "The client is not allowed for this businessId."},
		fault.NotFound:  {404, "APIKIT:NOT_FOUND", "There is no such product."},
		fault.MethodNotAllowed: {405, "APIKIT:METHOD_NOT_ALLOWED",
			"The method is not allowed for this resource."},
		fault.Conflict: {409, "APIKIT:CONFLICT",
			"The X-Correlation-ID was used for a request with another body."},
		fault.TooLarge: {413, "APIKIT:PAYLOAD_TOO_LARGE", "The body is too large."},
		fault.UnsupportedMediaType: {415, "APIKIT:UNSUPPORTED_MEDIA_TYPE",
			"Content-Type must be application/json."},
		fault.TooManyRequests: {429, "APIKIT:TOO_MANY_REQUESTS", "Too many requests. Try again later."},
		fault.Internal:        {500, "APIKIT:INTERNAL_SERVER_ERROR", "The request could not be processed."},
		fault.BadGateway: {502, "APIKIT:BAD_GATEWAY",
			"The provider could not process the request. Send the same request again."},
		fault.Unavailable: {503, "APIKIT:SERVICE_UNAVAILABLE",
			"The service is not available. Send the same request again later."},
		fault.GatewayTimeout: {504, "APIKIT:GATEWAY_TIMEOUT",
			"The provider did not answer in time. Send the same request again."},
		fault.Code("of another domain"): {500, "APIKIT:INTERNAL_SERVER_ERROR", "The request could not be processed."},
	}
	for code, test := range tests {
		t.Run(string(code), func(t *testing.T) {
			answer := answerTo(t, fault.Wrap(code, errors.New(internal)), map[string]string{"x-correlation-id": "c-1"})
			assert.Equal(t, test.status, answer.StatusCode)
			assert.Equal(t, `{"errors":[{"code":`+strconv.Itoa(test.status)+`,"message":"`+test.message+
				`","description":"`+test.description+`"}]}`, answer.Body)
			assert.Equal(t, "application/json", answer.Headers["content-type"])
			assert.Equal(t, "c-1", answer.Headers["x-correlation-id"])
			assert.NotEmpty(t, answer.Headers["x-request-id"])
		})
	}
}

func TestEncodeErrorNeverShowsAnInternalText(t *testing.T) {
	for _, code := range []fault.Code{fault.Internal, fault.BadGateway, fault.GatewayTimeout, fault.Unavailable} {
		answer := answerTo(t, &fault.Error{Code: code, Message: "internal detail",
			Cause: errors.New("internal detail")}, nil)
		assert.NotContains(t, answer.Body, "internal detail")
	}
	answer := answerTo(t, errors.New("internal detail"), nil)
	assert.Equal(t, http.StatusInternalServerError, answer.StatusCode)
	assert.NotContains(t, answer.Body, "internal detail")
}

func TestEncodeErrorSetsTheHeadersOfItsCases(t *testing.T) {
	assert.Equal(t, "Client-ID-Enforcement", answerTo(t, fault.New(fault.Unauthenticated, ""),
		nil).Headers["www-authenticate"])
	assert.Equal(t, "GET, POST", answerTo(t, fault.New(fault.MethodNotAllowed, ""), nil).Headers["allow"])
	assert.Equal(t, "2", answerTo(t, &fault.Error{Code: fault.Unavailable, RetryAfter: 1500 * time.Millisecond},
		nil).Headers["retry-after"])
}

// The first error example of seed 003, byte for byte but for its white space.
func TestEncodeErrorPrintsTheSeedsFirstExample(t *testing.T) {
	_, err := product.DecodeProduct(strings.NewReader(strings.Replace(validBody, `"OTT"`, `"INVALID"`, 1)), time.Time{})
	answer := answerTo(t, err, nil)
	assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
	assert.Equal(t,
		`{"errors":[{"code":400,"message":"VALIDATION:INVALID_BOOLEAN","description":"Mandatory field @type is not `+
			`specified or Incorrect value is received. The expected value is OTT"}]}`, answer.Body)
}

// The second error example of seed 003.
func TestEncodeErrorPrintsTheSeedsSecondExample(t *testing.T) {
	const refusal = `{"responseCode":"BAD_REQUEST","responseMessage":"ProductKey is invalid."}`
	bango := httptest.NewServer(answering(http.StatusBadRequest, refusal))
	defer bango.Close()
	p := newProvider(t, bango.URL, secrets{"bango": `{"username":"carillon","password":"x"}`}, "bango")
	_, err := p.Entitle(t.Context(), "operation-1", product.EntitlementRequest{ProductKey: "INVALID"})
	answer := answerTo(t, err, nil)
	assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
	assert.Equal(t,
		`{"errors":[{"code":400,"message":"Bango: Error while creating an entitlement",`+
			`"description":"BAD_REQUEST-ProductKey is invalid."}]}`, answer.Body)
}

func TestEncodeErrorListsEveryFaultUnderItsOwnMessage(t *testing.T) {
	_, err := product.DecodeProduct(strings.NewReader(`{
		"@type":"OTT","@baseType":"x","@referredType":"DISNEY","productSpecification":{},
		"billingAccount":{"id":"1","contact":[{"contactMedium":[{"characteristic":{"emailAddress":"x"}}]}]}}`), time.Time{})
	assert.JSONEq(t, `{"errors":[
		{"code":400,"message":"APIKIT:BAD_REQUEST","description":"productSpecification.id must be provided"},
		{"code":400,"message":"VALIDATION:INVALID_BOOLEAN","description":
			"Mandatory field @baseType is not specified or Incorrect value is received. The expected value is product"},
		{"code":400,"message":"VALIDATION:INVALID_EMAIL","description":"`+emailMember+` must be an email address"}
	]}`, answerTo(t, err, nil).Body)
}

// A correlation id comes back as it was sent, unless it is none that a header may carry.
func TestEncodeErrorEchoesTheCorrelationID(t *testing.T) {
	tests := map[string]string{
		"3b0a5f5e-6c39-4a54-9d6e-0f6d1c1f8f21": "3b0a5f5e-6c39-4a54-9d6e-0f6d1c1f8f21",
		"any, identification: model!":          "any, identification: model!",
		strings.Repeat("x", 255):               strings.Repeat("x", 255),
		strings.Repeat("x", 256):               "",
		"a\r\nset-cookie: x":                   "",
		"a\x7f":                                "",
		"ä":                                    "",
		"":                                     "",
	}
	for sent, want := range tests {
		answer := answerTo(t, fault.New(fault.Internal, ""), map[string]string{"x-correlation-id": sent})
		got, there := answer.Headers["x-correlation-id"]
		assert.Equal(t, want, got)
		assert.Equal(t, want != "", there)
	}
}

// RFC 9110 §10.2.1: Allow lists the methods of the resource, whichever function answers.
func TestEncodeErrorNamesTheMethodsOfTheResource(t *testing.T) {
	for id, want := range map[string]string{"": "GET, POST", "53c18a7a-f4ef-5e62-8061-9c179733ae32": http.MethodGet} {
		r := httpapi.NewRequest(t.Context(),
			events.APIGatewayV2HTTPRequest{PathParameters: map[string]string{"businessId": "PA", "id": id}})
		assert.Equal(t, want, api.EncodeError(r, fault.New(fault.MethodNotAllowed, "")).Header["allow"])
	}
}
