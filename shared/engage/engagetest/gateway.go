package engagetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock"
	"carillon/shared/secret"
)

// SigningSecret is what pushes are signed with here.
const SigningSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// RotatingSecret is a secret that is kept for a while, as secret.Cache keeps it.
type RotatingSecret struct{ Kept, Current secret.Version }

// NewSecret returns a version of a secret.
func NewSecret(id, value string) secret.Version {
	return secret.Version{ID: id, Value: secret.NewText(value)}
}

// Get returns the kept version, or, to who asks for a fresh one, the current one, which is kept from then on.
func (s *RotatingSecret) Get(
	_ context.Context, _ string, _ secret.Stage, maxAge time.Duration,
) (secret.Version, error) {
	if maxAge == 0 {
		s.Kept = s.Current
	}
	return s.Kept, nil
}

// Post is a POST as the gateway received it.
type Post struct {
	ID   string // webhook-id
	At   time.Time
	Body Body
	Raw  string
}

// Body is the body of a Post.
type Body struct {
	Type, RequestID string
	Chunk           int
	Program         struct {
		UUID, Name string
		Content    json.RawMessage
	}
	ANumbers                 []string
	TTLSeconds               int
	KeepAfterCall            bool
	NotBefore, DeliverBefore string
	Destinations             []struct {
		BNumber          string
		Personalization  map[string]string
		CustomTrackingID *string
	}
}

// Gateway is a device gateway that checks every signature, keeps every POST, and answers as a test says.
type Gateway struct {
	*httptest.Server

	// Answer answers the POST number n, counted from 0. Nil answers that all of it is delivered.
	Answer func(n int, p Post, w http.ResponseWriter, r *http.Request)

	clock clock.Clock
	mu    sync.Mutex
	posts []Post
}

func newGateway(t testing.TB, clock clock.Clock) *Gateway {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(SigningSecret)
	require.NoError(t, err)
	g := &Gateway{clock: clock}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := g.clock.Now()
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if err := verifier.VerifyIgnoringTimestamp(raw, r.Header); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		p := Post{ID: r.Header.Get("webhook-id"), At: at, Raw: string(raw)}
		if err := json.Unmarshal(raw, &p.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		g.mu.Lock()
		n := len(g.posts)
		g.posts = append(g.posts, p)
		g.mu.Unlock()
		if g.Answer != nil {
			g.Answer(n, p, w, r)
			return
		}
		Results(w, p, func(int, string) string { return `"delivered"` })
	}))
	t.Cleanup(g.Close)
	return g
}

// Results answers a status for each destination, "" for none. A status is JSON, and may have a reason behind it.
func Results(w io.Writer, p Post, status func(i int, bNumber string) string) {
	var parts []string
	for i, d := range p.Body.Destinations {
		if s := status(i, d.BNumber); s != "" {
			parts = append(parts, fmt.Sprintf(`{"bNumber":%q,"status":%s}`, d.BNumber, s))
		}
	}
	_, _ = fmt.Fprintf(w, `{"results":[%s]}`, strings.Join(parts, ","))
}

// Received returns the POSTs so far.
func (g *Gateway) Received() []Post {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Post(nil), g.posts...)
}
