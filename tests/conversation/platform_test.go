package conversation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// fate is what becomes of a call of a platform.
type fate int

const (
	taken     fate = iota // the platform takes the message and says so
	failed                // 500
	busy                  // 429, for a second
	transient             // Messenger's own "try again later"; LINE answers 500
	cut                   // the connection breaks before the platform has taken the message
	cutLate               // and after it has
	hanging               // the platform has not taken it, and never answers
	hangLate              // it has taken it, and never answers
)

// try is a call that sends a message, as it arrived at its platform.
type try struct {
	person, text string
	retryKey     string // LINE's
	fate         fate
	took         bool // the platform showed it to the person
	killed       bool // its process was killed once it had been answered, or while it waited for that
	open         bool // it is neither answered nor broken off
	beside       int  // how many calls hung when it came
}

// answered reports whether ott-deliver was told what the platform did.
func (t *try) answered() bool { return t.fate < cut }

// platforms are Messenger and LINE in front of their stand-in, with calls that fail. They keep each call, in the order
// in which they arrive.
type platforms struct {
	decide  func(person, text string, unanswered, tries int) fate
	forward *httputil.ReverseProxy
	closed  chan struct{}

	mu      sync.Mutex
	tries   []*try
	most    map[bool]int // calls that never answer, and others, at the same time
	current map[bool]int
}

// newPlatforms has ott-deliver call the platforms of a test, until the test ends. They take a message unless decide has
// another fate for the call, which it is told of how many of the message's calls there were, and got no answer.
func newPlatforms(t *testing.T, decide func(person, text string, unanswered, tries int) fate) *platforms {
	t.Helper()
	target, err := url.Parse(bundle.Partners.URL("ott"))
	require.NoError(t, err)
	p := &platforms{
		decide: decide, closed: make(chan struct{}), most: map[bool]int{}, current: map[bool]int{},
		forward: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // by which the stand-in knows the platform
		}},
	}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		close(p.closed)
		server.Close()
	})
	bundle.SetVariables(t, ottDeliver, map[string]string{"PLATFORM_STANDIN_URL": server.URL})
	return p
}

// ServeHTTP implements http.Handler.
func (p *platforms) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c := p.arrive(body, r.Header.Get("X-Line-Retry-Key"))
	if c == nil { // LINE's token
		p.forward.ServeHTTP(w, r)
		return
	}
	defer p.leave(c)
	switch c.fate {
	case failed:
		w.WriteHeader(http.StatusInternalServerError)
	case transient:
		if c.retryKey != "" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"message":"(#1200) Temporary send message failure","code":1200}}`)
	case busy:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case cut:
		panic(http.ErrAbortHandler)
	case hanging:
		p.hang(r)
	case cutLate, hangLate, taken:
		recorder := httptest.NewRecorder()
		// Though the caller dies meanwhile: else the stand-in may have taken it, and nobody here knew.
		p.forward.ServeHTTP(recorder, r.WithContext(context.WithoutCancel(r.Context())))
		p.mu.Lock()
		c.took = recorder.Code == http.StatusOK
		p.mu.Unlock()
		switch c.fate {
		case cutLate:
			panic(http.ErrAbortHandler)
		case hangLate:
			p.hang(r)
		default:
			maps.Copy(w.Header(), recorder.Header())
			w.WriteHeader(recorder.Code)
			_, _ = w.Write(recorder.Body.Bytes())
		}
	}
}

// hang waits until the caller gives up or dies, or the test ends.
func (p *platforms) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-p.closed:
	}
	panic(http.ErrAbortHandler)
}

// arrive keeps a call and decides what becomes of it. It returns nil for a call that sends no message.
func (p *platforms) arrive(body []byte, retryKey string) *try {
	var message struct {
		Recipient struct{ ID string }
		Message   struct{ Text string }
		To        string
		Messages  []struct{ Text string }
	}
	if json.Unmarshal(body, &message) != nil {
		return nil
	}
	c := &try{person: message.Recipient.ID, text: message.Message.Text, retryKey: retryKey, open: true}
	if message.To != "" {
		c.person, c.text = message.To, message.Messages[0].Text
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	unanswered, tries := 0, 0
	for _, earlier := range p.tries {
		if earlier.person == c.person && earlier.text == c.text {
			tries++
			if !earlier.answered() || earlier.killed {
				unanswered++
			}
		}
	}
	c.fate = p.decide(c.person, c.text, unanswered, tries)
	p.tries = append(p.tries, c)
	c.beside = p.current[true]
	p.current[c.hangs()]++
	p.most[c.hangs()] = max(p.most[c.hangs()], p.current[c.hangs()])
	return c
}

func (t *try) hangs() bool { return t.fate == hanging || t.fate == hangLate }

func (p *platforms) leave(c *try) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.open = false
	p.current[c.hangs()]--
}

// all returns the calls so far, as they are now.
func (p *platforms) all() []try {
	p.mu.Lock()
	defer p.mu.Unlock()
	tries := make([]try, len(p.tries))
	for i, c := range p.tries {
		tries[i] = *c
	}
	return tries
}

// count returns how many of the calls are so.
func (p *platforms) count(is func(try) bool) int {
	n := 0
	for _, c := range p.all() {
		if is(c) {
			n++
		}
	}
	return n
}

// killed marks the last call of each conversation: whatever it was answered, nobody may have recorded it. Those of
// messages before it are done with, for the queue has handed out the next.
func (p *platforms) killed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := map[string]*try{}
	for _, c := range p.tries {
		last[c.person] = c
	}
	for _, c := range last {
		c.killed = true
	}
}

// shows a call in a failure.
func (t try) String() string {
	return fmt.Sprintf("{%s fate=%d took=%t killed=%t}", t.text, t.fate, t.took, t.killed)
}

// gate is shut for a while.
type gate struct {
	mu sync.Mutex
	is bool
}

func (g *gate) shut()         { g.set(true) }
func (g *gate) open()         { g.set(false) }
func (g *gate) set(shut bool) { g.mu.Lock(); defer g.mu.Unlock(); g.is = shut }
func (g *gate) isShut() bool  { g.mu.Lock(); defer g.mu.Unlock(); return g.is }
