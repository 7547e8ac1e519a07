// Package standin plays the partners of the bundle as real HTTP servers: each keeps what it received, and answers
// as the partner would or as a script says. One more partner is one more file and one more entry where they are made.
package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

// Answer is one scripted answer. With Status 0 the partner answers as ever, after the delay.
type Answer struct {
	Status  int               `json:"status"`
	DelayMS int               `json:"delayMs"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// Server mounts the partners on one loopback listener.
type Server struct {
	base     string
	http     *http.Server
	partners []*scripted
}

// scripted puts the script in front of a partner.
type scripted struct {
	Partner
	mu   sync.Mutex
	next []Answer
}

// Start serves the partners, each below its name, on a free port of 127.0.0.1.
func Start(partners ...Partner) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the partners' stand-ins: %w", err)
	}
	s := &Server{base: "http://" + listener.Addr().String()}
	mux := http.NewServeMux()
	for _, partner := range partners {
		p := &scripted{Partner: partner}
		s.partners = append(s.partners, p)
		prefix := "/" + partner.Name()
		mux.Handle(prefix+"/", http.StripPrefix(prefix, p))
		mux.Handle(prefix, http.StripPrefix(prefix, p))
	}
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(listener) }() // ends with Close
	return s, nil
}

// URL is the base URL of the partner of that name, without a trailing slash.
func (s *Server) URL(name string) string { return s.base + "/" + name }

// Close stops serving at once.
func (s *Server) Close() { _ = s.http.Close() }

func (s *Server) partner(name string) *scripted {
	for _, p := range s.partners {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// Script queues answers that the partner of that name gives to its next requests, before it answers by itself again.
func (s *Server) Script(name string, answers ...Answer) error {
	p := s.partner(name)
	if p == nil {
		return fmt.Errorf("there is no stand-in %q", name)
	}
	for _, a := range answers {
		if a.Status != 0 && (a.Status < 200 || a.Status > 599) || a.DelayMS < 0 {
			return errors.New("status must be 0 or 200 to 599, delayMs not negative")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = append(p.next, answers...)
	return nil
}

func (p *scripted) pop() (Answer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.next) == 0 {
		return Answer{}, false
	}
	a := p.next[0]
	p.next = p.next[1:]
	return a, true
}

func (p *scripted) clear() {
	p.mu.Lock()
	p.next = nil
	p.mu.Unlock()
	p.Empty()
}

// Witness is a Partner that keeps requests as such, and so sees those that a script answers too.
type Witness interface {
	// Witness is called with a request whose answer is scripted, and its body.
	Witness(r *http.Request, body []byte)
}

// ServeHTTP gives the scripted answer if there is one.
func (p *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, ok := p.pop()
	if !ok {
		p.Partner.ServeHTTP(w, r)
		return
	}
	if answer.Status != 0 {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if witness, is := p.Partner.(Witness); is && err == nil {
			witness.Witness(r, body)
		}
	}
	timer := time.NewTimer(time.Duration(answer.DelayMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return
	}
	if answer.Status == 0 {
		p.Partner.ServeHTTP(w, r)
		return
	}
	for name, value := range answer.Headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(answer.Status)
	_, _ = io.WriteString(w, answer.Body)
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
