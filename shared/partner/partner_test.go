package partner_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"carillon/shared/partner"
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
		assert.Equal(t, want, partner.RetryAfter(http.Header{"Retry-After": {text}}, now), text)
	}
}

func TestIsThisMachine(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.8.9.10": true, "::1": true, "localhost": true, "host.docker.internal": true,
		"": false, "example.com": false, "localhost.example.com": false, "10.0.0.1": false, "169.254.169.254": false, "0.0.0.0": false, "127.1": false,
	} {
		assert.Equal(t, want, partner.IsThisMachine(host), host)
	}
}
