package deliver_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock/clocktest"
	"carillon/shared/environment"
	"carillon/shared/httpclient"
	"carillon/shared/ott/deliver"
)

// nameServer answers every question with the same addresses, until it changes its mind.
type nameServer struct {
	*net.Resolver

	mu        sync.Mutex
	addresses []string
}

func newNameServer(t *testing.T, addresses ...string) *nameServer {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // it is closed with the test
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	s := &nameServer{addresses: addresses}
	s.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = socket.WriteTo(s.answer(buffer[:n]), from)
		}
	}()
	return s
}

func (s *nameServer) change(addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = addresses
}

// answer writes a DNS answer (RFC 1035 §4.1): the header, the question as it came, a record for each address of the
// type asked for.
func (s *nameServer) answer(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	asked := binary.BigEndian.Uint16(query[end+1:])
	s.mu.Lock()
	addresses := s.addresses
	s.mu.Unlock()
	message := append([]byte(nil), query[:2]...)
	message = append(message, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	message = append(message, query[12:end+5]...)
	for _, text := range addresses {
		address := netip.MustParseAddr(text)
		if kind := map[bool]uint16{true: 1, false: 28}[address.Is4()]; kind == asked {
			message[7]++
			message = append(message, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(address.AsSlice())))
			message = append(message, address.AsSlice()...)
		}
	}
	return message
}

// target is a server that must not be reached.
func target(t *testing.T) (port string, connections *atomic.Int32) {
	t.Helper()
	connections = new(atomic.Int32)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	return u.Port(), connections
}

// endpointUrl's host in every way to write an address that is not public: whatever was let in when it was registered
// is refused when it is dialled.
func TestNothingButThePublicInternetIsDialled(t *testing.T) {
	t.Parallel()
	port, connections := target(t)
	resolver := newNameServer(t, "127.0.0.1", "::1") // what libraries make of names that look like numbers
	for _, host := range []string{
		"127.0.0.1", "localhost", "localhost.", "LOCALHOST", "sub.localhost", "10.0.0.1", "172.16.0.1", "192.168.1.1",
		"100.64.0.1", "0.0.0.0",
		"169.254.169.254", "169.254.170.2", "168.63.129.16", "224.0.0.1", "255.255.255.255",
		"2130706433", "017700000001", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1", "0", "127.0.0.1.",
		"169.254.169.254.",
		"[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]",
		"[::ffff:a9fe:a9fe]", "[::127.0.0.1]",
		"[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[2002:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]",
		"[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]",
		"metadata.google.internal", "instance-data", "rebind.example.com", "user:pass@127.0.0.1",
		"public.example.com@127.0.0.1",
	} {
		d := messengerText(t)
		d.Registration.EndpointURL = "https://" + host + ":" + port + "/"
		err := errorOf(
			deliver.NewMessenger(deliver.PublicTransport(resolver.Resolver), clocktest.New()).Send(t.Context(), d))
		require.Error(t, err, host)
		// The latter of what Go takes neither for an address nor for a name.
		assert.Regexp(t, "^Messenger was not called: the address is not on the public Internet$|no such host$",
			err.Error(), host)
	}
	assert.Zero(t, connections.Load())
}

// A name that was public when somebody looked resolves to this machine when it is dialled.
func TestDNSThatChangesItsMind(t *testing.T) {
	t.Parallel()
	port, connections := target(t)
	for name, later := range map[string][]string{
		"loopback": {"127.0.0.1"}, "loopback, IPv6": {"::1"}, "IPv4-mapped": {"::ffff:127.0.0.1"},
		"metadata": {"169.254.169.254"}, "several": {"10.0.0.1", "127.0.0.1", "::1"},
	} {
		resolver := newNameServer(t, "93.184.215.14")
		looked, err := resolver.LookupHost(t.Context(), "rebind.example.com.")
		require.NoError(t, err)
		require.Equal(t, []string{"93.184.215.14"}, looked, name)
		resolver.change(later...)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			"https://rebind.example.com.:"+port+"/", http.NoBody)
		require.NoError(t, err)
		_, err = deliver.PublicTransport(resolver.Resolver).RoundTrip(request)
		assert.ErrorContains(t, err, "the address is not on the public Internet", name)
	}
	assert.Zero(t, connections.Load())
}

// The environment's proxy would dial for us, without the check.
func TestNoProxyIsUsed(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	assert.Nil(t, deliver.PublicTransport(nil).Proxy)
}

func TestTransportOfTheLocalRun(t *testing.T) {
	open := func(address string) (http.RoundTripper, error) {
		t.Setenv("PLATFORM_STANDIN_URL", address)
		env := new(environment.Variables)
		transport := deliver.OpenTransport(env)
		return transport, env.Err()
	}
	for address, right := range map[string]bool{
		"": true, "http://127.0.0.1:8080": true, "http://[::1]:8080": true, "http://localhost:8080": true,
		"http://host.docker.internal:8080": true,
		"https://127.0.0.1:8080":           false, "http://192.168.1.1": false, "http://example.com": false,
		"http://localhost.example.com": false, "127.0.0.1:8080": false,
		"http://": false, "://": false, "ftp://127.0.0.1": false,
	} {
		transport, err := open(address)
		if right {
			assert.NoError(t, err, address)
			assert.NotNil(t, transport, address)
		} else {
			assert.ErrorContains(t, err, "PLATFORM_STANDIN_URL: is not http on this machine", address)
		}
	}
	public, err := open("")
	require.NoError(t, err)
	assert.IsType(t, &httpclient.Transport{}, public, "no stand-in unless it is asked for")

	p := newPlatforms(t, status(200, ""))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"https://graph.example.com:8443/a%2Fb?c=d%20e&f", strings.NewReader("body"))
	require.NoError(t, err)
	response, err := p.transport(t).RoundTrip(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, "graph.example.com:8443", p.all()[0].host)
	assert.Equal(t, "/a%2Fb?c=d%20e&f", p.all()[0].uri)
	assert.Equal(t, "body", p.all()[0].body)
	assert.Equal(t, "https://graph.example.com:8443/a%2Fb?c=d%20e&f", request.URL.String(),
		"the request stays as it is")
}
