package standin

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// secretPrefix begins a secret of Standard Webhooks.
	secretPrefix = "whsec_"
	// signatureTolerance is how far a webhook's timestamp may be from now, either way.
	signatureTolerance = 5 * time.Minute
)

// NewWebhookSecret generates a Standard Webhooks secret of 32 random bytes.
func NewWebhookSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	return secretPrefix + base64.StdEncoding.EncodeToString(raw)
}

// Gateway is the device gateway: it checks the signature of every POST, keeps it, and answers delivered for every
// destination. Its methods are safe for concurrent use.
type Gateway struct {
	key []byte

	mu       sync.Mutex
	received []*Push
}

// Push is one POST as /_local/gateway shows it.
type Push struct {
	// At is when the POST's head had arrived, in UTC.
	At      time.Time         `json:"at"`
	Headers map[string]string `json:"headers"` // names in lower case
	Body    string            `json:"body"`
	// Refused is what is wrong with the POST's signature; empty if nothing is.
	Refused string `json:"refused,omitempty"`
	// Status is what was answered, 0 as long as nothing was.
	Status int `json:"status"`

	answer []byte
}

// WebhookID is the POST's webhook-id, the same on every repeat.
func (p Push) WebhookID() string { return p.Headers["webhook-id"] }

// Chunk is what a POST holds.
func (p Push) Chunk() (Chunk, error) {
	var c Chunk
	err := jsonv2.Unmarshal([]byte(p.Body), &c)
	return c, err
}

// Chunk is the body of a POST to the device gateway (docs/contract.md §2).
type Chunk struct {
	Type          string        `json:"type"`
	RequestID     string        `json:"requestId"`
	Chunk         int           `json:"chunk"`
	Program       Program       `json:"program"`
	ANumbers      []string      `json:"aNumbers"`
	TTLSeconds    int           `json:"ttlSeconds"`
	KeepAfterCall bool          `json:"keepAfterCall"`
	NotBefore     time.Time     `json:"notBefore"`
	DeliverBefore time.Time     `json:"deliverBefore"`
	Destinations  []Destination `json:"destinations"`
}

// Program is what the handsets of a chunk show.
type Program struct {
	UUID    string         `json:"uuid"`
	Name    string         `json:"name"`
	Content jsontext.Value `json:"content"`
}

// Destination is a handset of a chunk.
type Destination struct {
	BNumber          string            `json:"bNumber"`
	Personalization  map[string]string `json:"personalization"`
	CustomTrackingID *string           `json:"customTrackingId"`
}

// Result is what became of a destination: delivered, rejected or retry.
type Result struct {
	BNumber string `json:"bNumber"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
}

// Results is a 200 with these results, for scripts and hooks.
func Results(results ...Result) Answer {
	raw, err := jsonv2.Marshal(struct {
		Results []Result `json:"results"`
	}{results}, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // strings can be marshalled
	}
	return Answer{
		Status:  http.StatusOK,
		Headers: map[string]string{"Content-Type": "application/json"},
		Body:    string(raw),
	}
}

// NewGateway makes a gateway that shares the secret, whsec_ and base64, with the bundle.
func NewGateway(secret string) (*Gateway, error) {
	g := &Gateway{}
	return g, g.SetSecret(secret)
}

// SetSecret makes the gateway check signatures with another secret, as after a rotation.
func (g *Gateway) SetSecret(secret string) error {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil {
		return errors.New("the gateway's secret must be whsec_ and base64")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.key = key
	return nil
}

// Name is gateway.
func (g *Gateway) Name() string { return "gateway" }

// Received is every POST, as Pushes.
func (g *Gateway) Received() []any {
	pushes := g.Pushes()
	list := make([]any, len(pushes))
	for i, p := range pushes {
		list[i] = p
	}
	return list
}

// Pushes is every POST since the last Empty, oldest first, whatever was answered.
func (g *Gateway) Pushes() []Push {
	g.mu.Lock()
	defer g.mu.Unlock()
	pushes := make([]Push, len(g.received))
	for i, p := range g.received {
		pushes[i] = *p
	}
	return pushes
}

// Empty forgets them.
func (g *Gateway) Empty() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.received = nil
}

// Witness keeps the request and what is answered.
func (g *Gateway) Witness(r Request) func(status int, body []byte) {
	p := &Push{At: r.At, Headers: flat(r.Header), Body: string(r.Body)}
	if err := g.verify(r.Header, r.Body, r.At); err != nil {
		p.Refused = err.Error()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.received = append(g.received, p)
	return func(status int, body []byte) {
		g.mu.Lock()
		defer g.mu.Unlock()
		p.Status, p.answer = status, body
	}
}

// ServeHTTP answers 401 without a valid signature, 400 to what is no push, else one result per destination.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.serve(w, r, 1) }

// ServeHalf gives results to the first half of the destinations alone.
func (g *Gateway) ServeHalf(w http.ResponseWriter, r *http.Request) { g.serve(w, r, 2) }

// serve gives results to every destination of the first nth part.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, nth int) {
	if r.Method != http.MethodPost {
		writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"message": "the device gateway takes POST"})
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": "the body is broken"})
		return
	}
	if err := g.verify(r.Header, body, time.Now()); err != nil {
		writeJSON(w, http.StatusUnauthorized, map[string]string{"message": err.Error()})
		return
	}
	numbers, err := bNumbers(body)
	if err != nil || len(numbers) == 0 {
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": "the body is not a push"})
		return
	}
	var answer []byte
	for i, number := range numbers[:(len(numbers)+nth-1)/nth] {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = append(append(append(answer, `{"bNumber":`...), number...), `,"status":"delivered"}`...)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"results":[%s]}`, answer)
}

// bNumbers reads the numbers of a push, as JSON strings. It reads no more than that: when many pushes come at the same
// moment, the time that this takes makes the last one late.
func bNumbers(body []byte) ([]jsontext.Value, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	var numbers []jsontext.Value
	err := members(d, "destinations", func() error {
		if d.PeekKind() != '[' {
			return errors.New("destinations is no array")
		}
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		for d.PeekKind() == '{' {
			err := members(d, "bNumber", func() error {
				number, err := d.ReadValue()
				numbers = append(numbers, number.Clone())
				return err
			})
			if err != nil {
				return err
			}
		}
		_, err := d.ReadToken()
		return err
	})
	return numbers, err
}

// members reads an object: the member of one name by a function, the others not at all.
func members(d *jsontext.Decoder, name string, read func() error) error {
	if d.PeekKind() != '{' {
		return errors.New("it is no object")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == '"' {
		member, err := d.ReadToken()
		if err != nil {
			return err
		}
		if member.String() == name {
			err = read()
		} else {
			err = d.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// verify checks the three headers of Standard Webhooks; one of several signatures is enough.
func (g *Gateway) verify(header http.Header, body []byte, now time.Time) error {
	id, timestamp := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	if id == "" {
		return errors.New("webhook-id is missing")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return errors.New("webhook-timestamp is not a number of seconds")
	}
	if now.Sub(time.Unix(seconds, 0)).Abs() > signatureTolerance {
		return fmt.Errorf("webhook-timestamp is more than %v away", signatureTolerance)
	}
	g.mu.Lock()
	key := g.key
	g.mu.Unlock()
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	want := mac.Sum(nil)
	for signature := range strings.FieldsSeq(header.Get("Webhook-Signature")) {
		encoded, ok := strings.CutPrefix(signature, "v1,")
		if !ok {
			continue
		}
		if got, err := base64.StdEncoding.DecodeString(encoded); err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errors.New("webhook-signature does not match")
}
