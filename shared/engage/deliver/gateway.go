package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/engage/deliver/results"
	"carillon/shared/environment"
	"carillon/shared/httpclient"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

// Limits of a call to the device gateway.
const (
	// DefaultTimeout is how long a POST may take; MaxTimeout is what an operator may set at most: engage-deliver's
	// Timeout holds it.
	DefaultTimeout = 15 * time.Second
	MaxTimeout     = 20 * time.Second

	gatewayDial = 2 * time.Second
	// maxGatewayAnswer is in bytes: 500 results with a reason each take a tenth of it.
	maxGatewayAnswer = 1 << 20
)

// Gateway posts chunks to the operator's device gateway (docs/contract.md §2, "The device gateway"). It is safe for
// concurrent use; its connections are kept from chunk to chunk.
type Gateway struct {
	url        string
	secrets    secret.Reader
	secretName string
	clock      clock.Clock
	timeout    time.Duration
	client     *http.Client
}

// GatewayOptions describe a gateway.
type GatewayOptions struct {
	URL        string
	Secrets    secret.Reader
	SecretName string // of the signing secret (whsec_…)
	Clock      clock.Clock
	Timeout    time.Duration     // of a POST, at most MaxTimeout; DefaultTimeout if it is 0
	Transport  http.RoundTripper // instead of one to the network; nil for that
}

// NewGateway returns a client of a gateway. It returns an error if its time-out is too long, or httpclient.ParseURL's
// if its address is none that an operator may configure.
func NewGateway(o GatewayOptions) (*Gateway, error) {
	u, err := httpclient.ParseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Timeout < time.Second || o.Timeout > MaxTimeout {
		return nil, fmt.Errorf("the time-out of a POST must be from 1s to %v", MaxTimeout)
	}
	client := httpclient.New(httpclient.Options{Timeout: o.Timeout, DialTimeout: gatewayDial})
	if o.Transport != nil {
		client.Transport = o.Transport
	}
	return &Gateway{
		url:        u.String(),
		secrets:    o.Secrets,
		secretName: o.SecretName,
		clock:      o.Clock,
		timeout:    o.Timeout,
		client:     client,
	}, nil
}

// OpenGateway returns a client of the gateway at GATEWAY_URL, whose POSTs may take GATEWAY_TIMEOUT. Its signing secret
// is the one that GATEWAY_SECRET names, read in the background by now.
func OpenGateway(env *environment.Variables, config aws.Config) *Gateway {
	const urlVariable, timeoutVariable = "GATEWAY_URL", "GATEWAY_TIMEOUT"
	options := GatewayOptions{
		URL: env.String(urlVariable), SecretName: env.String("GATEWAY_SECRET"), Clock: clock.System{},
		Timeout: env.Duration(timeoutVariable),
	}
	secrets := secret.NewCache(secretstore.Open(config))
	secrets.Warm(secret.Current, options.SecretName)
	options.Secrets = secrets
	gateway, err := NewGateway(options)
	env.Reject(urlVariable+", "+timeoutVariable, err)
	return gateway
}

// webhook is a signed POST.
type webhook struct {
	request     *http.Request
	secret      string        // the version that signed it
	connections *atomic.Int32 // that it was sent over: one that turns out to be dead is followed by another
}

// prepare signs a body under a webhook-id, as of a time. It returns an error if the signing secret cannot be read, and
// errUnsigned if it is none.
func (g *Gateway) prepare(ctx context.Context, id string, at time.Time, body []byte) (webhook, error) {
	version, err := g.secrets.Get(ctx, g.secretName, secret.Current, secret.AnyAge)
	if err != nil {
		return webhook{}, err
	}
	signer, err := standardwebhooks.NewWebhook(strings.TrimSpace(version.Value.Reveal()))
	if err != nil {
		return webhook{}, errUnsigned // the cause quotes the secret
	}
	signature, err := signer.Sign(id, at, body)
	if err != nil {
		return webhook{}, errUnsigned
	}
	w := webhook{secret: version.ID, connections: new(atomic.Int32)}
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { w.connections.Add(1) },
	})
	w.request, err = http.NewRequestWithContext(traced, http.MethodPost, g.url, bytes.NewReader(body))
	if err != nil {
		return webhook{}, err
	}
	w.request.Header.Set("Content-Type", "application/json")
	w.request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	w.request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	w.request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	// Not sent: it lets the transport repeat the request on a new connection when the kept one turns out to be dead.
	w.request.Header["Idempotency-Key"] = nil
	return w, nil
}

// errUnsigned says that the signing secret is not whsec_ and base64.
var errUnsigned = errors.New("the gateway's signing secret is not whsec_ and base64")

// send sends a webhook; repeat says that it may have been sent before.
func (g *Gateway) send(w webhook, repeat bool) answer {
	response, err := g.client.Do(w.request)
	if err != nil {
		return lost(err)
	}
	defer func() { _ = response.Body.Close() }()
	refused := response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden
	if refused && g.hasRotated(w) {
		// Signed by a secret that was replaced a moment ago.
		return answer{kind: again, said: engage.GatewayAnswer(response.StatusCode)}
	}
	return g.read(response, repeat || w.connections.Load() > 1)
}

func lost(err error) answer {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return answer{kind: again, said: engage.TimedOut, cause: err}
	}
	return answer{kind: again, said: engage.BrokenConnection, cause: err}
}

func (g *Gateway) hasRotated(w webhook) bool {
	now, err := g.secrets.Get(w.request.Context(), g.secretName, secret.Current, 0)
	return err == nil && now.ID != w.secret
}

// read makes of a response what docs/contract.md §2 says in the table of "The device gateway".
func (g *Gateway) read(response *http.Response, repeat bool) answer {
	now, status := g.clock.Now(), response.StatusCode
	said := engage.GatewayAnswer(status)
	switch {
	case httpclient.IsTemporary(status):
		return answer{kind: again, said: said, after: httpclient.RetryAfter(response.Header, now)}
	case status == http.StatusConflict && repeat:
		return answer{kind: delivered, said: said, at: now}
	case status < 200 || status > 299:
		return answer{kind: refused, said: said}
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxGatewayAnswer+1))
	switch {
	case err != nil:
		return lost(err)
	case len(text) > maxGatewayAnswer:
		return answer{kind: again, said: engage.OversizedAnswer}
	}
	now = g.clock.Now()
	if text = results.Trim(text); len(text) == 0 {
		return answer{kind: delivered, said: said, at: now}
	}
	set, err := results.Decode(text, now)
	if err != nil {
		return answer{kind: again, said: engage.UnreadableAnswer}
	}
	return answer{kind: each, said: said, results: set}
}
