// Package standin plays the partners of the bundle as real HTTP servers: each keeps what it received, and answers
// as the partner would or as a script says. One more partner is one more file and one more entry where they are made.
package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBody bounds what a stand-in reads, in bytes.
const maxBody = 32 << 20

// Partner is one stand-in. Its methods are safe for concurrent use.
type Partner interface {
	// Name is its place under /_local/ and on its server.
	Name() string
	// ServeHTTP answers as the partner; paths are relative to the partner's base URL.
	http.Handler
	// Received is what it got, oldest first; every element marshals to an object with a member at.
	Received() []any
	// Empty forgets what it got.
	Empty()
}

// Request is one that a partner got.
type Request struct {
	// At is when its head had arrived.
	At     time.Time
	Method string
	Host   string
	// Path is relative to the partner's base URL.
	Path   string
	Query  string // as it was sent
	Header http.Header
	Body   []byte
}

// Answer is one scripted answer. With Status 0 the partner answers as ever, after the delay.
type Answer struct {
	Status  int               `json:"status"`
	DelayMS int               `json:"delayMs"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	// Hang never answers: the connection stays open until the caller gives up.
	Hang bool `json:"hang"`
	// Half lets the gateway give a result to the first half of the destinations alone; it wants Status 0.
	Half bool `json:"half"`
	// Cut breaks the connection off in the middle of the answer's body.
	Cut bool `json:"cut"`
}

// Hook decides about the answer to a request; nil lets the partner answer as ever.
type Hook func(Request) *Answer

// Server mounts the partners on loopback: on one listener, but for those that are Hosts.
type Server struct {
	bases    map[string]string // by the partner's name
	servers  []*http.Server
	partners []*scripted
}

// Hosts is a Partner that callers know by hosts and paths of its own. It has a listener to itself, and gets every path
// as it was sent, for whatever host.
type Hosts interface {
	// Platform names the partner behind a host.
	Platform(host string) string
}

// scripted puts the script in front of a partner.
type scripted struct {
	Partner
	mu   sync.Mutex
	next []Answer
	hook Hook
}

// Start serves the partners, each below its name, on a free port of 127.0.0.1; those that are Hosts have one each.
func Start(partners ...Partner) (*Server, error) {
	s := &Server{bases: map[string]string{}}
	mux := http.NewServeMux()
	base, err := s.serve(mux)
	if err != nil {
		return nil, err
	}
	for _, partner := range partners {
		p := &scripted{Partner: partner}
		s.partners = append(s.partners, p)
		if _, hosts := partner.(Hosts); hosts {
			if s.bases[partner.Name()], err = s.serve(p); err != nil {
				s.Close()
				return nil, err
			}
			continue
		}
		prefix := "/" + partner.Name()
		s.bases[partner.Name()] = base + prefix
		mux.Handle(prefix+"/", http.StripPrefix(prefix, p))
		mux.Handle(prefix, http.StripPrefix(prefix, p))
	}
	return s, nil
}

// serve serves a handler until Close, and returns its base URL.
func (s *Server) serve(handler http.Handler) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listening for the partners' stand-ins: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	go func() { _ = server.Serve(listener) }() // ends with Close
	return "http://" + listener.Addr().String(), nil
}

// URL is the base URL of the partner of that name, without a trailing slash.
func (s *Server) URL(name string) string { return s.bases[name] }

// Close stops serving at once.
func (s *Server) Close() {
	for _, server := range s.servers {
		_ = server.Close()
	}
}

func (s *Server) partner(name string) *scripted {
	for _, p := range s.partners {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// Script queues answers that the partner of that name gives to its next requests, before it answers by itself again. It
// returns an error if there is no such partner, or if it cannot give an answer.
func (s *Server) Script(name string, answers ...Answer) error {
	p := s.partner(name)
	if p == nil {
		return fmt.Errorf("there is no stand-in %q", name)
	}
	for _, a := range answers {
		if err := p.check(a); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = append(p.next, answers...)
	return nil
}

// Hook lets a function decide about the answers of the partner of that name, after what is scripted and until the next
// call of Hook; nil ends it. The hook is called from several goroutines. It panics when there is no such partner.
func (s *Server) Hook(name string, hook Hook) {
	p := s.partner(name)
	if p == nil {
		panic("standin: there is no " + name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

func (p *scripted) check(a Answer) error {
	if a.Status != 0 && (a.Status < 200 || a.Status > 599) || a.DelayMS < 0 {
		return errors.New("status must be 0 or 200 to 599, delayMs not negative")
	}
	if _, can := p.Partner.(Halver); a.Half && (a.Status != 0 || !can) {
		return fmt.Errorf("half is for status 0 and the gateway, not for %d of %s", a.Status, p.Name())
	}
	return nil
}

// answer returns what is to be done with a request, nil to let the partner answer.
func (p *scripted) answer(r Request) *Answer {
	p.mu.Lock()
	if len(p.next) > 0 {
		a := p.next[0]
		p.next = p.next[1:]
		p.mu.Unlock()
		return &a
	}
	hook := p.hook
	p.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(r)
}

func (p *scripted) clear() {
	p.mu.Lock()
	p.next = nil
	p.mu.Unlock()
	p.Empty()
}

// Witness is a Partner that keeps requests as such, and so sees those that a script answers too.
type Witness interface {
	// Witness is called with every request before it is answered. What it returns is called just before the answer is
	// sent, or with status 0 if there is none, or none that is whole.
	Witness(r Request) (answered func(status int, body []byte))
}

// Halver is a Partner that can answer half.
type Halver interface {
	// ServeHalf answers as ServeHTTP does, but for half of what was asked.
	ServeHalf(w http.ResponseWriter, r *http.Request)
}

// ServeHTTP gives the scripted answer if there is one, or that of the hook.
func (p *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := Request{
		At: time.Now().UTC(), Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header,
	}
	var body bytes.Buffer
	body.Grow(int(max(0, min(r.ContentLength, maxBody))) + bytes.MinRead)
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		writeJSON(w, http.StatusRequestEntityTooLarge, map[string]string{"message": "the body is too large or broken"})
		return
	}
	request.Body = body.Bytes()
	r.Body = io.NopCloser(&body)
	answered := func(int, []byte) {}
	if witness, is := p.Partner.(Witness); is {
		answered = witness.Witness(request)
	}
	out := &answer{header: http.Header{}}
	told := p.answer(request)
	if told == nil {
		told = &Answer{}
	}
	if !told.wait(r.Context()) {
		answered(0, nil)
		panic(http.ErrAbortHandler)
	}
	switch half, can := p.Partner.(Halver); {
	case told.Status != 0:
		for name, value := range told.Headers {
			out.header.Set(name, value)
		}
		out.status = told.Status
		out.body.WriteString(told.Body)
	case told.Half && can:
		half.ServeHalf(out, r)
	default:
		p.Partner.ServeHTTP(out, r)
	}
	out.status = max(out.status, http.StatusOK) // as net/http has it
	if told.Cut {
		answered(0, nil)
	} else {
		answered(out.status, out.body.Bytes())
	}
	out.send(w, told.Cut)
}

// wait returns false if there is to be no answer: the caller gave up.
func (a *Answer) wait(ctx context.Context) bool {
	if a.Hang {
		<-ctx.Done()
		return false
	}
	if a.DelayMS == 0 {
		return true
	}
	timer := time.NewTimer(time.Duration(a.DelayMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// answer is a response that is known as a whole before any of it is sent.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) { a.status = status }

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.body.Write(p)
}

// send writes the response, or half of its body with the promise of all of it.
func (a *answer) send(w http.ResponseWriter, cut bool) {
	maps.Copy(w.Header(), a.header)
	body := a.body.Bytes()
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	if !cut {
		_, _ = w.Write(body) // a caller that hung up is not our trouble
		return
	}
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // net/http breaks the connection off
}

// flat joins a request's headers into one object, names in lower case.
func flat(header http.Header) map[string]string {
	headers := make(map[string]string, len(header))
	for name, values := range header {
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	return headers
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}
