package contract_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// providerProxy stands between the bundle and the stand-in of Bango. It keeps what the bundle sends, and misbehaves for
// one customer as a test has it, so that tests of other customers can go on.
type providerProxy struct {
	server *httptest.Server

	mu      sync.Mutex
	forward http.Handler
	seen    map[string][]providerRequest // by billing account
	faults  map[string][]http.HandlerFunc
}

// providerRequest is what the provider got.
type providerRequest struct {
	Method, Path       string
	Username, Password string
	Identifier         string // X-RequestIdentifier
	ContentType        string
	Body               map[string]any
}

var provider *providerProxy

func newProviderProxy() *providerProxy {
	p := &providerProxy{seen: map[string][]providerRequest{}, faults: map[string][]http.HandlerFunc{}}
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	return p
}

func (p *providerProxy) url() string { return p.server.URL + "/resale" }

func (p *providerProxy) close() { p.server.Close() }

// forwardTo is called before the first request.
func (p *providerProxy) forwardTo(base string) {
	target, err := url.Parse(base)
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forward = http.StripPrefix(
		"/resale",
		&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }},
	)
}

// misbehave has the next requests for a customer answered so, one each.
func (p *providerProxy) misbehave(customer string, faults ...http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[customer] = append(p.faults[customer], faults...)
}

// behave has the next requests for a customer answered well.
func (p *providerProxy) behave(customer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.faults, customer)
}

// requests returns what was asked for a customer.
func (p *providerProxy) requests(customer string) []providerRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]providerRequest(nil), p.seen[customer]...)
}

func (p *providerProxy) serve(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the bundle has gone
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	seen := providerRequest{
		Method:      r.Method,
		Path:        r.URL.Path,
		Identifier:  r.Header.Get("X-RequestIdentifier"),
		ContentType: r.Header.Get("Content-Type"),
	}
	seen.Username, seen.Password, _ = r.BasicAuth()
	_ = json.Unmarshal(raw, &seen.Body) // a body that is none is seen as none
	identifier, _ := seen.Body["customerIdentifier"].(string)
	customer := identifier
	if country, account, found := strings.Cut(identifier, "-"); found && len(country) == 2 {
		customer = account
	}
	p.mu.Lock()
	p.seen[customer] = append(p.seen[customer], seen)
	serve := p.forward.ServeHTTP
	if faults := p.faults[customer]; len(faults) > 0 {
		serve, p.faults[customer] = faults[0], faults[1:]
	}
	p.mu.Unlock()
	serve(w, r)
}

// answers is a provider that answers just that.
func answers(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hangs is a provider that says nothing until the bundle gives it up.
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// hangsUp is a provider whose connection breaks within the first line of its answer. One that breaks before it is asked
// again at once, by the HTTP client.
func hangsUp(w http.ResponseWriter, _ *http.Request) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(connection, "HTTP/1.1 20") // who has gone need not read it
	_ = connection.Close()
}

// grants is a provider that grants this, whatever it is asked for; expiry may be empty.
func grants(entitlementID, link, expiry string) http.HandlerFunc {
	parameters := map[string]string{"action": "ACTIVATE", "url": link}
	if expiry != "" {
		parameters["urlExpiry"] = expiry
	}
	raw, err := json.Marshal(map[string]any{
		"entitlementId":   entitlementID,
		"responseCode":    "CLIENT_ACTION_REQUIRED",
		"responseMessage": "",
		"parameters":      parameters,
	})
	if err != nil {
		panic(err)
	}
	return answers(http.StatusOK, string(raw))
}
