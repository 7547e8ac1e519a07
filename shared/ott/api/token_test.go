package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clientauth"
	"carillon/shared/httpapi"
	"carillon/shared/ott/api"
	"carillon/shared/ott/otttest"
	"carillon/shared/secret"
)

const (
	clientPrefix = "carillon/client/"
	keyName      = "carillon/token-signing-key"
)

// vault has the clients' secrets and the signing key.
type vault struct{ failure error }

func (v vault) Get(_ context.Context, name string, stage secret.Stage) (secret.Version, error) {
	if v.failure != nil {
		return secret.Version{}, v.failure
	}
	value, ok := map[string]string{
		keyName: "0123456789abcdef",
		clientPrefix +
			"ott-client": `{"secret":"hunter2&=+%","tenant":"tenant-1","scopes":["ott_send",` +
			`"ott_registration_write","engage_inform"]}`,
		clientPrefix + "read-client":   `{"secret":"hunter2","tenant":"tenant-1","scopes":["ott_registration_read"]}`,
		clientPrefix + "engage-client": `{"secret":"hunter2","tenant":"tenant-1","scopes":["engage_inform"]}`,
	}[name]
	if !ok || stage != secret.Current {
		return secret.Version{}, secret.ErrNotFound
	}
	return secret.Version{ID: "key-1", Value: secret.NewText(value)}, nil
}

func TestMain(m *testing.M) { emulatortest.Main(m) }

// endpoint is a function as Lambda calls it, and its log.
type endpoint struct {
	serve func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)
	log   otttest.Log
}

func newEndpoint(handler httpapi.Handler, encode httpapi.ErrorEncoder) *endpoint {
	e := new(endpoint)
	e.serve = httpapi.Adapt(httpapi.Endpoint{Handler: handler, EncodeError: encode}, e.log.Logger())
	return e
}

func (e *endpoint) post(t *testing.T, body string, headers map[string]string) events.APIGatewayV2HTTPResponse {
	t.Helper()
	answer, err := e.serve(t.Context(), events.APIGatewayV2HTTPRequest{
		Body: body, Headers: headers, RouteKey: "POST /x",
		RequestContext: events.APIGatewayV2HTTPRequestContext{DomainName: "api.example.com"},
	})
	require.NoError(t, err)
	assert.NotEmpty(t, answer.Headers["x-request-id"])
	for _, text := range []string{answer.Body, e.log.String()} {
		assert.NotContains(t, text, "hunter2", "no secret in an answer or a log line")
	}
	return answer
}

func newTokenEndpoint(v vault) *endpoint {
	handler := &api.TokenHandler{
		Clients: &clientauth.Authenticator{
			Secrets: secret.NewCache(v), Prefix: clientPrefix, RotationWindow: time.Hour,
		},
		Tokens: api.NewAuthority(secret.NewCache(v), keyName),
	}
	return newEndpoint(handler.Serve, api.EncodeTokenError)
}

var (
	asJSON = map[string]string{"content-type": "application/json"}
	asForm = map[string]string{"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
)

const grantJSON = `{"grant_type":"client_credentials","client_id":"ott-client","client_secret":"hunter2&=+%"`

func form(values ...string) string {
	f := url.Values{"grant_type": {"client_credentials"}, "client_id": {"ott-client"}, "client_secret": {"hunter2&=+%"}}
	for i := 0; i < len(values); i += 2 {
		f.Set(values[i], values[i+1])
	}
	return f.Encode()
}

func TestTokenIsGranted(t *testing.T) {
	tests := map[string]struct {
		headers     map[string]string
		body, scope string
	}{
		"JSON":                {asJSON, grantJSON + `}`, "ott_registration_write ott_send"},
		"JSON with one scope": {asJSON, grantJSON + `,"scope":"ott_send"}`, "ott_send"},
		"JSON with a null scope": {
			asJSON, grantJSON + `,"scope":null,"account_id":"1"}`, "ott_registration_write ott_send",
		},
		"form": {asForm, form(), "ott_registration_write ott_send"},
		"form with scopes": {
			asForm, form("scope", "ott_send ott_registration_write"), "ott_registration_write ott_send",
		},
		"form with a blank scope":         {asForm, form("scope", ""), "ott_registration_write ott_send"},
		"form with a parameter of no use": {asForm, form("account_id", "1"), "ott_registration_write ott_send"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := newTokenEndpoint(vault{})
			answer := e.post(t, test.body, test.headers)
			require.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
			var granted map[string]any
			require.NoError(t, json.Unmarshal([]byte(answer.Body), &granted))
			bearer, _ := granted["access_token"].(string)
			delete(granted, "access_token")
			assert.Equal(t,
				map[string]any{
					"token_type": "Bearer", "expires_in": 1200.0, "scope": test.scope,
					"rest_instance_url": "https://api.example.com/",
				},
				granted)
			assert.Equal(t, "no-store", answer.Headers["cache-control"])
			assert.Equal(t, "no-cache", answer.Headers["pragma"])
			assert.Contains(t, e.log.String(), `"client":"ott-client"`)
			assert.NotContains(t, e.log.String(), bearer)

			r := httpapi.NewRequest(t.Context(), events.APIGatewayV2HTTPRequest{
				Headers: map[string]string{"authorization": "Bearer " + bearer},
			})
			grant, err := api.NewAuthority(secret.NewCache(vault{}), keyName).Authenticate(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, test.scope, strings.Join(grant.Scopes, " "))
			assert.Equal(t, "tenant-1", grant.Tenant)
		})
	}
}

// gzipped is a text's gzip form, times over: a gzip file may have many members.
func gzipped(t *testing.T, text string, times int) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return strings.Repeat(b.String(), times)
}

// mega is a MiB of what every body may begin with.
var mega = strings.Repeat(" ", 1<<20)

func TestTokenIsRefused(t *testing.T) {
	invalid := func(description string) string {
		return `{"error":"invalid_request","error_description":"` + description + `"}`
	}
	const allMissing = "grant_type is missing, client_id is missing, client_secret is missing"
	gzipJSON := map[string]string{"content-type": "application/json", "content-encoding": "gzip"}
	tests := map[string]struct {
		headers map[string]string
		body    string
		status  int
		want    string
	}{
		"JSON without members":    {asJSON, `{}`, 400, invalid(allMissing)},
		"form without parameters": {asForm, ``, 400, invalid(allMissing)},
		"blank and null": {
			asJSON, `{"grant_type":" ","client_id":null,"client_secret":""}`, 400, invalid(allMissing),
		},
		"no secret": {asForm, form("client_secret", " "), 400, invalid("client_secret is missing")},
		"wrong types": {
			asJSON, `{"grant_type":1,"client_id":["a"],"client_secret":true,"scope":{}}`, 400,
			invalid("grant_type must be a string, client_id must be a string, client_secret must be a string, scope " +
				"must be a string"),
		},
		"member in another case": {
			asJSON, `{"Grant_Type":"client_credentials","Client_ID":"a"}`, 400, invalid("client_secret is missing"),
		},
		"empty JSON body":   {asJSON, ``, 400, invalid("the body is empty")},
		"no JSON":           {asJSON, form(), 400, invalid("the body is not valid JSON at byte 0")},
		"JSON of no object": {asJSON, `[]`, 400, invalid("the body must be a JSON object")},
		"duplicate member": {
			asJSON, grantJSON + `,"client_id":"x"}`, 400, invalid("duplicate member in a JSON object"),
		},
		"duplicate parameter": {
			asForm, form() + "&client_id=x", 400, invalid("client_id appears more than once"),
		},
		"duplicate scope": {
			asForm, "scope=a&" + form("scope", "b"), 400, invalid("scope appears more than once"),
		},
		"broken form":          {asForm, "client_id=%zz", 400, invalid("the body is not a form")},
		"form with semicolons": {asForm, "a;b", 400, invalid("the body is not a form")},
		"grant of another type": {
			asForm, form("grant_type", "password"), 400,
			`{"error":"unsupported_grant_type","error_description":"grant_type must be client_credentials"}`,
		},
		"grant type in another case": {
			asForm, form("grant_type", "Client_Credentials"), 400,
			`{"error":"unsupported_grant_type","error_description":"grant_type must be client_credentials"}`,
		},
		"scope of nobody": {
			asForm, form("scope", "admin"), 400,
			`{"error":"invalid_scope","error_description":"the client does not hold the requested scope"}`,
		},
		"scope of another API": {
			asForm, form("scope", "engage_inform"), 400,
			`{"error":"invalid_scope","error_description":"the client does not hold the requested scope"}`,
		},
		"scope that the client lacks": {
			asForm, form("scope", "ott_send ott_registration_read"), 400,
			`{"error":"invalid_scope","error_description":"the client does not hold the requested scope"}`,
		},
		"client of another API": {
			asForm, form("client_id", "engage-client", "client_secret", "hunter2"), 400,
			`{"error":"invalid_scope","error_description":"the client does not hold the requested scope"}`,
		},
		"wrong secret": {
			asForm, form("client_secret", "wrong"), 401,
			`{"error":"invalid_client","error_description":"client authentication failed"}`,
		},
		"unknown client": {
			asForm, form("client_id", "nobody"), 401,
			`{"error":"invalid_client","error_description":"client authentication failed"}`,
		},
		"client id of no UTF-8": {
			asForm, form("client_id", "ott-client\xff"), 401,
			`{"error":"invalid_client","error_description":"client authentication failed"}`,
		},
		"no media type": {
			nil, form(), 415, invalid("Content-Type must be application/json or application/x-www-form-urlencoded"),
		},
		"another media type": {
			map[string]string{"content-type": "text/plain"}, form(), 415,
			invalid("Content-Type must be application/json or application/x-www-form-urlencoded"),
		},
		"unknown content encoding": {
			map[string]string{"content-type": "application/json", "content-encoding": "br"}, grantJSON + `}`, 415,
			invalid("Content-Encoding must be gzip or absent"),
		},
		"content that is not gzip": {
			gzipJSON, grantJSON + `}`, 400, invalid("the body is not gzip, as its Content-Encoding says"),
		},
		"form of 64 KiB and one byte": {
			asForm, strings.Repeat("a", 64<<10+1), 413, invalid("the body is larger than 64 KiB when decoded"),
		},
		"JSON of more than 64 KiB": {
			asJSON, grantJSON + strings.Repeat(" ", 64<<10) + `}`, 413,
			invalid("the body is larger than 64 KiB when decoded"),
		},
		"gzip form that never ends": {
			map[string]string{"content-type": "application/x-www-form-urlencoded", "content-encoding": "gzip"},
			gzipped(t, mega, 1000), 413, invalid("the body is larger than 64 KiB when decoded"),
		},
		"form whose gzip is cut short": {
			map[string]string{"content-type": "application/x-www-form-urlencoded", "content-encoding": "gzip"},
			gzipped(t, form(), 1)[:30], 400, invalid("the body's base64 or gzip encoding is broken"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := newTokenEndpoint(vault{}).post(t, test.body, test.headers)
				assert.Equal(t, test.status, answer.StatusCode)
				assert.Equal(t, test.want, answer.Body)
				assert.Equal(t, "application/json", answer.Headers["content-type"])
				assert.Equal(t, "no-store", answer.Headers["cache-control"])
			})
		})
	}
}

func TestTokenWhenSecretsManagerFails(t *testing.T) {
	for name, test := range map[string]struct {
		failure error
		status  int
		want    string
	}{
		"in time": {
			context.DeadlineExceeded, 503, `{"error":"temporarily_unavailable","error_description":"try again later"}`,
		},
		"for us": {
			errors.New("hunter2: AccessDenied"), 500,
			`{"error":"server_error","error_description":"internal server error"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTokenEndpoint(vault{failure: test.failure})
			answer, err := e.serve(t.Context(), events.APIGatewayV2HTTPRequest{Headers: asForm, Body: form()})
			require.NoError(t, err)
			assert.Equal(t, test.status, answer.StatusCode)
			assert.Equal(t, test.want, answer.Body)
			assert.Contains(t, e.log.String(), `"serverErrors":1`)
		})
	}
}
