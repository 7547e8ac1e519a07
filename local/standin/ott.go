package standin

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// lineHost is where LINE's Messaging API is; every other host is Messenger's.
const lineHost = "api.line.me"

// The platforms, as registrations name them.
const (
	platformMessenger = "messenger"
	platformLINE      = "line"
)

// Accounts is what the platforms know of the pages and channels that use them.
type Accounts interface {
	// Page returns the page with a page access token, nil if there is none.
	Page(ctx context.Context, accessToken string) (*Page, error)
	// Channel returns the channel with an id, nil if there is none.
	Channel(ctx context.Context, id string) (*Channel, error)
}

// Page is a Messenger page.
type Page struct{ Name, ApplicationSecret string }

// Channel is a LINE channel.
type Channel struct{ Name, Secret string }

// OTT is Messenger's Send API and LINE's Messaging API. It checks what it gets as they do, as far as they document it,
// and keeps every request. Its methods are safe for concurrent use.
type OTT struct {
	now func() time.Time

	mu       sync.Mutex
	accounts Accounts
	received []*PlatformRequest
	chats    []Chat
	// What LINE granted and accepted, which Empty does not take back.
	tokens      map[string]lineToken
	retryKeys   map[string]lineAccepted // by channel and key
	replyTokens map[string]bool         // that were used
}

// PlatformRequest is one as /_local/ott shows it.
type PlatformRequest struct {
	// At is when the request's head had arrived, in UTC.
	At       time.Time         `json:"at"`
	Platform string            `json:"platform"`
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Query    map[string]string `json:"query"`
	Headers  map[string]string `json:"headers"` // names in lower case, host among them
	Body     string            `json:"body"`
	// Status is what was answered, 0 as long as nothing was.
	Status int `json:"status"`
}

// NewOTT makes platforms that tell the time by now, time.Now for instance. They know nobody before Connect.
func NewOTT(now func() time.Time) *OTT {
	return &OTT{
		now:         now,
		tokens:      map[string]lineToken{},
		retryKeys:   map[string]lineAccepted{},
		replyTokens: map[string]bool{},
	}
}

// Connect tells the platforms who uses them.
func (o *OTT) Connect(accounts Accounts) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.accounts = accounts
}

// Name is ott.
func (o *OTT) Name() string { return "ott" }

// Platform is line for api.line.me, and messenger for every other host.
func (o *OTT) Platform(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, lineHost) {
		return platformLINE
	}
	return platformMessenger
}

// Received is every request, as PlatformRequests.
func (o *OTT) Received() []any {
	requests := o.Requests()
	list := make([]any, len(requests))
	for i, r := range requests {
		list[i] = r
	}
	return list
}

// Requests is every request since the last Empty, oldest first, whatever was answered.
func (o *OTT) Requests() []PlatformRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	requests := make([]PlatformRequest, len(o.received))
	for i, r := range o.received {
		requests[i] = *r
	}
	return requests
}

// Empty forgets the requests, and what the chats show.
func (o *OTT) Empty() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.received, o.chats = nil, nil
}

// Witness keeps the request and the status of its answer.
func (o *OTT) Witness(r Request) func(status int, body []byte) {
	p := &PlatformRequest{
		At: r.At, Platform: o.Platform(r.Host), Method: r.Method, Path: r.Path, Query: map[string]string{},
		Headers: flat(r.Header), Body: string(r.Body),
	}
	p.Headers["host"] = r.Host // net/http takes it out of the header
	query, _ := url.ParseQuery(r.Query)
	for name, values := range query {
		p.Query[name] = strings.Join(values, ",")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.received = append(o.received, p)
	return func(status int, _ []byte) {
		o.mu.Lock()
		defer o.mu.Unlock()
		p.Status = status
	}
}

// ServeHTTP answers as the platform of the request's host.
func (o *OTT) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if o.Platform(r.Host) == platformLINE {
		o.serveLINE(w, r)
		return
	}
	o.serveMessenger(w, r)
}

func (o *OTT) page(ctx context.Context, accessToken string) (*Page, error) {
	accounts := o.connected()
	if accounts == nil {
		return nil, nil //nolint:nilnil // as Accounts has it: nobody is known yet
	}
	return accounts.Page(ctx, accessToken)
}

func (o *OTT) channel(ctx context.Context, id string) (*Channel, error) {
	accounts := o.connected()
	if accounts == nil {
		return nil, nil //nolint:nilnil // as Accounts has it: nobody is known yet
	}
	return accounts.Channel(ctx, id)
}

func (o *OTT) connected() Accounts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.accounts
}
