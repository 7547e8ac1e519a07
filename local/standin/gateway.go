package standin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
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
// destination.
type Gateway struct {
	key []byte

	mu       sync.Mutex
	received []any
}

// push is one POST as /_local/gateway shows it.
type push struct {
	At      time.Time         `json:"at"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// NewGateway makes a gateway that shares the secret, whsec_ and base64, with the bundle.
func NewGateway(secret string) (*Gateway, error) {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil {
		return nil, errors.New("the gateway's secret must be whsec_ and base64")
	}
	return &Gateway{key: key}, nil
}

// Name is gateway.
func (g *Gateway) Name() string { return "gateway" }

// Received is every POST with headers and body, whatever was answered.
func (g *Gateway) Received() []any {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]any(nil), g.received...)
}

// Empty forgets them.
func (g *Gateway) Empty() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.received = nil
}

// Witness keeps the request.
func (g *Gateway) Witness(r *http.Request, body []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.received = append(g.received, push{time.Now().UTC(), flat(r.Header), string(body)})
}

// ServeHTTP answers 401 without a valid signature, 400 to what is no push, else one result per destination.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"message": "the device gateway takes POST"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeJSON(w, http.StatusRequestEntityTooLarge, map[string]string{"message": "the body is too large or broken"})
		return
	}
	g.Witness(r, body)
	if err := g.verify(r.Header, body, time.Now()); err != nil {
		writeJSON(w, http.StatusUnauthorized, map[string]string{"message": err.Error()})
		return
	}
	var chunk struct {
		Destinations []struct {
			BNumber string `json:"bNumber"`
		} `json:"destinations"`
	}
	if err := json.Unmarshal(body, &chunk); err != nil || len(chunk.Destinations) == 0 {
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": "the body is not a push"})
		return
	}
	type result struct {
		BNumber string `json:"bNumber"`
		Status  string `json:"status"`
	}
	results := make([]result, len(chunk.Destinations))
	for i, destination := range chunk.Destinations {
		results[i] = result{destination.BNumber, "delivered"}
	}
	writeJSON(w, http.StatusOK, map[string]any{"results": results})
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
	mac := hmac.New(sha256.New, g.key)
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
