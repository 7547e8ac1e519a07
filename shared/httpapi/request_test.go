package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net/url"
	"os"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

// TestNewRequestOfARealEvent reads an event as API Gateway sends it.
func TestNewRequestOfARealEvent(t *testing.T) {
	raw, err := os.ReadFile("testdata/payload-2.0.json")
	require.NoError(t, err)
	var event events.APIGatewayV2HTTPRequest
	require.NoError(t, json.Unmarshal(raw, &event))
	r := httpapi.NewRequest(t.Context(), event)

	assert.Equal(t, "POST", r.Method)
	assert.Equal(t, "POST /dxp-ux/v1/{businessId}/product", r.Route())
	assert.Equal(t, "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com", r.BaseURL())
	assert.Equal(t, "application/json", r.MediaType())
	assert.Equal(t, "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", r.BearerToken())
	assert.Equal(t, "b9f1a9a8-7f1c-4f43-9a55-9f5a1e7f6a11", r.Header("x-correlation-id"))
	assert.Equal(t, "PA", r.PathParameter("businessId"))
	assert.Equal(t, "id", r.QueryParameter("fields"), "the first of two")
	assert.Equal(t, "café con leche", r.QueryParameter("name"))
	assert.Empty(t, r.QueryParameter("empty"))
	assert.Empty(t, r.Client)
	body, err := r.Body()
	require.NoError(t, err)
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.Equal(t, `{"name": "café con leche"}`, string(text))
}

func TestRequestOfAnEventWithoutAnything(t *testing.T) {
	r := httpapi.NewRequest(t.Context(), events.APIGatewayV2HTTPRequest{})
	assert.Empty(t, r.Header("authorization"))
	assert.Empty(t, r.PathParameter("businessId"))
	assert.Empty(t, r.QueryParameter("fields"))
	assert.Empty(t, r.MediaType())
	assert.Empty(t, r.BearerToken())
	assert.Empty(t, r.Route())
	body, err := r.Body()
	require.NoError(t, err)
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.Empty(t, text)
}

func TestRequestID(t *testing.T) {
	const lambdaID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
	withID := func(id string) context.Context {
		return lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: id})
	}
	assert.Equal(t, lambdaID, httpapi.NewRequest(withID(lambdaID), events.APIGatewayV2HTTPRequest{}).ID)

	seen := map[string]bool{}
	for name, ctx := range map[string]context.Context{
		"no Lambda": t.Context(), "no id": withID(""), "no UUID": withID("x\r\nset-cookie: a=b"), "once more": t.Context(),
	} {
		id := httpapi.NewRequest(ctx, events.APIGatewayV2HTTPRequest{}).ID
		parsed, err := uuid.Parse(id)
		require.NoError(t, err, name)
		assert.Equal(t, parsed.String(), id, name)
		seen[id] = true
	}
	assert.Len(t, seen, 4, "ids are unique")
}

func request(headers map[string]string) *httpapi.Request {
	return httpapi.NewRequest(context.Background(), events.APIGatewayV2HTTPRequest{Headers: headers})
}

func TestMediaType(t *testing.T) {
	for header, want := range map[string]string{
		"application/json":                   "application/json",
		"APPLICATION/Json":                   "application/json",
		" application/json ":                 "application/json",
		"application/json;":                  "application/json",
		"application/json;charset=utf-8":     "application/json",
		`application/json; charset="utf-8"`:  "application/json",
		"application/problem+json; a=b; c=d": "application/problem+json",
		"text/plain":                         "text/plain",
		"application/json, application/json": "",
		"application/json; charset":          "",
		"application/json; a=b; a=c":         "",
		"application/":                       "",
		"/json":                              "",
		";":                                  "",
		"":                                   "",
	} {
		assert.Equal(t, want, request(map[string]string{"content-type": header}).MediaType(), "%q", header)
	}
}

func TestBearerToken(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer abc":         "abc",
		"bearer abc":         "abc",
		"BEARER   abc  ":     "abc",
		"Bearer a b":         "a b", // no token of ours has a space in it
		"Bearer":             "",
		"Bearer ":            "",
		"":                   "",
		"abc":                "",
		"Basic YTpi":         "",
		"Bearerabc":          "",
		" Bearer abc":        "",
		"Bearer\tabc":        "",
		"Token Bearer abc":   "",
		"Bearer Bearer abcd": "Bearer abcd",
	} {
		assert.Equal(t, want, request(map[string]string{"authorization": header}).BearerToken(), "%q", header)
	}
}

func TestQueryParameter(t *testing.T) {
	for query, want := range map[string]string{
		"a=b":         "b",
		"a=b&a=c":     "b",
		"a=":          "",
		"a":           "",
		"":            "",
		"A=b":         "",
		"a=b%20c+d":   "b c d",
		"%61=b":       "b",
		"a=%C3%A9":    "é",
		"x=%zz&a=b":   "", // a query that is broken anywhere is not guessed at
		"a=b;c":       "",
		"a=b&c=d&e":   "b",
		"a=b=c":       "b=c",
		"x[a]=1&a=%2": "",
	} {
		r := httpapi.NewRequest(t.Context(), events.APIGatewayV2HTTPRequest{RawQueryString: query})
		assert.Equal(t, want, r.QueryParameter("a"), "%q", query)
	}
}

func TestQuery(t *testing.T) {
	for raw, want := range map[string]url.Values{
		"":                {},
		"&":               {},
		"a=b&c=d&a=e,f":   {"a": {"b", "e,f"}, "c": {"d"}},
		"a&b=":            {"a": {""}, "b": {""}},
		"%40type=a%2Bb+c": {"@type": {"a+b c"}},
	} {
		query, err := httpapi.NewRequest(t.Context(), events.APIGatewayV2HTTPRequest{RawQueryString: raw}).Query()
		require.NoError(t, err, "%q", raw)
		assert.Equal(t, want, query, "%q", raw)
	}
	for _, raw := range []string{"a=%zz", "a=b;c", "a=b&%2"} {
		_, err := httpapi.NewRequest(t.Context(), events.APIGatewayV2HTTPRequest{RawQueryString: raw}).Query()
		assert.True(t, fault.Is(err, fault.Malformed), "%q", raw)
	}
}

func TestBaseURL(t *testing.T) {
	for proto, want := range map[string]string{
		"":           "https://api.example.com",
		"https":      "https://api.example.com",
		"http":       "http://api.example.com",
		"javascript": "https://api.example.com",
	} {
		r := httpapi.NewRequest(t.Context(), events.APIGatewayV2HTTPRequest{
			Headers:        map[string]string{"x-forwarded-proto": proto, "host": "evil.example.com"},
			RequestContext: events.APIGatewayV2HTTPRequestContext{DomainName: "api.example.com"},
		})
		assert.Equal(t, want, r.BaseURL(), "%q", proto)
	}
}
