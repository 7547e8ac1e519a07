package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/api"
	"carillon/shared/ott/otttest"
	"carillon/shared/secret"
	"carillon/shared/token"
)

// newRegisterEndpoint has no store: what these tests send never reaches one.
func newRegisterEndpoint(v vault) *endpoint {
	handler := &api.RegisterHandler{Tokens: api.NewAuthority(secret.NewCache(v), keyName)}
	return newEndpoint(handler.Serve, api.EncodeError)
}

func bearer(t *testing.T, scopes ...string) string {
	t.Helper()
	signed, err := api.NewAuthority(secret.NewCache(vault{}), keyName).Issue(t.Context(),
		clientauth.Client{ID: "ott-client", Tenant: "tenant-1"}, scopes)
	require.NoError(t, err)
	return "Bearer " + signed
}

const writeScope = ott.ScopeRegistrationWrite

// The rows of docs/contract.md §1 that need no store, as they come back on the wire.
func TestContractRegistrationErrors(t *testing.T) {
	single := func(message string, code string) string {
		return `{"message":"` + message + `","errorcode":` + code + `,"documentation":""}`
	}
	aggregate := func(errors ...string) string {
		return `{"message":"Please fix the following errors","errorcode":10006,"documentation":"",` +
			`"validationErrors":[` +
			strings.Join(errors, ",") + `]}`
	}
	const unauthorized = `{"message":"Not Authorized","errorcode":0,"documentation":""}`
	engage := &token.Authority{
		Keys: secret.NewCache(vault{}), KeyName: keyName, Audience: "engage", Lifetime: time.Minute,
	}
	engageToken, err := engage.Issue(t.Context(), clientauth.Client{ID: "ott-client", Tenant: "tenant-1"},
		[]string{writeScope})
	require.NoError(t, err)
	write := bearer(t, writeScope)
	tests := map[string]struct {
		authorization, mediaType, encoding, body string
		status                                   int
		want                                     string
	}{
		"field empty or missing: the seed's example": {
			write, "application/json", "",
			otttest.Body(t, otttest.SeedMessenger, "endpointUrl", "", otttest.Platform, ""), 400,
			aggregate(single("EndpointUrl must be provided", "10002"),
				single("OttPlatformName must be provided", "10002")),
		},
		"ottPlatformName not line or messenger": {
			write, "application/json; charset=utf-8", "", otttest.Body(t, otttest.SeedLINE, otttest.Platform, `"x"`),
			400, aggregate(single("OttPlatformName is invalid", "10005")),
		},
		"ottPlatformAttributes missing": {
			write, "application/json", "", otttest.Body(t, otttest.SeedLINE, otttest.Attributes, ``), 400,
			aggregate(single("OttPlatformAttributes is invalid", "10005")),
		},
		"wrong JSON type": {
			write, "application/json", "", otttest.Body(t, otttest.SeedLINE, "channelId", `1`), 400,
			aggregate(single("ChannelId is invalid", "10001")),
		},
		"flag not 0, 1, true, false": {
			write, "application/json", "", otttest.Body(t, otttest.SeedLINE, "isTestChannel", `2`), 400,
			aggregate(single("isTestChannel is invalid", "10005")),
		},
		"endpointUrl not public https": {
			write, "application/json", "", otttest.Body(t, otttest.SeedLINE, "endpointUrl", `"https://127.0.0.1"`), 400,
			aggregate(single("EndpointUrl is invalid", "10005")),
		},
		"body not JSON": {
			write, "application/json", "", `{`, 400, single("the body is not valid JSON at byte 1", "10004"),
		},
		"body empty": {
			write, "application/json", "", ``, 400, single("the body is empty", "10004"),
		},
		"not application/json":     {write, "text/plain", "", otttest.SeedLINE, 415, ""},
		"no media type":            {write, "", "", otttest.SeedLINE, 415, ""},
		"unknown content encoding": {write, "application/json", "br", otttest.SeedLINE, 415, ""},
		"body too large": {write, "application/json", "", strings.Repeat(mega, 33), 413,
			single("the body is larger than 32 MiB when decoded", "10004")},
		"no token":               {"", "application/json", "", otttest.SeedLINE, 401, unauthorized},
		"bad token":              {"Bearer x", "application/json", "", otttest.SeedLINE, 401, unauthorized},
		"bad token and bad body": {"Bearer x", "text/plain", "br", `{`, 401, unauthorized},
		"token of another API": {
			"Bearer " + engageToken, "application/json", "", otttest.SeedLINE, 401, unauthorized,
		},
		"token lacks the scope": {
			bearer(t, ott.ScopeRegistrationRead, ott.ScopeSend), "application/json", "",
			otttest.SeedLINE, 403, single("Insufficient Privileges", "20002"),
		},
		"token without a scope at all": {
			bearer(t), "application/json", "", `{`, 403, single("Insufficient Privileges", "20002"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			headers := map[string]string{
				"authorization": test.authorization, "content-type": test.mediaType, "content-encoding": test.encoding,
			}
			e := newRegisterEndpoint(vault{})
			answer := e.post(t, test.body, headers)
			assert.Equal(t, test.status, answer.StatusCode)
			assert.Equal(t, test.want, answer.Body)
			if test.status == http.StatusUnauthorized {
				assert.Equal(t, "Bearer", answer.Headers["www-authenticate"])
			}
			assert.Contains(t, e.log.String(), `"serverErrors":0`)
			for _, secret := range []string{
				"03d537gg656gvkbe9b430f002e9c4517", "31234arajcauoherbasuhb213ijqjohbjhb123", "someaccesstoken",
				"this_is_the_verify_token",
			} {
				assert.NotContains(t, answer.Body+e.log.String(), secret)
			}
		})
	}
}

func TestRegistrationWhenTheSigningKeyCannotBeRead(t *testing.T) {
	e := newRegisterEndpoint(vault{failure: errors.New("AccessDenied")})
	answer := e.post(t, otttest.SeedLINE, map[string]string{"authorization": bearer(t, writeScope)})
	assert.Equal(t, http.StatusInternalServerError, answer.StatusCode)
	assert.Equal(t, `{"message":"Internal Server Error","errorcode":0,"documentation":""}`, answer.Body)
}

// What no row of these two calls has yet, but others of the API have.
func TestEncodeError(t *testing.T) {
	tests := map[fault.Code]struct {
		status int
		body   string
	}{
		fault.NotFound: {
			404, `{"message":"The registration does not exist","errorcode":30003,"documentation":""}`,
		},
		fault.Conflict: {
			409, `{"message":"The request contradicts an earlier one","errorcode":30004,"documentation":""}`,
		},
		fault.TooManyRequests: {429, `{"message":"Too Many Requests","errorcode":0,"documentation":""}`},
		fault.Unavailable:     {503, `{"message":"Service Unavailable","errorcode":0,"documentation":""}`},
		fault.Internal:        {500, `{"message":"Internal Server Error","errorcode":0,"documentation":""}`},
		fault.BadGateway:      {500, `{"message":"Internal Server Error","errorcode":0,"documentation":""}`},
	}
	for code, test := range tests {
		t.Run(string(code), func(t *testing.T) {
			answer := api.EncodeError(nil, &fault.Error{
				Code: code, Cause: errors.New("hunter2"), RetryAfter: time.Second,
			})
			assert.Equal(t, test.status, answer.Status)
			assert.Equal(t, test.body, answer.Body)
		})
	}
}
