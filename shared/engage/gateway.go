package engage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"carillon/shared/fault"
	"carillon/shared/hostname"
	"carillon/shared/httpclient"
	"carillon/shared/secret"
)

// Limits of a call to the device gateway.
const (
	gatewayTimeout   = 8 * time.Second
	gatewayDial      = 2 * time.Second
	maxGatewayAnswer = 1 << 20 // bytes: 500 results with a reason each take a tenth of it
	maxReason        = 256     // characters
)

// Gateway posts chunks to the operator's device gateway (contract.md §2, "The device gateway"). It is safe for concurrent
// use; its connections are kept from chunk to chunk.
type Gateway struct {
	url        string
	secrets    Secrets
	secretName string
	client     *http.Client
}

// Secrets reads a version of a secret, at most maxAge old; secret.Cache does.
type Secrets interface {
	Get(ctx context.Context, name string, stage secret.Stage, maxAge time.Duration) (secret.Version, error)
}

// NewGateway returns a client of the gateway at an address, whose signing secret (whsec_…) is the secret of that name. It
// returns an error if the address is not https; http will do for this machine alone.
func NewGateway(address string, secrets Secrets, secretName string) (*Gateway, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !hostname.IsThisMachine(u.Hostname())) {
		return nil, errors.New("engage: the gateway's URL must be https, without credentials")
	}
	return &Gateway{url: address, secrets: secrets, secretName: secretName, client: &http.Client{
		Timeout: gatewayTimeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: gatewayDial}).DialContext,
			TLSHandshakeTimeout: gatewayDial,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 10,
			IdleConnTimeout:     90 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Answer is what the gateway made of a POST.
type Answer struct {
	At           time.Time
	AllDelivered bool              // it said nothing about any
	Results      map[string]Result // by bNumber; one that is to be sent again has none
	Refused      string            // why every destination failed, or ""
}

// retryable says that the same POST shall be sent again.
type retryable struct {
	after time.Duration // the gateway's wish, 0 if it has none
	cause error
}

func (r *retryable) Error() string { return "the gateway could not take the chunk: " + r.cause.Error() }

func (r *retryable) Unwrap() error { return r.cause }

// Webhook is a signed POST.
type Webhook struct {
	request *http.Request
	secret  string // the version that signed it
}

// Prepare signs a body under a webhook-id, as of a time. It returns an error if the signing secret cannot be read or is none.
func (g *Gateway) Prepare(ctx context.Context, id string, at time.Time, body []byte) (Webhook, error) {
	version, err := g.secrets.Get(ctx, g.secretName, secret.Current, secret.AnyAge)
	if err != nil {
		return Webhook{}, err
	}
	signer, err := standardwebhooks.NewWebhook(strings.TrimSpace(version.Value.Reveal()))
	if err != nil {
		return Webhook{}, errors.New("engage: the gateway's secret is not whsec_ and base64") // the cause quotes it
	}
	signature, err := signer.Sign(id, at, body)
	if err != nil {
		return Webhook{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, bytes.NewReader(body))
	if err != nil {
		return Webhook{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	// Not sent: it lets the transport repeat the request on a new connection when the kept one turns out to be dead.
	request.Header["Idempotency-Key"] = nil
	return Webhook{request: request, secret: version.ID}, nil
}

// Post sends a webhook. It returns a *retryable error if the same is to be sent again: for one of the gateway's reasons, or
// because it refuses a signature by a secret that has been rotated since.
func (g *Gateway) Post(w Webhook) (Answer, error) {
	response, err := g.client.Do(w.request)
	if err != nil {
		return Answer{}, &retryable{cause: err}
	}
	defer func() { _ = response.Body.Close() }()
	if (response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden) && g.rotated(w) {
		return Answer{}, &retryable{cause: fmt.Errorf("status %d, and the secret was rotated", response.StatusCode)}
	}
	return read(response)
}

func (g *Gateway) rotated(w Webhook) bool {
	now, err := g.secrets.Get(w.request.Context(), g.secretName, secret.Current, 0)
	return err == nil && now.ID != w.secret
}

func read(response *http.Response) (Answer, error) {
	status := response.StatusCode
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return Answer{}, &retryable{after: httpclient.RetryAfter(response.Header, time.Now()), cause: fmt.Errorf("status %d", status)}
	case status < 200 || status > 299:
		return Answer{At: time.Now(), Refused: fmt.Sprintf("the gateway answered %d", status)}, nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxGatewayAnswer+1))
	switch {
	case err != nil:
		return Answer{}, &retryable{cause: err}
	case len(text) > maxGatewayAnswer:
		return Answer{}, &retryable{cause: errors.New("the answer is too large")}
	case len(text) == 0:
		return Answer{At: time.Now(), AllDelivered: true}, nil
	}
	return decodeAnswer(text, time.Now())
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

func decodeAnswer(text []byte, now time.Time) (Answer, error) {
	var body gatewayAnswer
	// Its members may come twice or in bad UTF-8 reasons: what can be read is taken.
	err := json.Unmarshal(text, &body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err != nil || body.Results == nil {
		return Answer{}, &retryable{cause: errNoAnswer}
	}
	answer := Answer{At: now, Results: make(map[string]Result, len(*body.Results))}
	for _, r := range *body.Results {
		switch r.Status {
		case "delivered":
			answer.Results[r.BNumber] = Result{State: StateDelivered, Reason: reason(r.Reason), DeliveredAt: now}
		case "rejected":
			answer.Results[r.BNumber] = Result{State: StateRejected, Reason: reason(r.Reason)}
		case "retry":
			delete(answer.Results, r.BNumber)
		default:
			return Answer{}, &retryable{cause: errNoAnswer}
		}
	}
	return answer, nil
}

// reason returns the part of a foreign text that is kept.
func reason(text string) string {
	text = strings.ToValidUTF8(text, "")
	if utf8.RuneCountInString(text) > maxReason {
		text = string([]rune(text)[:maxReason])
	}
	return text
}

// pushBody writes the body of a POST. It is the same bytes for the same attempt, whoever writes it.
func pushBody(meta *Meta, chunk int, content *Content, destinations []Destination) ([]byte, error) {
	var b bytes.Buffer
	e := jsontext.NewEncoder(&b)
	w := tokenWriter{encoder: e}
	w.tokens(jsontext.BeginObject,
		jsontext.String("type"), jsontext.String("push"),
		jsontext.String("requestId"), jsontext.String(meta.RequestID),
		jsontext.String("chunk"), jsontext.Int(int64(chunk)),
		jsontext.String("program"), jsontext.BeginObject,
		jsontext.String("uuid"), jsontext.String(content.Program.UUID),
		jsontext.String("name"), jsontext.String(content.Program.Name),
		jsontext.String("content"))
	w.value(content.Program.Content)
	w.tokens(jsontext.EndObject, jsontext.String("aNumbers"), jsontext.BeginArray)
	for _, number := range content.ANumbers {
		w.tokens(jsontext.String(number))
	}
	w.tokens(jsontext.EndArray,
		jsontext.String("ttlSeconds"), jsontext.Int(int64(meta.TTLSeconds)),
		jsontext.String("keepAfterCall"), jsontext.Bool(meta.KeepAfterCall),
		jsontext.String("notBefore"), jsontext.String(wireTime(meta.NotBefore)),
		jsontext.String("deliverBefore"), jsontext.String(wireTime(meta.DeliverBefore())),
		jsontext.String("destinations"), jsontext.BeginArray)
	for _, d := range destinations {
		w.tokens(jsontext.BeginObject, jsontext.String("bNumber"), jsontext.String(d.BNumber), jsontext.String("personalization"), jsontext.BeginObject)
		for _, v := range d.Personalization {
			w.tokens(jsontext.String(v.Name), jsontext.String(v.Text))
		}
		w.tokens(jsontext.EndObject, jsontext.String("customTrackingId"))
		if d.CustomTrackingID == "" {
			w.tokens(jsontext.Null, jsontext.EndObject)
		} else {
			w.tokens(jsontext.String(d.CustomTrackingID), jsontext.EndObject)
		}
	}
	w.tokens(jsontext.EndArray, jsontext.EndObject)
	if w.err != nil {
		return nil, fault.Wrap(fault.Internal, w.err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// tokenWriter keeps the first error.
type tokenWriter struct {
	encoder *jsontext.Encoder
	err     error
}

func (w *tokenWriter) tokens(tokens ...jsontext.Token) {
	for _, token := range tokens {
		if w.err == nil {
			w.err = w.encoder.WriteToken(token)
		}
	}
}

func (w *tokenWriter) value(value jsontext.Value) {
	if len(value) == 0 {
		value = jsontext.Value("{}")
	}
	if w.err == nil {
		w.err = w.encoder.WriteValue(value)
	}
}

// wireTime is a time as partners see it: UTC, RFC 3339, milliseconds where there are any.
func wireTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.999Z07:00")
}
