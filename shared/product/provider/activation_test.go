package provider_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock/clocktest"
	"carillon/shared/fault"
	"carillon/shared/product/provider"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func TestParseActivationHosts(t *testing.T) {
	for pattern, ok := range map[string]bool{
		"activate.example.com": true, "*.example.com": true, "*": true, "Activate.Example.COM": true,
		"a-b.example": true, "*.a.b.c": true,
		"": false, "example": false, "*.com": false, "**": false, "*.*.com": false, "a.*.com": false,
		"*example.com": false, "https://a.example": false,
		"a.example/x": false, "a.example:443": false, "a.example.": false, ".example.com": false, "a..example": false,
		"-a.example":     false,
		"user@a.example": false, "1.2.3.4": false, "[::1]": false, "a b.example": false, "ä.example": false,
		"a_b.example": true, "a.1x": true, "a.0x1": false, "1.example": true,
		strings.Repeat("a", 63) + ".example": true, strings.Repeat("a", 64) + ".example": false,
		"a-.example": false, "*.": false, "*.*": false,
		strings.Repeat("a.", 130) + "example": false,
	} {
		_, err := provider.ParseActivationHosts([]string{"a.example", pattern})
		assert.Equal(t, ok, err == nil, "%q: %v", pattern, err)
	}
}

func TestActivationHosts(t *testing.T) {
	hosts := []string{"activate.example.com", "*.bango.example"}
	tests := map[string]struct {
		hosts []string
		link  string
		ok    bool
	}{
		"the host":                      {hosts, "https://activate.example.com/x", true},
		"in capital letters":            {hosts, "https://ACTIVATE.example.com/x", true},
		"with a port":                   {hosts, "https://activate.example.com:8443/x", true},
		"with nothing behind":           {hosts, "https://activate.example.com", true},
		"below a wildcard":              {hosts, "https://a.bango.example/x", true},
		"far below a wildcard":          {hosts, "https://a.b.bango.example/x", true},
		"any host":                      {[]string{"*"}, "https://192.0.2.1:8443/x", true},
		"the wildcard's own":            {hosts, "https://bango.example/x", false},
		"an empty label":                {hosts, "https://.bango.example/x", false},
		"another":                       {hosts, "https://example.com/x", false},
		"below a host":                  {hosts, "https://x.activate.example.com/x", false},
		"a longer one":                  {hosts, "https://activate.example.com.evil.example/x", false},
		"a similar one":                 {hosts, "https://evilbango.example/x", false},
		"in the path":                   {hosts, "https://evil.example/activate.example.com", false},
		"in the query":                  {hosts, "https://evil.example?activate.example.com", false},
		"as a user":                     {hosts, "https://activate.example.com@evil.example/", false},
		"as a user, with any host":      {[]string{"*"}, "https://activate.example.com@evil.example/", false},
		"a backslash":                   {hosts, `https://evil.example\.bango.example/x`, false},
		"a final dot":                   {hosts, "https://activate.example.com./x", false},
		"an encoded dot":                {hosts, "https://activate%2eexample.com/x", false},
		"not https":                     {hosts, "http://activate.example.com/x", false},
		"not https, with any host":      {[]string{"*"}, "http://activate.example.com/x", false},
		"no host is allowed by default": {nil, "https://activate.example.com/x", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			allowed, err := provider.ParseActivationHosts(test.hosts)
			require.NoError(t, err)
			server := newProviderServer(t, answering(http.StatusAccepted,
				strings.Replace(granted, activationURL, strings.ReplaceAll(test.link, `\`, `\\`), 1)))
			credentials := newProviderCredentials(t, `{"username":"carillon","password":"x"}`)
			secrets := secret.NewCache(secretstore.New(credentials.manager))
			p, err := provider.New(server, allowed, secrets, credentials.name, time.Minute, clocktest.New())
			require.NoError(t, err)
			entitlement, err := p.Entitle(t.Context(), "operation-1", entitlementRequest)
			if test.ok {
				require.NoError(t, err)
				assert.Equal(t, test.link, entitlement.ActivationURL.Reveal())
				return
			}
			assert.True(t, fault.Is(err, fault.BadGateway), "%v", err)
			assert.NotContains(t, err.Error(), "example")
		})
	}
}
