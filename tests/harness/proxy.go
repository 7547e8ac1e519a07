package harness

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Fault is what happens to one AWS call, or to each of several. A call that Answer answers goes no further; any other
// one goes on to the emulator, and After is run once the emulator has carried it out: the caller then gets no answer.
type Fault struct {
	Operation string // as X-Amz-Target ends: UpdateItem, CreateSecret; empty for a call without one
	Path      string // empty for whatever path
	Body      string // what the call's body holds; empty for whatever body
	Skip      int    // let so many pass first
	Times     int    // 0: once; below 0: each time
	// Answer returns true if it has answered.
	Answer func(w http.ResponseWriter, r *http.Request) bool
	After  func()
}

// AnswerLost is an After that does nothing: the call is carried out, and nobody hears of it.
func AnswerLost() {}

// Strikes returns what is closed once the fault has happened. It must be called before the fault is injected.
func (f *Fault) Strikes() <-chan struct{} {
	struck := make(chan struct{})
	strike := sync.OnceFunc(func() { close(struck) })
	if answer := f.Answer; answer != nil {
		f.Answer = func(w http.ResponseWriter, r *http.Request) bool { defer strike(); return answer(w, r) }
	}
	if after := f.After; after != nil {
		f.After = func() { defer strike(); after() }
	}
	return struck
}

// Proxy stands between a function and an emulator or a stand-in, and lets a test put a fault at any step.
type Proxy struct {
	// URL is where it listens.
	URL string

	server  *httptest.Server
	forward *httputil.ReverseProxy

	mu     sync.Mutex
	faults []*Fault
	calls  map[string]int
}

// NewProxy starts a proxy in front of a target, for as long as the test runs.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	p := &Proxy{calls: map[string]int{}, forward: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host // what was signed
		},
	}}
	p.server = httptest.NewServer(p)
	p.URL = p.server.URL
	t.Cleanup(p.server.Close)
	return p
}

// Close stops listening before the test ends: nothing can be reached any more.
func (p *Proxy) Close() { p.server.Close() }

// Inject sets the faults of a test, and forgets those of the one before and its calls. A fault that is nil is none.
func (p *Proxy) Inject(faults ...*Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.calls = nil, map[string]int{}
	for _, f := range faults {
		if f != nil {
			own := *f // so that the same fault can be injected again
			p.faults = append(p.faults, &own)
		}
	}
}

// Count returns how many calls of an operation arrived since Inject.
func (p *Proxy) Count(operation string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[operation]
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f := p.next(operation, r.URL.Path, body)
	if f != nil && f.Answer != nil && f.Answer(w, r) {
		return
	}
	if f == nil || f.After == nil {
		p.forward.ServeHTTP(w, r)
		return
	}
	p.forward.ServeHTTP(httptest.NewRecorder(), r) // carried out, and nobody hears of it
	f.After()
	panic(http.ErrAbortHandler)
}

// next counts a call and returns a copy of the fault that happens to it, if one does.
func (p *Proxy) next(operation, path string, body []byte) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[operation]++
	i := slices.IndexFunc(p.faults, func(f *Fault) bool {
		switch {
		case f.Operation != operation, f.Path != "" && f.Path != path, !bytes.Contains(body, []byte(f.Body)):
			return false
		}
		f.Skip--
		return f.Skip < 0
	})
	if i < 0 {
		return nil
	}
	f := *p.faults[i]
	if f.Times >= 0 {
		if p.faults[i].Times--; p.faults[i].Times <= 0 {
			p.faults = slices.Delete(p.faults, i, i+1) // it has happened as often as it should
		}
	}
	return &f
}

// AWSError answers as AWS does.
func AWSError(status int, code string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"__type":"com.amazonaws#`+code+`","message":"told by the test"}`)
		return true
	}
}

// Behind puts a function behind one proxy for DynamoDB and one for the emulator's other services, until the test ends.
func (b *Bundle) Behind(t testing.TB, function string) (items, others *Proxy) {
	t.Helper()
	items, others = NewProxy(t, b.Demo.AWS.DynamoDB), NewProxy(t, b.Demo.AWS.Endpoint)
	b.SetVariables(
		t,
		function,
		map[string]string{"AWS_ENDPOINT_URL_DYNAMODB": items.URL, "AWS_ENDPOINT_URL": others.URL},
	)
	return items, others
}

// BehindPartner puts a function behind a proxy for a stand-in, whose URL the variable holds, until the test ends.
func (b *Bundle) BehindPartner(t testing.TB, function, variable, partner string) *Proxy {
	t.Helper()
	p := NewProxy(t, b.Partners.URL(partner))
	b.SetVariables(t, function, map[string]string{variable: p.URL})
	return p
}

// SetVariables changes variables of a function until the test ends.
func (b *Bundle) SetVariables(t testing.TB, function string, variables map[string]string) {
	t.Helper()
	before := b.Function(function).Environment()
	restored := maps.Clone(variables)
	for name := range restored {
		restored[name] = before[name]
	}
	b.Function(function).SetEnvironment(variables)
	t.Cleanup(func() { b.Function(function).SetEnvironment(restored) })
}

// KilledBefore is an Answer that kills a function before AWS has seen the call.
func (b *Bundle) KilledBefore(function string) func(http.ResponseWriter, *http.Request) bool {
	return func(http.ResponseWriter, *http.Request) bool {
		b.Function(function).Kill()
		panic(http.ErrAbortHandler)
	}
}

// KilledAfter is an After that kills a function once AWS has carried the call out.
func (b *Bundle) KilledAfter(function string) func() {
	return func() { b.Function(function).Kill() }
}
