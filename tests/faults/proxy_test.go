package faults_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// fault is what happens to one AWS call, or to each of several. It returns true if the call was answered, else the call
// goes on to the emulator and after is run once the emulator has carried it out.
type fault struct {
	operation string // as X-Amz-Target ends: UpdateItem, CreateSecret; empty for a call without one
	path      string // empty for whatever path
	skip      int    // let so many pass first
	times     int    // 0: once; below 0: each time
	answer    func(w http.ResponseWriter, r *http.Request) bool
	after     func()
}

// strikes returns what is closed once a fault that happens once has happened.
func (f *fault) strikes() <-chan struct{} {
	struck := make(chan struct{})
	answer, after := f.answer, f.after
	if answer != nil {
		f.answer = func(w http.ResponseWriter, r *http.Request) bool { defer close(struck); return answer(w, r) }
	}
	if after != nil {
		f.after = func() { defer close(struck); after() }
	}
	return struck
}

// awsProxy stands between the functions and the emulators, or the platforms, and lets tests put a fault at any step.
type awsProxy struct {
	server  *httptest.Server
	forward *httputil.ReverseProxy

	mu     sync.Mutex
	faults []*fault
	calls  map[string]int
}

func newAWSProxy(t *testing.T, target string) *awsProxy {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	p := &awsProxy{calls: map[string]int{}, forward: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host // what was signed
		},
	}}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

// inject sets the faults of a test and forgets those of the one before, and its calls.
func (p *awsProxy) inject(faults ...*fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.calls = faults, map[string]int{}
}

// count returns how many calls of an operation arrived since inject.
func (p *awsProxy) count(operation string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[operation]
}

// ServeHTTP implements http.Handler.
func (p *awsProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	f := p.next(operation, r.URL.Path)
	if f != nil && f.answer != nil && f.answer(w, r) {
		return
	}
	if f == nil || f.after == nil {
		p.forward.ServeHTTP(w, r)
		return
	}
	p.forward.ServeHTTP(httptest.NewRecorder(), r) // carried out, and nobody hears of it
	f.after()
	panic(http.ErrAbortHandler)
}

func (p *awsProxy) next(operation, path string) *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[operation]++
	for _, f := range p.faults {
		switch {
		case f.operation != operation || f.path != "" && f.path != path || f.times == spent:
		case f.skip > 0:
			f.skip--
		default:
			if f.times >= 0 {
				if f.times--; f.times <= 0 {
					f.times = spent
				}
			}
			return f
		}
	}
	return nil
}

// spent marks a fault that has happened as often as it should.
const spent = 1 << 30

// awsError answers as AWS does.
func awsError(status int, code string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"__type":"com.amazonaws#`+code+`","message":"told by the test"}`)
		return true
	}
}
