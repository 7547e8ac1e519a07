package provider_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/fault"
	"carillon/shared/product"
	"carillon/shared/product/provider"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

const (
	activationURL = "https://activate.example.com/one-time-token"
	granted       = `{"entitlementId":"e-1","responseCode":"CLIENT_ACTION_REQUIRED",` +
		`"responseMessage":"Open the link.","parameters":{"action":"NAVIGATE_TO_URL","url":"` + activationURL +
		`","urlExpiry":"2026-11-23T10:00:00Z"}}`
)

var entitlementRequest = product.EntitlementRequest{
	CustomerIdentifier: "8001234567", MerchantAccountKey: "demo-merchant-pa", ProductKey: "DISNEY_PLUS_PA",
	OfferKey: "DISNEY_PLUS_PA_MONTHLY",
}

// providerCredentials is the provider's secret, and a count of how often it was read.
type providerCredentials struct {
	t       *testing.T
	name    string
	manager *secretsmanager.Client
	reads   atomic.Int64
}

func newProviderCredentials(t *testing.T, value string) *providerCredentials {
	t.Helper()
	c := &providerCredentials{t: t, name: emulatortest.StackName() + "/provider/bango"}
	c.manager = emulatortest.SecretsManagerAt(emulatortest.Between(t, emulatortest.AWSEndpoint(),
		func(_ http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation == "GetSecretValue" {
				c.reads.Add(1)
			}
			return false
		}))
	_, err := c.manager.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &c.name,
		SecretString: &value})
	require.NoError(t, err)
	return c
}

// rotate puts other credentials in place.
func (c *providerCredentials) rotate(value string) {
	c.t.Helper()
	_, err := c.manager.PutSecretValue(c.t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &c.name,
		SecretString: &value})
	require.NoError(c.t, err)
}

// newProvider returns a client of a provider that handler plays, and its credentials.
func newProvider(
	t *testing.T, handler http.HandlerFunc, timeout time.Duration) (*provider.Client, *providerCredentials,
) {
	t.Helper()
	url := newProviderServer(t, handler)
	credentials := newProviderCredentials(t, `{"username":"carillon","password":"first-password"}`)
	return newProviderAt(t, url+"/resale/", credentials, timeout), credentials
}

// newProviderServer returns the URL of a provider that handler plays.
func newProviderServer(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func newProviderAt(
	t *testing.T, url string, credentials *providerCredentials, timeout time.Duration,
) *provider.Client {
	t.Helper()
	hosts, err := provider.ParseActivationHosts([]string{"activate.example.com", "a.example"})
	require.NoError(t, err)
	secrets := secret.NewCache(secretstore.New(credentials.manager))
	p, err := provider.New(url, hosts, secrets, credentials.name, timeout, clocktest.New())
	require.NoError(t, err)
	return p
}

func answering(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestEntitleAsksAsTheContractSays(t *testing.T) {
	var got *http.Request
	var body string
	p, _ := newProvider(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		answering(http.StatusAccepted, granted)(w, r)
	}, time.Minute)
	entitlement, err := p.Entitle(t.Context(), "operation-1", entitlementRequest)
	require.NoError(t, err)
	assert.Equal(t, "POST /resale/v1/entitlement", got.Method+" "+got.URL.Path)
	username, password, ok := got.BasicAuth()
	assert.True(t, ok)
	assert.Equal(t, "carillon:first-password", username+":"+password)
	assert.Equal(t, "operation-1", got.Header.Get("X-RequestIdentifier"))
	assert.Equal(t, "application/json", got.Header.Get("Content-Type"))
	assert.NotContains(t, got.Header, "Idempotency-Key")
	assert.JSONEq(t,
		`{"customerIdentifier":"8001234567","merchantAccountKey":"demo-merchant-pa","productKey":"DISNEY_PLUS_PA",`+
			`"offerKey":"DISNEY_PLUS_PA_MONTHLY"}`, body)
	assert.Equal(t, product.Entitlement{
		ID: "e-1", ActivationURL: secret.NewText(activationURL),
		ActivationExpires: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
	}, entitlement)
	assert.NotContains(t, fmt.Sprintf("%+v", entitlement), activationURL)
}

// docs/contract.md §3, the provider's response codes.
func TestEntitleMapsEveryAnswerOfTheProvider(t *testing.T) {
	const refused = product.ProviderRefused
	refusal := func(code, message string) string {
		text, _ := json.Marshal(map[string]string{"responseCode": code, "responseMessage": message})
		return string(text)
	}
	grant := func(url, expiry string) string {
		text, _ := json.Marshal(map[string]any{"entitlementId": "e-1", "responseCode": "CLIENT_ACTION_REQUIRED",
			"parameters": map[string]string{"url": url, "urlExpiry": expiry}})
		return string(text)
	}
	tests := map[string]struct {
		status  int
		body    string
		headers []string
		code    fault.Code // "" if it is a grant
		message string
		retry   time.Duration
	}{
		"OK": {status: 200, body: `{"entitlementId":"e-1","responseCode":"OK"}`},
		"OK with null parameters": {status: 200,
			body: `{"entitlementId":"e-1","responseCode":"OK","parameters":null,"more":[1]}`},
		"OK with a link": {status: 200, body: strings.Replace(granted, "CLIENT_ACTION_REQUIRED",
			"OK", 1)},
		"CLIENT_ACTION_REQUIRED": {status: 202, body: granted},
		"a link without expiry":  {status: 202, body: grant("https://a.example/x", "")},
		"BAD_REQUEST": {status: 400, body: refusal("BAD_REQUEST", "ProductKey is invalid."),
			code: refused, message: "BAD_REQUEST-ProductKey is invalid."},
		"BAD_REQUEST with status 200": {status: 200, body: refusal("BAD_REQUEST", "ProductKey is invalid."),
			code: refused, message: "BAD_REQUEST-ProductKey is invalid."},
		"NOT_FOUND": {status: 404, body: refusal("NOT_FOUND", "No such merchant."),
			code: refused, message: "NOT_FOUND-No such merchant."},
		"NOT_AVAILABLE": {status: 403, body: refusal("NOT_AVAILABLE", "Not for this customer."),
			code: refused, message: "NOT_AVAILABLE-Not for this customer."},
		"ALREADY_EXISTS": {status: 409, body: refusal("ALREADY_EXISTS", "Active already."),
			code: refused, message: "ALREADY_EXISTS-Active already."},
		"a refusal without words": {status: 400, body: refusal("BAD_REQUEST", " "), code: refused,
			message: "BAD_REQUEST"},
		"a refusal with control characters": {status: 400, body: refusal("BAD_REQUEST", "a\r\nb\x00\u202ec"),
			code: refused, message: "BAD_REQUEST-a bc"},
		"a refusal with many words": {status: 400, body: refusal("BAD_REQUEST", strings.Repeat("ä", 10_000)),
			code: refused, message: "BAD_REQUEST-" + strings.Repeat("ä", 255) + "…"},
		"UNAUTHORIZED": {status: 401, body: refusal("UNAUTHORIZED", "Wrong password."),
			code: fault.BadGateway},
		"TOO_MANY_REQUESTS": {status: 429, body: refusal("TOO_MANY_REQUESTS", ""),
			headers: []string{"Retry-After", "17"}, code: fault.Unavailable, retry: 17 * time.Second},
		"TOO_MANY_REQUESTS, no Retry-After": {status: 429, body: refusal("TOO_MANY_REQUESTS", ""),
			code: fault.Unavailable, retry: 5 * time.Second},
		"TOO_MANY_REQUESTS for ever": {status: 429, body: refusal("TOO_MANY_REQUESTS", ""),
			headers: []string{"Retry-After", "9999999"}, code: fault.Unavailable, retry: time.Hour},
		"TOO_MANY_REQUESTS, negative": {status: 429, body: refusal("TOO_MANY_REQUESTS", ""),
			headers: []string{"Retry-After", "-1"}, code: fault.Unavailable, retry: 5 * time.Second},
		"INTERNAL_ERROR": {status: 500, body: refusal("INTERNAL_ERROR", "NullPointerException"),
			code: fault.BadGateway},
		"INTERNAL_ERROR with status 200": {status: 200, body: refusal("INTERNAL_ERROR", ""), code: fault.BadGateway},
		"SERVICE_UNAVAILABLE": {status: 503, body: refusal("SERVICE_UNAVAILABLE", "Maintenance."),
			headers: []string{"Retry-After", "120"}, code: fault.Unavailable, retry: 2 * time.Minute},
		"SERVICE_UNAVAILABLE, no Retry-After": {status: 503, body: refusal("SERVICE_UNAVAILABLE", ""),
			code: fault.Unavailable, retry: 5 * time.Second},
		"SERVICE_UNAVAILABLE with status 200": {status: 200, body: refusal("SERVICE_UNAVAILABLE", ""),
			headers: []string{"Retry-After", "7"}, code: fault.Unavailable, retry: 7 * time.Second},
		"503 without a code": {status: 503, body: "<html>", headers: []string{"Retry-After", "86400"},
			code: fault.Unavailable, retry: time.Hour},
		"503 without a body":     {status: 503, body: "", code: fault.Unavailable, retry: 5 * time.Second},
		"503, an internal error": {status: 503, body: refusal("INTERNAL_ERROR", ""), code: fault.BadGateway},

		"401 without a code": {status: 401, body: "no", code: fault.BadGateway},
		"403 without a code": {status: 403, body: "", code: fault.BadGateway},
		"408 without a code": {status: 408, body: "", code: fault.GatewayTimeout},
		"429 without a code": {status: 429, body: "<html>", headers: []string{"Retry-After", "3"},
			code: fault.Unavailable, retry: 3 * time.Second},
		"429 with an unknown code": {status: 429, body: refusal("SLOW_DOWN", ""), code: fault.Unavailable,
			retry: 5 * time.Second},
		"500 without a code":            {status: 500, body: "oops", code: fault.BadGateway},
		"504 without a code":            {status: 504, body: "<html>", code: fault.GatewayTimeout},
		"400 without a code":            {status: 400, body: "<html>", code: fault.BadGateway},
		"404 without a code":            {status: 404, body: "<html>", code: fault.BadGateway},
		"200 without a body":            {status: 200, body: "", code: fault.BadGateway},
		"204":                           {status: 204, body: "", code: fault.BadGateway},
		"200 that is no JSON":           {status: 200, body: "<html>OK</html>", code: fault.BadGateway},
		"200 with another JSON":         {status: 200, body: `[]`, code: fault.BadGateway},
		"200 with an unknown code":      {status: 200, body: refusal("MAYBE", ""), code: fault.BadGateway},
		"a truncated grant":             {status: 202, body: granted[:len(granted)-1], code: fault.BadGateway},
		"a grant with something behind": {status: 202, body: granted + granted, code: fault.BadGateway},
		"a grant with a member twice": {status: 202, body: `{"entitlementId":"e-2",` + granted[1:],
			code: fault.BadGateway},
		"a grant with two codes": {status: 202, body: `{"responseCode":"BAD_REQUEST",` + granted[1:],
			code: fault.BadGateway},
		"a grant with two links": {status: 202, body: strings.Replace(granted, `"parameters":{`,
			`"parameters":{"url":"https://a.example/x",`, 1), code: fault.BadGateway},
		"a grant whose id is not UTF-8": {status: 202, body: strings.Replace(granted, "e-1", "\xff", 1),
			code: fault.BadGateway},
		"a link that is a number": {status: 202, body: strings.Replace(granted, `"`+activationURL+`"`, "5", 1),
			code: fault.BadGateway},
		"OK with a link that is an object": {status: 202, code: fault.BadGateway,
			body: `{"entitlementId":"e-1","responseCode":"OK","parameters":{"url":{}}}`},
		"a grant of another type": {status: 202, body: strings.Replace(granted, `"e-1"`, `1`, 1),
			code: fault.BadGateway},
		"a grant over 1 MiB": {status: 202, body: granted + strings.Repeat(" ", 1<<20),
			code: fault.BadGateway},
		"a grant with status 500": {status: 500, body: granted, code: fault.BadGateway},
		"a grant without entitlementId": {status: 202, body: strings.Replace(granted, "e-1", "", 1),
			code: fault.BadGateway},
		"a grant with a line break": {status: 202, body: strings.Replace(granted, "e-1", `e\n1`, 1),
			code: fault.BadGateway},
		"a grant without the link": {status: 202,
			body: `{"entitlementId":"e-1","responseCode":"CLIENT_ACTION_REQUIRED"}`, code: fault.BadGateway},
		"a link that is http":       {status: 202, body: grant("http://a.example/x", ""), code: fault.BadGateway},
		"a link that is javascript": {status: 202, body: grant("javascript:alert(1)", ""), code: fault.BadGateway},
		"a link without a host":     {status: 202, body: grant("https:///x", ""), code: fault.BadGateway},
		"a link with credentials": {status: 202, body: grant("https://bank.example@a.example/x", ""),
			code: fault.BadGateway},
		"a link with a line break": {status: 202, body: grant("https://a.example/x\r\nBcc: x@y.zz", ""),
			code: fault.BadGateway},
		"a link with a space": {status: 202, body: grant("https://a.example/x y", ""),
			code: fault.BadGateway},
		"a long link": {status: 202, body: grant("https://a.example/"+strings.Repeat("x", 10_000-18), "")},
		"a link that is too long": {status: 202, body: grant("https://a.example/"+strings.Repeat("x", 10_000-17), ""),
			code: fault.BadGateway},
		"a redirect": {status: 307, body: granted, headers: []string{"Location", "/elsewhere"},
			code: fault.BadGateway},
		"a redirect to another provider": {status: 302, body: "",
			headers: []string{"Location", "http://127.0.0.1:1/v1/entitlement"}, code: fault.BadGateway},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, _ := newProvider(t, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "/resale/v1/entitlement", r.URL.Path, "redirects are not followed")
				answering(test.status, test.body, test.headers...)(w, r)
			}, time.Minute)
			entitlement, err := p.Entitle(t.Context(), "operation-1", entitlementRequest)
			if test.code == "" {
				require.NoError(t, err)
				assert.Equal(t, "e-1", entitlement.ID)
				return
			}
			failure, ok := errors.AsType[*fault.Error](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, test.code, failure.Code)
			assert.Equal(t, test.message, failure.Message)
			assert.Equal(t, test.retry, failure.RetryAfter)
			assert.Zero(t, entitlement)
			for _, private := range []string{activationURL, "first-password", "a.example"} {
				assert.NotContains(t, err.Error(), private)
			}
		})
	}
}

func TestEntitleGivesUpOnAProviderThatHangs(t *testing.T) {
	tests := map[string]http.HandlerFunc{
		"before its answer": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // so that the server notices the client's leaving
			<-r.Context().Done()
		},
		"within its answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, granted[:20])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			p, _ := newProvider(t, handler, 300*time.Millisecond)
			_, err := p.Entitle(t.Context(), "operation-1", entitlementRequest)
			assert.True(t, fault.Is(err, fault.GatewayTimeout), "%v", err)
		})
	}
}

func TestEntitleReportsAProviderThatIsNotThere(t *testing.T) {
	t.Run("it hangs up", func(t *testing.T) {
		p, _ := newProvider(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, time.Minute)
		_, err := p.Entitle(t.Context(), "operation-1", entitlementRequest)
		assert.True(t, fault.Is(err, fault.BadGateway), "%v", err)
	})
	t.Run("it refuses the connection", func(t *testing.T) {
		gone := httptest.NewServer(http.NotFoundHandler())
		gone.Close()
		p := newProviderAt(t, gone.URL, newProviderCredentials(t, `{"username":"carillon","password":"x"}`),
			time.Minute)
		_, err := p.Entitle(t.Context(), "operation-1", entitlementRequest)
		assert.True(t, fault.Is(err, fault.BadGateway), "%v", err)
	})
}

// The provider's credentials rotate without a deploy: those it no longer takes are read again, once.
func TestEntitleReadsRotatedCredentials(t *testing.T) {
	var mu sync.Mutex
	accepted, calls := "first-password", []string{}
	p, credentials := newProvider(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, password, _ := r.BasicAuth()
		calls = append(calls, r.Header.Get("X-RequestIdentifier")+" "+password)
		if password != accepted {
			answering(http.StatusUnauthorized, `{"responseCode":"UNAUTHORIZED","responseMessage":""}`)(w, r)
			return
		}
		answering(http.StatusAccepted, granted)(w, r)
	}, time.Minute)
	entitle := func(operation string) error {
		_, err := p.Entitle(t.Context(), operation, entitlementRequest)
		return err
	}
	require.NoError(t, entitle("a"))
	require.NoError(t, entitle("b"))
	assert.EqualValues(t, 1, credentials.reads.Load(), "the credentials are cached")

	credentials.rotate(`{"username":"carillon","password":"second-password"}`)
	accepted = "second-password"
	require.NoError(t, entitle("c"))
	require.NoError(t, entitle("d"))
	assert.EqualValues(t, 2, credentials.reads.Load())

	accepted = "third-password" // which nobody told us
	assert.True(t, fault.Is(entitle("e"), fault.BadGateway))
	assert.Equal(t, []string{
		"a first-password", "b first-password", "c first-password", "c second-password", "d second-password",
		"e second-password",
	}, calls)
}

func TestEntitleNeverShowsASecretItCannotRead(t *testing.T) {
	for _, value := range []string{"hunter2-not-json", `[]`, `{"username":"carillon","password":hunter2}`,
		`{"password":"hunter2"}`} {
		p := newProviderAt(t, "https://provider.example.com", newProviderCredentials(t, value), time.Minute)
		_, err := p.Entitle(t.Context(), "operation-1", entitlementRequest)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "hunter2")
		assert.NotErrorAs(t, err, new(*fault.Error), "the deployment is at fault")
	}
}

func TestNewTakesHTTPSOnly(t *testing.T) {
	tests := map[string]bool{
		"https://resale.api.bango.net":          true,
		"https://resale.api.bango.net/path/":    true,
		"http://127.0.0.1:8080":                 true,
		"http://[::1]:8080":                     true,
		"http://localhost:8080":                 true,
		"http://host.docker.internal:8080":      true, // sam local
		"http://resale.api.bango.net":           false,
		"http://10.0.0.1":                       false,
		"http://127.0.0.1.example.com":          false,
		"http://localhost.example.com":          false,
		"ftp://resale.api.bango.net":            false,
		"https://user:hunter2@api.bango.net":    false,
		"https://resale.api.bango.net?key=x":    false,
		"https://resale.api.bango.net#fragment": false,
		"https://":                              false,
		"resale.api.bango.net":                  false,
		"https://hunter2 space/":                false,
		"":                                      false,
	}
	for url, ok := range tests {
		t.Run(url, func(t *testing.T) {
			_, err := provider.New(url, provider.ActivationHosts{}, nil, "carillon/provider/bango", time.Minute,
				clocktest.New())
			if ok {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}
