package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/httpclient"
	"carillon/shared/sanitize"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

// Limits of a call to the device gateway.
const (
	gatewayTimeout   = 8 * time.Second
	gatewayDial      = 2 * time.Second
	maxGatewayAnswer = 1 << 20 // bytes: 500 results with a reason each take a tenth of it
)

// Gateway posts chunks to the operator's device gateway (docs/contract.md §2, "The device gateway"). It is safe for
// concurrent use; its connections are kept from chunk to chunk.
type Gateway struct {
	url        string
	secrets    secret.Reader
	secretName string
	clock      clock.Clock
	client     *http.Client
}

// GatewayOptions describe a gateway.
type GatewayOptions struct {
	URL        string
	Secrets    secret.Reader
	SecretName string // of the signing secret (whsec_…)
	Clock      clock.Clock
	Transport  http.RoundTripper // instead of one to the network; nil for that
}

// NewGateway returns a client of a gateway. It returns httpclient.ParseURL's error if its address is none that an
// operator may configure.
func NewGateway(o GatewayOptions) (*Gateway, error) {
	u, err := httpclient.ParseURL(o.URL)
	if err != nil {
		return nil, err
	}
	client := httpclient.New(httpclient.Options{Timeout: gatewayTimeout, DialTimeout: gatewayDial})
	if o.Transport != nil {
		client.Transport = o.Transport
	}
	return &Gateway{url: u.String(), secrets: o.Secrets, secretName: o.SecretName, clock: o.Clock, client: client}, nil
}

// OpenGateway returns a client of the gateway at GATEWAY_URL. Its signing secret is the one that GATEWAY_SECRET names,
// read in the background by now.
func OpenGateway(env *environment.Variables, config aws.Config) *Gateway {
	const urlVariable = "GATEWAY_URL"
	address, secretName := env.String(urlVariable), env.String("GATEWAY_SECRET")
	secrets := secret.NewCache(secretstore.Open(config))
	secrets.Warm(secret.Current, secretName)
	gateway, err := NewGateway(GatewayOptions{
		URL: address, Secrets: secrets, SecretName: secretName, Clock: clock.System{},
	})
	env.Reject(urlVariable, err)
	return gateway
}

// answer is what the gateway made of a POST.
type answer struct {
	at           time.Time
	allDelivered bool                     // it said nothing about any
	results      map[string]engage.Result // by bNumber; one that is to be sent again has none
	refused      string                   // why every destination failed, or ""
}

// retryable says that the same POST shall be sent again.
type retryable struct {
	after time.Duration // the gateway's wish, 0 if it has none
	cause error
}

func (r *retryable) Error() string { return "the gateway could not take the chunk: " + r.cause.Error() }

func (r *retryable) Unwrap() error { return r.cause }

// webhook is a signed POST.
type webhook struct {
	request *http.Request
	secret  string // the version that signed it
}

// prepare signs a body under a webhook-id, as of a time. It returns an error if the signing secret cannot be read or is
// none.
func (g *Gateway) prepare(ctx context.Context, id string, at time.Time, body []byte) (webhook, error) {
	version, err := g.secrets.Get(ctx, g.secretName, secret.Current, secret.AnyAge)
	if err != nil {
		return webhook{}, err
	}
	signer, err := standardwebhooks.NewWebhook(strings.TrimSpace(version.Value.Reveal()))
	if err != nil {
		// The cause quotes it.
		return webhook{}, errors.New("engage: the gateway's secret is not whsec_ and base64")
	}
	signature, err := signer.Sign(id, at, body)
	if err != nil {
		return webhook{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, bytes.NewReader(body))
	if err != nil {
		return webhook{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	// Not sent: it lets the transport repeat the request on a new connection when the kept one turns out to be dead.
	request.Header["Idempotency-Key"] = nil
	return webhook{request: request, secret: version.ID}, nil
}

// send sends a webhook. It returns a *retryable error if the same is to be sent again: for one of the gateway's
// reasons, or because it refuses a signature by a secret that has been rotated since.
func (g *Gateway) send(w webhook) (answer, error) {
	response, err := g.client.Do(w.request)
	if err != nil {
		return answer{}, &retryable{cause: err}
	}
	defer func() { _ = response.Body.Close() }()
	refused := response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden
	if refused && g.hasRotated(w) {
		return answer{}, &retryable{cause: fmt.Errorf("status %d, and the secret was rotated", response.StatusCode)}
	}
	return g.read(response)
}

func (g *Gateway) hasRotated(w webhook) bool {
	now, err := g.secrets.Get(w.request.Context(), g.secretName, secret.Current, 0)
	return err == nil && now.ID != w.secret
}

func (g *Gateway) read(response *http.Response) (answer, error) {
	status := response.StatusCode
	switch {
	case httpclient.IsTemporary(status):
		after := httpclient.RetryAfter(response.Header, g.clock.Now())
		return answer{}, &retryable{after: after, cause: fmt.Errorf("status %d", status)}
	case status < 200 || status > 299:
		return answer{at: g.clock.Now(), refused: fmt.Sprintf("the gateway answered %d", status)}, nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxGatewayAnswer+1))
	switch {
	case err != nil:
		return answer{}, &retryable{cause: err}
	case len(text) > maxGatewayAnswer:
		return answer{}, &retryable{cause: errors.New("the answer is too large")}
	case len(text) == 0:
		return answer{at: g.clock.Now(), allDelivered: true}, nil
	}
	return decodeAnswer(text, g.clock.Now())
}

// gatewayAnswer is the body of a 2xx.
type gatewayAnswer struct {
	Results *[]struct {
		BNumber string `json:"bNumber"`
		Status  string `json:"status"`
		Reason  string `json:"reason"`
	} `json:"results"`
}

var errNoAnswer = errors.New(`the answer is not {"results":[…]}`)

func decodeAnswer(text []byte, now time.Time) (answer, error) {
	var body gatewayAnswer
	// Its members may come twice or in bad UTF-8 reasons: what can be read is taken.
	err := json.Unmarshal(text, &body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err != nil || body.Results == nil {
		return answer{}, &retryable{cause: errNoAnswer}
	}
	a := answer{at: now, results: make(map[string]engage.Result, len(*body.Results))}
	for _, r := range *body.Results {
		reason := sanitize.Text(r.Reason, sanitize.MaxReason)
		switch r.Status {
		case "delivered":
			a.results[r.BNumber] = engage.Result{State: engage.StateDelivered, Reason: reason, DeliveredAt: now}
		case "rejected":
			a.results[r.BNumber] = engage.Result{State: engage.StateRejected, Reason: reason}
		case "retry":
			delete(a.results, r.BNumber)
		default:
			return answer{}, &retryable{cause: errNoAnswer}
		}
	}
	return a, nil
}
