package faults_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// handsets is the device gateway of the bundle.
var handsets *deviceGateway

// deviceGateway checks each POST's signature with the reference library and keeps it.
type deviceGateway struct {
	*httptest.Server

	mu    sync.Mutex
	posts []webhook
	// hook, if there is one, is asked before a POST is answered; it returns true if it answered.
	hook func(p webhook, w http.ResponseWriter) bool
}

type webhook struct {
	id, raw   string
	at        time.Time
	requestID string
	notBefore time.Time
	bNumbers  []string
}

func newDeviceGateway() *deviceGateway {
	g := &deviceGateway{}
	g.Server = httptest.NewServer(g)
	return g
}

// ServeHTTP implements http.Handler.
func (g *deviceGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	verifier, err := standardwebhooks.NewWebhook(bundle.Demo.Gateway.Secret)
	if err == nil {
		err = verifier.Verify(raw, r.Header)
	}
	var body struct {
		RequestID    string
		NotBefore    time.Time
		Destinations []struct{ BNumber string }
	}
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	p := webhook{id: r.Header.Get("webhook-id"), raw: string(raw), at: at, requestID: body.RequestID, notBefore: body.NotBefore}
	var results []string
	for _, d := range body.Destinations {
		p.bNumbers = append(p.bNumbers, d.BNumber)
		results = append(results, fmt.Sprintf(`{"bNumber":%q,"status":"delivered"}`, d.BNumber))
	}
	g.mu.Lock()
	g.posts = append(g.posts, p)
	hook := g.hook
	g.mu.Unlock()
	if hook != nil && hook(p, w) {
		return
	}
	_, _ = fmt.Fprintf(w, `{"results":[%s]}`, strings.Join(results, ","))
}

func (g *deviceGateway) onPost(hook func(p webhook, w http.ResponseWriter) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hook = hook
}

// of returns the POSTs of a push.
func (g *deviceGateway) of(requestID string) []webhook {
	g.mu.Lock()
	defer g.mu.Unlock()
	var own []webhook
	for _, p := range g.posts {
		if p.requestID == requestID {
			own = append(own, p)
		}
	}
	return own
}
