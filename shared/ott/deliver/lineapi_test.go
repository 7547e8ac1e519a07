package deliver_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"carillon/shared/clock/clocktest"
	"carillon/shared/ott/deliver"
)

// lineAPI answers as LINE does: it grants tokens for 15 minutes to who knows the channel's secret, takes what comes
// with one, each retry key and each reply token once.
type lineAPI struct {
	*platforms
	clock *clocktest.Clock

	mu     sync.Mutex
	tokens map[string]time.Time // until when
	keys   map[string]bool
	reply  string                                        // the reply token that is good
	first  func(w http.ResponseWriter, path string) bool // answers before anything else, if it says so
}

func newLINEAPI(t *testing.T) *lineAPI {
	t.Helper()
	api := &lineAPI{clock: clocktest.New(), tokens: map[string]time.Time{}, keys: map[string]bool{}}
	api.platforms = newPlatforms(t, api.serve)
	return api
}

func (l *lineAPI) serve(_ int, w http.ResponseWriter, r *http.Request, body string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	refuse := func(code int, body string) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
	if l.first != nil && l.first(w, r.URL.Path) {
		return
	}
	if r.Host != "api.line.me" || r.Method != http.MethodPost {
		refuse(404, `{"message":"Not found"}`)
		return
	}
	if r.URL.Path == "/oauth2/v3/token" {
		form, err := url.ParseQuery(body)
		if err != nil || form.Get("grant_type") != "client_credentials" ||
			form.Get("client_id") != "23493453984234345" || form.Get("client_secret") != channelSecret {
			refuse(400,
				`{"error":"invalid_client","error_description":"invalid client_secret `+form.Get("client_secret")+`"}`)
			return
		}
		token := fmt.Sprintf("line-token-%d-%s", len(l.tokens), strings.Repeat("t", 20))
		l.tokens[token] = l.clock.Now().Add(15 * time.Minute)
		_, _ = fmt.Fprintf(w, `{"token_type":"Bearer","access_token":%q,"expires_in":900}`, token)
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if until, known := l.tokens[token]; !known || !l.clock.Now().Before(until) {
		refuse(401,
			`{"message":"Authentication failed. Confirm that the access token in the authorization header is `+
				`valid: `+token+`"}`)
		return
	}
	switch key := r.Header.Get("X-Line-Retry-Key"); r.URL.Path {
	case "/v2/bot/message/reply":
		if l.reply == "" || !strings.Contains(body, `"replyToken":"`+l.reply+`"`) {
			refuse(400, `{"message":"Invalid reply token"}`)
			return
		}
		l.reply = ""
	case "/v2/bot/message/push":
		if _, err := uuid.Parse(key); err != nil {
			refuse(400, `{"message":"The retry key is not UUID"}`)
			return
		}
		if l.keys[key] {
			w.Header().Set("X-Line-Accepted-Request-Id", "earlier")
			refuse(409, `{"message":"The retry key is already accepted","sentMessages":[{"id":"461230966842064897"}]}`)
			return
		}
		l.keys[key] = true
	default:
		refuse(404, `{"message":"Not found"}`)
		return
	}
	var request struct{ Messages []any }
	if json.Unmarshal([]byte(body), &request) != nil {
		refuse(400, `{"message":"no JSON"}`)
		return
	}
	sent := make([]string, len(request.Messages))
	for i := range sent {
		sent[i] = fmt.Sprintf(`{"id":"%d","quoteToken":"q"}`, 461230966842064897+i)
	}
	_, _ = fmt.Fprintf(w, `{"sentMessages":[%s]}`, strings.Join(sent, ","))
}

// paths are those of all requests in turn.
func (l *lineAPI) paths() string {
	var paths []string
	for _, r := range l.all() {
		paths = append(paths, r.uri[strings.LastIndex(r.uri, "/")+1:])
	}
	return strings.Join(paths, " ")
}

func (l *lineAPI) line(t *testing.T) *deliver.LINE {
	t.Helper()
	return deliver.NewLINE(l.transport(t), l.clock)
}
