package httpclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"carillon/shared/httpclient"
)

// Bounds of calls: one that no call of a test comes near, and one that a call on a dead connection always takes.
const (
	forever = time.Minute
	aMoment = 100 * time.Millisecond
)

// network is a way to a server that may forget its connections: nothing comes through them from then on, and nobody
// says so.
type network struct {
	listener net.Listener
	server   string
	cut      context.CancelFunc
	opened   atomic.Int32  // connections
	sent     chan struct{} // told of each piece that comes from a client while somebody listens

	mu        sync.Mutex
	forgotten chan struct{} // closed for the connections of before
}

func newNetwork(t *testing.T, server net.Addr) *network {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed with the test
	require.NoError(t, err)
	ctx, cut := context.WithCancel(t.Context())
	n := &network{
		listener: listener, server: server.String(), cut: cut,
		sent: make(chan struct{}), forgotten: make(chan struct{}),
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			n.opened.Add(1)
			n.mu.Lock()
			forgotten := n.forgotten
			n.mu.Unlock()
			go n.carry(ctx, connection, forgotten)
		}
	}()
	return n
}

// carry carries a connection until it is closed, or forgotten and the test over.
func (n *network) carry(ctx context.Context, client net.Conn, forgotten <-chan struct{}) {
	server, err := new(net.Dialer).DialContext(ctx, "tcp", n.server)
	if err != nil {
		_ = client.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})
	defer stop()
	var both sync.WaitGroup
	carry := func(from, to net.Conn, pieces chan<- struct{}) {
		defer func() { _ = to.Close() }()
		buffer := make([]byte, 64<<10)
		for {
			count, err := from.Read(buffer)
			select {
			case <-forgotten:
				<-ctx.Done()
				return
			default:
			}
			if err != nil {
				return
			}
			select {
			case pieces <- struct{}{}:
			default:
			}
			if _, err := to.Write(buffer[:count]); err != nil {
				return
			}
		}
	}
	both.Go(func() { carry(client, server, n.sent) })
	both.Go(func() { carry(server, client, nil) })
	both.Wait()
}

// forget forgets the connections that there are. New ones are carried.
func (n *network) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.forgotten)
	n.forgotten = make(chan struct{})
}

// partner is a server behind a network, and a transport to it.
type partner struct {
	*network

	url       string
	transport *httpclient.Transport
}

func newPartner(t *testing.T, http2 *http.HTTP2Config, handler http.HandlerFunc) *partner {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = http2 != nil
	server.StartTLS()
	n := newNetwork(t, server.Listener.Addr())
	trusted, ok := server.Client().Transport.(*http.Transport)
	require.True(t, ok)
	p := &partner{
		network:   n,
		url:       "https://" + n.listener.Addr().String() + "/",
		transport: httpclient.NewTransport(&http.Transport{TLSClientConfig: trusted.TLSClientConfig, HTTP2: http2}),
	}
	t.Cleanup(func() {
		_ = n.listener.Close()
		p.transport.CloseIdleConnections()
		n.cut()
		server.Close()
	})
	return p
}

// call posts a body, and returns the protocol it went by once the answer is read.
func (p *partner) call(
	ctx context.Context, url string, body []byte, timeout time.Duration,
) (protocol string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: p.transport}).Do(request)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.Proto, errors.Join(err, response.Body.Close())
}

func answer(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "done")
}

// Without the pings such a call would take all the time it has, and so would the next ones.
func TestADeadHTTP2ConnectionIsDropped(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"a call": 100, "a call larger than any buffer": 16 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPartner(t, &http.HTTP2Config{SendPingTimeout: aMoment, PingTimeout: time.Second}, answer)
			protocol, err := p.call(t.Context(), p.url, nil, forever)
			require.NoError(t, err)
			require.Equal(t, "HTTP/2.0", protocol)
			p.forget()
			_, err = p.call(t.Context(), p.url, make([]byte, size), forever)
			require.ErrorContains(t, err, "connection lost")
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			_, err = p.call(t.Context(), p.url, nil, forever)
			require.NoError(t, err)
			assert.EqualValues(t, 2, p.opened.Load())
		})
	}
}

// A partner who thinks for longer than a dead connection is given answers pings meanwhile.
func TestASlowPartnerIsNotDead(t *testing.T) {
	t.Parallel()
	const ping, pong = 10 * time.Millisecond, time.Second
	var p *partner
	p = newPartner(t, &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: pong},
		func(w http.ResponseWriter, r *http.Request) {
			for range (ping + pong) / ping {
				select {
				case <-p.sent: // a ping
				case <-r.Context().Done():
					return
				}
			}
			answer(w, r)
		})
	_, err := p.call(t.Context(), p.url, nil, forever)
	require.NoError(t, err)
	assert.EqualValues(t, 1, p.opened.Load())
}

// keep has the transport keep so many connections of HTTP/1.1: handler's first calls wait for each other.
func keep(t *testing.T, count int, handler http.HandlerFunc) *partner {
	t.Helper()
	var waiting sync.WaitGroup
	waiting.Add(count)
	p := newPartner(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keep" {
			waiting.Done()
			waiting.Wait()
		}
		handler(w, r)
	})
	var calls errgroup.Group
	for range count {
		calls.Go(func() error {
			protocol, err := p.call(t.Context(), p.url+"keep", nil, forever)
			assert.Equal(t, "HTTP/1.1", protocol)
			return err
		})
	}
	require.NoError(t, calls.Wait())
	require.EqualValues(t, count, p.opened.Load())
	return p
}

func TestOfDeadHTTP1ConnectionsOneCostsACall(t *testing.T) {
	t.Parallel()
	t.Run("without an answer", func(t *testing.T) {
		t.Parallel()
		p := keep(t, 5, answer)
		p.forget()
		_, err := p.call(t.Context(), p.url, nil, aMoment)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = p.call(t.Context(), p.url, nil, forever)
		require.NoError(t, err)
		assert.EqualValues(t, 6, p.opened.Load())
	})
	t.Run("by the client's time", func(t *testing.T) {
		t.Parallel()
		p := keep(t, 5, answer)
		p.forget()
		client := &http.Client{Transport: p.transport, Timeout: aMoment}
		_, err := client.Post(p.url, "text/plain", strings.NewReader("")) //nolint:noctx // its time is the client's
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = p.call(t.Context(), p.url, nil, forever)
		require.NoError(t, err)
		assert.EqualValues(t, 6, p.opened.Load())
	})
	t.Run("within an answer", func(t *testing.T) {
		t.Parallel()
		p := keep(t, 5, func(w http.ResponseWriter, r *http.Request) {
			answer(w, r)
			if r.URL.Path == "/half" {
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"half", http.NoBody)
		require.NoError(t, err)
		response, err := p.transport.RoundTrip(request)
		require.NoError(t, err)
		p.forget()
		cancel(context.DeadlineExceeded) // the time is over
		_, err = io.ReadAll(response.Body)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, response.Body.Close())
		_, err = p.call(t.Context(), p.url, nil, forever)
		require.NoError(t, err)
		assert.EqualValues(t, 6, p.opened.Load())
	})
}

// A caller who goes away, and a new connection that is not made or breaks, say nothing of those that are kept.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	p := keep(t, 2, func(w http.ResponseWriter, r *http.Request) {
		answer(w, r)
		if r.URL.Path == "/hang" {
			close(arrived)
			<-r.Context().Done()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := p.call(ctx, p.url+"hang", nil, forever)
	require.ErrorIs(t, err, context.Canceled)

	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	defer broken.Close()
	for _, url := range []string{gone.URL, broken.URL} {
		_, err = p.call(t.Context(), url, nil, forever)
		require.Error(t, err)
	}

	_, err = p.call(t.Context(), p.url, nil, forever)
	require.NoError(t, err)
	assert.EqualValues(t, 2, p.opened.Load())
}

// Partners are given 8 s and more: what is left after a dead connection is for another one.
func TestAPartnersConnections(t *testing.T) {
	t.Parallel()
	transport, ok := httpclient.New(httpclient.Options{Timeout: 8 * time.Second}).Transport.(*httpclient.Transport)
	require.True(t, ok)
	require.NotNil(t, transport.HTTP2)
	assert.Positive(t, transport.HTTP2.SendPingTimeout)
	assert.Positive(t, transport.HTTP2.PingTimeout)
	assert.LessOrEqual(t, transport.HTTP2.SendPingTimeout+transport.HTTP2.PingTimeout, 5*time.Second)
	assert.LessOrEqual(t, transport.HTTP2.WriteByteTimeout, 5*time.Second)
	assert.Positive(t, transport.HTTP2.WriteByteTimeout)
	assert.Positive(t, transport.IdleConnTimeout)
}
