// Package partner is what the clients of the partners' HTTP APIs have in common.
package partner

import (
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// MaxRetryAfter is the longest wait that a partner's answer can ask for.
const MaxRetryAfter = time.Hour

// RetryAfter returns the wait that an answer asks for by Retry-After, in either form (RFC 9110 §10.2.3), at most
// MaxRetryAfter; 0 if it asks for none.
func RetryAfter(answer http.Header, now time.Time) time.Duration {
	text := answer.Get("Retry-After")
	var after time.Duration
	if seconds, err := strconv.Atoi(text); err == nil {
		after = time.Duration(min(seconds, int(MaxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = at.Sub(now)
	}
	return max(0, min(after, MaxRetryAfter))
}

// IsThisMachine reports whether a URL's host is a loopback address or name, or Docker's name for the machine that a
// container runs on (sam local): a stand-in there is spoken to without TLS, a partner never.
func IsThisMachine(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback() || host == "localhost" || host == "host.docker.internal"
}
