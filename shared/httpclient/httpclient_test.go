package httpclient_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/httpclient"
)

// RFC 9110 §10.2.3: seconds, or a date.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"-5":                            0,
		"soon":                          0,
		"1.5":                           0,
		"120":                           2 * time.Minute,
		"3601":                          time.Hour,
		"9223372036854775807":           time.Hour,
		"92233720368547758070":          0,
		"Sun, 22 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Sun, 22 Nov 2026 11:59:30 GMT": 0,
		"Mon, 23 Nov 2026 12:00:00 GMT": time.Hour,
	} {
		assert.Equal(t, want, httpclient.RetryAfter(http.Header{"Retry-After": {text}}, now), text)
	}
}

func TestIsTemporary(t *testing.T) {
	for status, want := range map[int]bool{
		200: false, 302: false, 400: false, 401: false, 404: false, 409: false, 499: false,
		408: true, 425: true, 429: true, 500: true, 503: true, 599: true,
	} {
		assert.Equal(t, want, httpclient.IsTemporary(status), status)
	}
}

func TestParseURL(t *testing.T) {
	for address, want := range map[string]string{
		"https://gateway.example.com/push":   "",
		"https://gateway.example.com:8443":   "",
		"http://127.0.0.1:3000/push":         "",
		"http://host.docker.internal:3000":   "",
		"http://gateway.example.com/push":    "is not an https URL",
		"ftp://gateway.example.com":          "is not an https URL",
		"https://user:hunter2@example.com":   "has credentials, a query or a fragment",
		"https://example.com/?token=hunter2": "has credentials, a query or a fragment",
		"https://example.com/#hunter2":       "has credentials, a query or a fragment",
		"https://":                           "is not a URL",
		"gateway.example.com":                "is not a URL",
		"https://example.com:hunter2/":       "is not a URL",
		"":                                   "is not a URL",
	} {
		u, err := httpclient.ParseURL(address)
		if want == "" {
			require.NoError(t, err, address)
			assert.Equal(t, address, u.String())
			continue
		}
		assert.EqualError(t, err, want, address)
	}
}

// The credentials go to one address only.
func TestRedirectsAreAnswers(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("https://elsewhere.example.com/", http.StatusFound))
	defer server.Close()
	response, err := httpclient.New(httpclient.Options{Timeout: time.Minute, DialTimeout: time.Minute}).Get(server.URL)
	require.NoError(t, err)
	assert.Equal(t, http.StatusFound, response.StatusCode)
	require.NoError(t, response.Body.Close())
}
