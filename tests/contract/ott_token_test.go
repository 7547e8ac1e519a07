package contract_test

import (
	"net/url"
	"strings"
	"testing"

	"carillon/shared/ott"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// allOTTScopes are what a token of the demo's client has.
var allOTTScopes = func() string {
	return strings.Join(ott.Scopes(), " ")
}()

func ottCredentials() object {
	return object{
		"grant_type":    "client_credentials",
		"client_id":     bundle.Demo.OTT.ClientID,
		"client_secret": bundle.Demo.OTT.ClientSecret,
	}
}

// form writes an object of texts as application/x-www-form-urlencoded.
func form(o object) string {
	values := url.Values{}
	for name, value := range o {
		values.Set(name, value.(string))
	}
	return values.Encode()
}

// docs/contract.md §1: POST /v2/token, JSON body or form body → 200.
func TestOTTTokenIsGranted(t *testing.T) {
	t.Parallel()
	const formType = "application/x-www-form-urlencoded"
	for name, test := range map[string]struct {
		body, contentType, scope string
	}{
		"JSON":                    {ottCredentials().text(t), "application/json", allOTTScopes},
		"JSON with a charset":     {ottCredentials().text(t), "application/json; charset=utf-8", allOTTScopes},
		"form":                    {form(ottCredentials()), formType, allOTTScopes},
		"form with a charset":     {form(ottCredentials()), formType + ";charset=UTF-8", allOTTScopes},
		"one scope":               {ottCredentials().set("ott_send", "scope").text(t), "application/json", "ott_send"},
		"one scope by form":       {form(ottCredentials().set("ott_send", "scope")), formType, "ott_send"},
		"two scopes":              {ottCredentials().set("ott_send ott_registration_write", "scope").text(t), "application/json", "ott_registration_write ott_send"},
		"an empty scope is none":  {ottCredentials().set("", "scope").text(t), "application/json", allOTTScopes},
		"a null scope is none":    {ottCredentials().set(nil, "scope").text(t), "application/json", allOTTScopes},
		"unknown members":         {ottCredentials().set("x", "account_id").text(t), "application/json", allOTTScopes},
		"unknown form parameters": {form(ottCredentials().set("x", "account_id")), formType, allOTTScopes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := send(t, ottToken, test.body, "Content-Type", test.contentType)
			require.Equal(t, 200, a.Status, "%s", a.Body)
			assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
			body := a.Object(t)
			secrets.add(body["access_token"].(string))
			assert.ElementsMatch(t, strings.Fields(test.scope), strings.Fields(body["scope"].(string)))
			assert.Equal(t, bundle.BaseURL+"/", body["rest_instance_url"])
			assert.Equal(t, "Bearer", body["token_type"])
		})
	}
}

// docs/contract.md §1: errors of RFC 6749 §5.2.
func TestOTTTokenIsRefused(t *testing.T) {
	t.Parallel()
	const formType = "application/x-www-form-urlencoded"
	for name, test := range map[string]struct {
		body, contentType string
		status            int
		err               string
		names             []string // that the description has
	}{
		"invalid_request: grant_type missing":     {ottCredentials().without("grant_type").text(t), "", 400, "invalid_request", []string{"grant_type"}},
		"invalid_request: client_id missing":      {ottCredentials().without("client_id").text(t), "", 400, "invalid_request", []string{"client_id"}},
		"invalid_request: client_secret missing":  {ottCredentials().without("client_secret").text(t), "", 400, "invalid_request", []string{"client_secret"}},
		"invalid_request: client_id blank":        {ottCredentials().set(" ", "client_id").text(t), "", 400, "invalid_request", []string{"client_id"}},
		"invalid_request: all missing":            {`{}`, "", 400, "invalid_request", []string{"grant_type", "client_id", "client_secret"}},
		"invalid_request: all null":               {`{"grant_type":null,"client_id":null,"client_secret":null}`, "", 400, "invalid_request", []string{"grant_type", "client_id", "client_secret"}},
		"invalid_request: all of wrong types":     {`{"grant_type":1,"client_id":{},"client_secret":[],"scope":true}`, "", 400, "invalid_request", []string{"grant_type", "client_id", "client_secret", "scope"}},
		"invalid_request: an empty form":          {"", formType, 400, "invalid_request", []string{"grant_type", "client_id", "client_secret"}},
		"invalid_request: a parameter twice":      {form(ottCredentials()) + "&client_id=x", formType, 400, "invalid_request", []string{"client_id"}},
		"invalid_request: no form":                {"grant_type=%zz", formType, 400, "invalid_request", nil},
		"invalid_request: a form of 70,000 bytes": {form(ottCredentials()) + "&x=" + strings.Repeat("x", 70_000), formType, 413, "invalid_request", nil},
		"invalid_request: JSON of 70,000 bytes":   {padded(ottCredentials().text(t), 70_000), "", 413, "invalid_request", nil},
		"invalid_request: another media type":     {ottCredentials().text(t), "text/plain", 415, "invalid_request", nil},
		"invalid_request: binary":                 {ottCredentials().text(t), "application/octet-stream", 415, "invalid_request", nil},
		"unsupported_grant_type":                  {ottCredentials().set("password", "grant_type").text(t), "", 400, "unsupported_grant_type", nil},
		"unsupported_grant_type by form":          {form(ottCredentials().set("refresh_token", "grant_type")), formType, 400, "unsupported_grant_type", nil},
		"invalid_client: unknown":                 {ottCredentials().set("nobody-knows", "client_id").text(t), "", 401, "invalid_client", nil},
		"invalid_client: wrong secret":            {ottCredentials().set("wrong-secret", "client_secret").text(t), "", 401, "invalid_client", nil},
		"invalid_client: wrong secret by form":    {form(ottCredentials().set("wrong-secret", "client_secret")), formType, 401, "invalid_client", nil},
		"invalid_client: no id that can be":       {ottCredentials().set("../client/*?", "client_id").text(t), "", 401, "invalid_client", nil},
		"invalid_client: an id of 10,000":         {ottCredentials().set(strings.Repeat("x", 10_000), "client_id").text(t), "", 401, "invalid_client", nil},
		"invalid_client: another client's secret": {ottCredentials().set(bundle.Demo.OTTOther.ClientSecret, "client_secret").text(t), "", 401, "invalid_client", nil},
		"invalid_scope: unknown":                  {ottCredentials().set("everything", "scope").text(t), "", 400, "invalid_scope", nil},
		"invalid_scope: one of two unknown":       {ottCredentials().set("ott_send everything", "scope").text(t), "", 400, "invalid_scope", nil},
		"invalid_scope: another API's":            {ottCredentials().set("engage_inform", "scope").text(t), "", 400, "invalid_scope", nil},
		"invalid_scope: not the client's": {object{
			"grant_type": "client_credentials", "client_id": ottReader.ClientID, "client_secret": ottReader.ClientSecret, "scope": "ott_send",
		}.text(t), "", 400, "invalid_scope", nil},
		"invalid_scope: a client of another API": {object{
			"grant_type": "client_credentials", "client_id": bundle.Demo.Engage.ClientID, "client_secret": bundle.Demo.Engage.ClientSecret,
		}.text(t), "", 400, "invalid_scope", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contentType := test.contentType
			if contentType == "" {
				contentType = "application/json"
			}
			a := send(t, ottToken, test.body, "Content-Type", contentType)
			require.Equal(t, test.status, a.Status, "%s", a.Body)
			assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
			body := a.Object(t)
			assert.Equal(t, test.err, body["error"])
			for _, name := range test.names {
				assert.Contains(t, body["error_description"], name)
			}
		})
	}
}
