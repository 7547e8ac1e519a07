package samlocal

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
)

// hostName is how a container calls this machine (`--add-host host.docker.internal:host-gateway`).
const hostName = "host.docker.internal"

// Forwarder lets containers reach servers that listen on this machine's loopback alone. It listens on the address of
// the engine's bridge and nowhere else, so that no other machine reaches them.
type Forwarder struct {
	address   string // of the bridge; empty where the engine itself forwards to loopback, as Docker Desktop does
	listeners []net.Listener
	streams   sync.WaitGroup
	mu        sync.Mutex
	open      map[net.Conn]struct{}
	closed    bool
}

// NewForwarder finds the bridge.
func NewForwarder(ctx context.Context) (*Forwarder, error) {
	name, err := docker(
		ctx,
		nil,
		"network",
		"inspect",
		"bridge",
		"--format",
		`{{index .Options "com.docker.network.bridge.name"}}`,
	)
	if err != nil {
		return nil, err
	}
	f := &Forwarder{open: map[net.Conn]struct{}{}}
	// An engine in a virtual machine has its bridge there; it forwards host.docker.internal to loopback by itself.
	bridge, err := net.InterfaceByName(name)
	if err != nil {
		return f, nil //nolint:nilerr // the error is the answer: this machine has no such interface
	}
	addresses, err := bridge.Addrs()
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil {
			f.address = network.IP.String()
			return f, nil
		}
	}
	return nil, fmt.Errorf("the engine's bridge %s has no IPv4 address", name)
}

// Reach returns the URL by which a container reaches the server at a loopback URL.
func (f *Forwarder) Reach(loopback string) (string, error) {
	target, err := url.Parse(loopback)
	if err != nil {
		return "", err
	}
	if target.Port() == "" {
		return "", fmt.Errorf("%s names no port", loopback)
	}
	server, port := target.Host, target.Port()
	if f.address != "" {
		listener, err := net.Listen("tcp", net.JoinHostPort(f.address, "0"))
		if err != nil {
			return "", err
		}
		f.listeners = append(f.listeners, listener)
		f.streams.Go(func() { f.accept(listener, server) })
		if _, port, err = net.SplitHostPort(listener.Addr().String()); err != nil {
			return "", err
		}
	}
	target.Host = net.JoinHostPort(hostName, port)
	return target.String(), nil
}

// Close ends every connection and returns when nothing listens any more.
func (f *Forwarder) Close() {
	for _, listener := range f.listeners {
		_ = listener.Close()
	}
	f.mu.Lock()
	f.closed = true
	for conn := range f.open {
		_ = conn.Close()
	}
	f.mu.Unlock()
	f.streams.Wait()
}

func (f *Forwarder) accept(listener net.Listener, target string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		f.streams.Go(func() { f.serve(conn, target) })
	}
}

func (f *Forwarder) serve(client net.Conn, target string) {
	defer f.forget(client)
	if !f.remember(client) {
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return // the container sees the connection end, as it would without a forwarder
	}
	defer f.forget(server)
	if !f.remember(server) {
		return
	}
	var pump sync.WaitGroup
	for _, pair := range [][2]net.Conn{{server, client}, {client, server}} {
		pump.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].(*net.TCPConn).CloseWrite()
		})
	}
	pump.Wait()
}

func (f *Forwarder) remember(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[conn] = struct{}{}
	return !f.closed
}

func (f *Forwarder) forget(conn net.Conn) {
	f.mu.Lock()
	delete(f.open, conn)
	f.mu.Unlock()
	_ = conn.Close()
}
