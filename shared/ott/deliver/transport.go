package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"carillon/shared/environment"
	"carillon/shared/hostname"
	"carillon/shared/httpclient"
	"carillon/shared/ott"
)

// Limits of a call to a platform.
const (
	callTimeout = 8 * time.Second
	dialTimeout = 3 * time.Second
	maxAnswer   = 64 << 10 // bytes that are read of an answer
)

// OpenTransport returns what carries requests to the platforms: PublicTransport, or where PLATFORM_STANDIN_URL names a
// stand-in, as the local run alone does, a transport to that. It tells env if that URL is not http on this machine.
func OpenTransport(env *environment.Variables) http.RoundTripper {
	address := env.Optional("PLATFORM_STANDIN_URL")
	if address == "" {
		return PublicTransport(nil)
	}
	transport, err := StandInTransport(address)
	env.Reject("PLATFORM_STANDIN_URL", err)
	return transport
}

// errNotPublic is what a dial fails with whose address is not public.
var errNotPublic = errors.New("the address is not on the public Internet")

// PublicTransport returns a transport that connects to addresses of the public Internet alone. The address is checked
// as it is dialled, so a name that resolves to another address than when it was registered does not get around it. It
// uses no proxy, which would dial for it. A nil resolver is the system's.
func PublicTransport(resolver *net.Resolver) *httpclient.Transport {
	dialer := &net.Dialer{
		Timeout:  dialTimeout,
		Resolver: resolver,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			dialled, err := netip.ParseAddrPort(address)
			if err != nil || !ott.IsPublicAddress(dialled.Addr()) {
				return errNotPublic
			}
			return nil
		},
	}
	return httpclient.NewTransport(&http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: maxAnswer,
	})
}

// StandInTransport returns a transport that carries every request to a stand-in for the platforms, with its path, query
// and Host as they are. It returns an error if the URL is not http on this machine.
func StandInTransport(address string) (http.RoundTripper, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || !hostname.IsThisMachine(u.Hostname()) {
		return nil, errors.New("is not http on this machine")
	}
	return &standIn{host: u.Host, transport: httpclient.NewTransport(new(http.Transport))}, nil
}

type standIn struct {
	host      string
	transport http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (s *standIn) RoundTrip(r *http.Request) (*http.Response, error) {
	redirected := r.Clone(r.Context())
	redirected.Host = r.URL.Host
	redirected.URL.Scheme, redirected.URL.Host = "http", s.host
	return s.transport.RoundTrip(redirected)
}

// newClient returns a client that follows no redirect, for it may lead anywhere, and reads a bounded part of each
// answer.
func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Timeout:       callTimeout,
		Transport:     wholeAnswers{transport},
		CheckRedirect: httpclient.NoRedirect,
	}
}

// wholeAnswers reads answers to their end, or to maxAnswer, and closes them: LINE's SDK would read them without a limit
// and leave them open. Where an answer breaks off, its status tells enough.
type wholeAnswers struct{ transport http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (w wholeAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}
