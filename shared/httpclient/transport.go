package httpclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

const (
	// connections is how many idle connections to a partner are kept, and idleTimeout for how long. net/http takes none
	// that was idle for longer by the wall clock, so the time that Lambda kept the process frozen counts, though the
	// timer that closes it comes late.
	connections = 10
	idleTimeout = 90 * time.Second

	// silence is how long nothing may come on an HTTP/2 connection before it is asked for a sign of life by a ping, and
	// pingTimeout how long that may take. Together they are how long a dead connection holds up a call at most, so they
	// have to leave time for another one within what a partner is given, 8 s at least. A partner who thinks for longer
	// answers pings meanwhile.
	silence     = 3 * time.Second
	pingTimeout = 2 * time.Second
)

// Transport is net/http's, with one rule for all partners by which connections are kept, and dropped when they are
// dead: as after a freeze of Lambda's, or behind a NAT or a load balancer that has forgotten them, they may be without
// anybody having closed them.
//
// An HTTP/2 connection is asked by pings, and closed with all its calls if it does not answer: 5 s after the last that
// came on it. HTTP/1.1 has nothing to ask with, so the first call on a dead connection takes until its time is over.
// But where a kept connection breaks, or a call on it is not answered in time, the others that are idle are no better:
// all are closed, and the next call gets a new one. That is for all hosts that the transport is connected to, and costs
// them a handshake.
type Transport struct{ *http.Transport }

// NewTransport returns a transport that dials, and bounds what it reads, as one of net/http's does that is nobody
// else's from now on. How that one keeps connections is set here; of its own it may have HTTP2, with other times.
func NewTransport(own *http.Transport) *Transport {
	own.ForceAttemptHTTP2 = true
	own.MaxIdleConnsPerHost = connections
	own.IdleConnTimeout = idleTimeout
	if own.HTTP2 == nil {
		own.HTTP2 = &http.HTTP2Config{
			SendPingTimeout: silence,
			PingTimeout:     pingTimeout,
			// Who still sends but reads nothing is pinged by nobody.
			WriteByteTimeout: silence + pingTimeout,
		}
	}
	return &Transport{own}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var kept atomic.Bool
	response, err := t.Transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(connection httptrace.GotConnInfo) {
			if connection.Reused {
				kept.Store(true)
			}
		},
	})))
	switch {
	case !kept.Load(): // a new connection says nothing of the others
	case err != nil:
		t.failed(err)
	default:
		response.Body = &body{ReadCloser: response.Body, failed: t.failed}
	}
	if response != nil {
		response.Request = r
	}
	return response, err
}

// failed is told why a call on a kept connection failed. That its caller went away says nothing.
func (t *Transport) failed(err error) {
	if !errors.Is(err, context.Canceled) {
		t.CloseIdleConnections()
	}
}

// body is an answer that may break off, or stop.
type body struct {
	io.ReadCloser

	failed func(error)
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed(err)
	}
	return n, err
}
