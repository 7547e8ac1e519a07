package main_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/stackname"
)

// api stands for the bundle's API and remembers the last request.
type api struct {
	*httptest.Server
	stack string

	mu     sync.Mutex
	last   received
	answer http.HandlerFunc
}

// received is a request that came, signed or not.
type received struct {
	*http.Request
	body string
}

var (
	verifyToken = "this is the +&verify token"
	pageSecrets = ott.Credentials{
		ApplicationSecret:   secret.NewText("app-secret"),
		CallbackVerifyToken: secret.NewText(verifyToken),
	}
	lineSecrets = ott.Credentials{ChannelSecret: secret.NewText("channel-secret")}
)

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{stack: emulatortest.Deploy(t)}
	registrations := store.NewRegistrations(
		emulatortest.DynamoDB(),
		stackname.RegistrationsTable(a.stack),
		emulatortest.SecretsManager(),
		stackname.RegistrationSecretPrefix(a.stack),
		clock.System{},
		slog.New(slog.DiscardHandler),
	)
	for _, property := range []struct {
		ott.Registration
		ott.Credentials
	}{
		{ott.Registration{Platform: ott.Messenger, PropertyID: "17 3/2"}, pageSecrets},
		{ott.Registration{Platform: ott.LINE, PropertyID: "123"}, lineSecrets},
	} {
		require.NoError(
			t,
			registrations.Put(t.Context(), "acme", uuid.NewString(), property.Registration, property.Credentials),
		)
	}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.last = received{r, string(body)}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Request-Id", "0b8c2f0e-0000-4000-8000-000000000001")
		a.answer(w, r)
	}))
	a.answers(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge"))
	})
	t.Cleanup(a.Close)
	return a
}

// answers says what is answered from now on.
func (a *api) answers(answer http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// got is the last request.
func (a *api) got() received {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

func (a *api) args(platform, id string, more ...string) []string {
	return append([]string{"ott", "callback", platform, id, "--stack", a.stack, "--url", a.URL + "/"}, more...)
}

func (r received) signed(platform ott.Platform, credentials ott.Credentials) bool {
	return callback.Verify(platform, credentials, time.Now(), []byte(r.body), r.Header.Get)
}

// entries are what the API reads in the body.
func (r received) entries(t *testing.T, platform ott.Platform) []callback.Entry {
	t.Helper()
	body, err := callback.DecodeEvents(platform, strings.NewReader(r.body))
	require.NoError(t, err)
	assert.Zero(t, body.Bad)
	return body.Entries
}

func TestOttCallback(t *testing.T) {
	a := newAPI(t)
	const ok = "200 OK, request id 0b8c2f0e-0000-4000-8000-000000000001\n"

	r := run(t, a.args("messenger", "17 3/2", "--text", `Where's my "order"?`)...)
	assert.Equal(t, ok, r.stdout)
	assert.Equal(t, "POST /ott/v1/callback/messenger/17%203%2F2", a.got().Method+" "+a.got().URL.EscapedPath())
	assert.Equal(t, "application/json", a.got().Header.Get("Content-Type"))
	assert.True(t, a.got().signed(ott.Messenger, pageSecrets))
	events := a.got().entries(t, ott.Messenger)[0].Events
	require.Len(t, events, 1)
	assert.WithinDuration(t, time.Now(), events[0].Time, time.Minute)
	var said struct{ Message struct{ Text string } }
	require.NoError(t, json.Unmarshal(events[0].JSON, &said))
	assert.Equal(t, `Where's my "order"?`, said.Message.Text)

	r = run(t, a.args("line", "123", "-o", "json")...)
	assert.JSONEq(t, `{"status":200,"requestId":"0b8c2f0e-0000-4000-8000-000000000001","body":""}`, r.stdout)
	assert.True(t, a.got().signed(ott.LINE, lineSecrets))
	events = a.got().entries(t, ott.LINE)[0].Events
	require.Len(t, events, 1)
	assert.Contains(t, string(events[0].JSON), `"text":"hi"`)
	assert.Regexp(t, `"replyToken":"[0-9a-f]{32}"`, string(events[0].JSON))

	run(t, a.args("line", "123", "--verify")...)
	assert.True(t, a.got().signed(ott.LINE, lineSecrets))
	events = a.got().entries(t, ott.LINE)[0].Events
	assert.Empty(t, events, "LINE's own check")

	r = run(t, a.args("messenger", "17 3/2", "--verify")...)
	assert.Regexp(t, `^`+ok+`\d{10}\n$`, r.stdout)
	assert.Equal(t, http.MethodGet, a.got().Method)
	assert.Equal(t, verifyToken, a.got().URL.Query().Get("hub.verify_token"))
	assert.Equal(t, "subscribe", a.got().URL.Query().Get("hub.mode"))
}

func TestOttCallbackOfSeveralPages(t *testing.T) {
	a := newAPI(t)
	run(t, a.args("messenger", "17 3/2", "--page", "2", "--page", "3,4", "--channel", "standby", "--from", "77")...)
	assert.True(t, a.got().signed(ott.Messenger, pageSecrets))
	entries := a.got().entries(t, ott.Messenger)
	require.Len(t, entries, 3)
	for i, page := range []string{"17 3/2", "2", "3,4"} {
		assert.Equal(t, page, entries[i].PropertyID)
		assert.Equal(t, "page", entries[i].Object)
		require.Len(t, entries[i].Events, 1)
		assert.Equal(t, "standby", entries[i].Events[0].Channel)
		var event struct{ Sender, Recipient struct{ ID string } }
		require.NoError(t, json.Unmarshal(entries[i].Events[0].JSON, &event))
		assert.Equal(t, []string{"77", page}, []string{event.Sender.ID, event.Recipient.ID})
	}

	run(t, a.args("line", "123", "--from", "U0123")...)
	assert.Contains(t, a.got().body, `"userId":"U0123"`)
}

func TestOttCallbackOfReceipts(t *testing.T) {
	a := newAPI(t)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"delivered, by name": {
			[]string{"--receipt", "delivered", "--mid", "m_1", "--mid", "m_2", "--watermark", "1770739100123"},
			`{"delivery":{"mids":["m_1","m_2"],"watermark":1770739100123}}`,
		},
		"delivered, up to a time": {
			[]string{"--receipt", "delivered", "--watermark", "2026-02-10T15:58:20Z"},
			`{"delivery":{"watermark":1770739100000}}`,
		},
		"read": {
			[]string{"--receipt", "read", "--watermark", "2026-02-10T15:58:20.123Z"},
			`{"read":{"watermark":1770739100123}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, a.args("messenger", "17 3/2", test.args...)...)
			assert.True(t, a.got().signed(ott.Messenger, pageSecrets))
			events := a.got().entries(t, ott.Messenger)[0].Events
			require.Len(t, events, 1)
			assert.Equal(t, "messaging", events[0].Channel)
			var event map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(events[0].JSON, &event))
			for _, member := range []string{"sender", "recipient", "timestamp"} {
				assert.Contains(t, event, member)
				delete(event, member)
			}
			rest, err := json.Marshal(event)
			require.NoError(t, err)
			assert.JSONEq(t, test.want, string(rest))
		})
	}

	before := time.Now().UnixMilli()
	run(t, a.args("messenger", "17 3/2", "--receipt", "read")...)
	var event struct{ Read struct{ Watermark int64 } }
	require.NoError(t, json.Unmarshal(a.got().entries(t, ott.Messenger)[0].Events[0].JSON, &event))
	assert.GreaterOrEqual(t, event.Read.Watermark, before, "it is of now")
}

func TestOttCallbackOfWhatDoesNotGoTogether(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"pages of LINE":      {[]string{"line", "1", "--page", "2"}, "are Messenger's"},
		"a channel of LINE":  {[]string{"line", "1", "--channel", "standby"}, "are Messenger's"},
		"a receipt of LINE":  {[]string{"line", "1", "--receipt", "read"}, "are Messenger's"},
		"a page in a file":   {[]string{"messenger", "1", "-f", "x", "--page", "2"}, "do not go with --file and --verify"},
		"a person who tries": {[]string{"line", "1", "--verify", "--from", "2"}, "do not go with --file and --verify"},
		"another channel":    {[]string{"messenger", "1", "--channel", "changes"}, "--channel is messaging or standby"},
		"another receipt":    {[]string{"messenger", "1", "--receipt", "sent"}, "--receipt is delivered or read"},
		"a message that is read": {
			[]string{"messenger", "1", "--receipt", "read", "--mid", "m"}, "--mid goes with --receipt delivered",
		},
		"a watermark of nothing": {[]string{"messenger", "1", "--watermark", "1"}, "--watermark goes with --receipt"},
		"a watermark that is no time": {
			[]string{"messenger", "1", "--receipt", "read", "--watermark", "noon"}, "--watermark is a time as in",
		},
		"a receipt and a text": {[]string{"messenger", "1", "--receipt", "read", "--text", "a"}, "can't be used together"},
	} {
		t.Run(name, func(t *testing.T) {
			r := call{}.run(t, append([]string{"ott", "callback", "--local"}, test.args...)...)
			assert.NotZero(t, r.status)
			assert.Empty(t, r.stdout)
			assert.Contains(t, r.stderr, test.want)
		})
	}
}

func TestOttCallbackOfAFile(t *testing.T) {
	a := newAPI(t)
	body := "{\n\t\"events\": [ ]}\n"
	file := filepath.Join(t.TempDir(), "event.json")
	require.NoError(t, os.WriteFile(file, []byte(body), 0o600))
	run(t, a.args("line", "123", "-f", file)...)
	assert.Equal(t, body, a.got().body, "byte for byte")
	assert.True(t, a.got().signed(ott.LINE, lineSecrets))

	r := call{stdin: " x"}.run(t, a.args("messenger", "17 3/2", "-f", "-")...)
	require.Zero(t, r.status, r.stderr)
	assert.Equal(t, " x", a.got().body)
	assert.True(t, a.got().signed(ott.Messenger, pageSecrets))

	r = call{stdin: strings.Repeat("x", 6<<20+1)}.run(t, a.args("line", "123", "-f", "-")...)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "standard input is larger than 6 MB")
	r = call{}.run(t, a.args("line", "123", "-f", "nowhere.json")...)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "nowhere.json")
}

func TestOttCallbackThatIsRefused(t *testing.T) {
	a := newAPI(t)
	a.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "{\"message\":\"Not\x1b[31m Authorized\"}")
	})
	r := call{}.run(t, a.args("line", "123")...)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stdout, "401 Unauthorized, request id 0b8c2f0e")
	assert.Contains(t, r.stdout, `{\"message\":\"Not\x1b[31m Authorized\"}`, "an answer does nothing to a terminal")
	assert.Contains(t, r.stderr, "the API answered 401 to POST "+a.URL+"/ott/v1/callback/line/123")

	a.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "1") })
	r = call{}.run(t, a.args("messenger", "17 3/2", "--verify")...)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "something else than the challenge")

	a.answers(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://example.com", http.StatusFound)
	})
	r = call{}.run(t, a.args("messenger", "17 3/2", "--verify")...)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "the API answered 302")
	assert.NotContains(t, r.stderr+r.stdout, "verify_token", "the verify token is nobody's to see")

	a.Close()
	r = call{}.run(t, a.args("messenger", "17 3/2", "--verify")...)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "nothing answers at 127.0.0.1:")
	assert.NotContains(t, r.stderr, url.QueryEscape(verifyToken))
}

func TestOttCallbackSaysWhatIsMissing(t *testing.T) {
	a := newAPI(t)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no such registration": {a.args("line", "17 3/2"), "no registration 17 3/2 of line in stack " + a.stack},
		"no such stack":        {[]string{"ott", "callback", "line", "123", "--stack", "nowhere", "--url", a.URL}, "table nowhere-registrations: no such stack"},
		"no URL":               {[]string{"ott", "callback", "line", "123", "--stack", a.stack}, "--url must say: `aws cloudformation describe-stacks --stack-name " + a.stack},
	} {
		t.Run(name, func(t *testing.T) {
			r := call{}.run(t, test.args...)
			assert.Equal(t, 1, r.status)
			assert.Empty(t, r.stdout)
			assert.Contains(t, r.stderr, test.want)
		})
	}
}

// With --local the API is where demo.json says.
func TestOttCallbackOfTheLocalRun(t *testing.T) {
	a := newAPI(t)
	project := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(project, ".local"), 0o755))
	demo := map[string]any{"baseUrl": a.URL, "aws": map[string]string{
		"dynamodb": emulatortest.DynamoDBEndpoint(),
		"endpoint": emulatortest.AWSEndpoint(),
		"region":   emulatortest.Region,
		"stack":    a.stack,
	}}
	raw, err := json.Marshal(demo)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(project, ".local", "demo.json"), raw, 0o600))
	r := call{dir: project}.run(t, "ott", "callback", "line", "123", "--local")
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stdout, "200 OK")
	assert.True(t, a.got().signed(ott.LINE, lineSecrets))
}
