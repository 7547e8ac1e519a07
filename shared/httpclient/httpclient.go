// Package httpclient is what the clients of the partners' HTTP APIs share.
package httpclient

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"carillon/shared/hostname"
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

// IsTemporary reports whether an answer of this status asks for the same request later: 408, 425, 429 and 5xx.
func IsTemporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

// ParseURL returns the address of a partner, as an operator configured it. It returns an error, which does not quote
// the address, unless it is an https URL without credentials, query or fragment; http will do for this machine alone.
func ParseURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "":
		return nil, errors.New("is not a URL")
	case u.Scheme != "https" && (u.Scheme != "http" || !hostname.IsThisMachine(u.Hostname())):
		return nil, errors.New("is not an https URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("has credentials, a query or a fragment")
	}
	return u, nil
}

// Options bound a client's calls.
type Options struct {
	Timeout     time.Duration // of a call, with reading its answer; 0 leaves it to the request's context
	DialTimeout time.Duration // and of the TLS handshake
}

// New returns a client of a partner that an operator configured: it uses the environment's proxy, and follows no
// redirect, for the credentials go to one address only. Its connections are kept by the rules of Transport.
func New(o Options) *http.Client {
	return &http.Client{
		Timeout: o.Timeout,
		Transport: NewTransport(&http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: o.DialTimeout}).DialContext,
			TLSHandshakeTimeout: o.DialTimeout,
		}),
		CheckRedirect: NoRedirect,
	}
}

// NoRedirect is the CheckRedirect of a client that takes a redirect for the answer.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
