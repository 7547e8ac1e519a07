package standin_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
)

// accounts is one page and one channel.
type accounts struct{ failure error }

func (a accounts) Page(_ context.Context, accessToken string) (*standin.Page, error) {
	if accessToken != "page-token" {
		return nil, a.failure
	}
	return &standin.Page{Name: "SFMC Engineers", ApplicationSecret: "application-secret"}, a.failure
}

func (a accounts) Channel(_ context.Context, id string) (*standin.Channel, error) {
	if id != "1234567890" {
		return nil, a.failure
	}
	return &standin.Channel{Name: "News", Secret: "channel-secret"}, a.failure
}

// platforms is the stand-in with a clock that the test sets.
type platforms struct {
	*standin.Server
	ott     *standin.OTT
	control string

	mu  sync.Mutex
	now time.Time
}

func startPlatforms(t *testing.T) *platforms {
	t.Helper()
	p := &platforms{now: time.Date(2026, 2, 10, 15, 58, 20, 0, time.UTC)}
	p.ott = standin.NewOTT(func() time.Time {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now
	})
	p.ott.Connect(accounts{})
	var err error
	p.Server, err = standin.Start(p.ott)
	require.NoError(t, err)
	control := httptest.NewServer(p.Control())
	t.Cleanup(func() { control.Close(); p.Close() })
	p.control = control.URL + "/_local/"
	return p
}

func (p *platforms) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

// call sends a request to a platform's own URL by way of the stand-in.
func (p *platforms) call(t *testing.T, method, address, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	host := u.Host
	u.Scheme, u.Host = "http", strings.TrimPrefix(p.URL("ott"), "http://")
	r, err := http.NewRequestWithContext(t.Context(), method, u.String(), strings.NewReader(body))
	require.NoError(t, err)
	r.Host = host
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response, string(raw)
}

func proofOf(token, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(token))
	return hex.EncodeToString(mac.Sum(nil))
}

const lineUser = "U4af4980629f0b6a1d3a2b1c0d9e8f7a6"

const messengerBody = `{"recipient":{"id":"6"},"messaging_type":"RESPONSE","message":{"text":"Hola <Ana>"}}`

func TestMessengerChecksAsGraphDoes(t *testing.T) {
	p := startPlatforms(t)
	right := "access_token=page-token&appsecret_proof=" + proofOf("page-token", "application-secret")
	for name, c := range map[string]struct {
		query, body string
		status      int
		want        string
	}{
		"accepted":                  {right, messengerBody, 200, `"recipient_id":"6"`},
		"accepted for a user_ref":   {right, `{"recipient":{"user_ref":"u"},"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT","message":{"text":"a"}}`, 200, `{"message_id":"m_`},
		"no token":                  {"", messengerBody, 400, `"code":104`},
		"an unknown token":          {"access_token=x&appsecret_proof=" + proofOf("x", "application-secret"), messengerBody, 400, `"code":190`},
		"no proof":                  {"access_token=page-token", messengerBody, 400, `"message":"API calls from the server require an appsecret_proof argument","type":"GraphMethodException","code":100`},
		"a wrong proof":             {"access_token=page-token&appsecret_proof=" + proofOf("page-token", "x"), messengerBody, 400, `"message":"Invalid appsecret_proof provided in the API argument"`},
		"no JSON":                   {right, `x`, 400, `"code":100`},
		"no recipient":              {right, `{"messaging_type":"RESPONSE","message":{"text":"a"}}`, 400, `recipient`},
		"no messaging_type":         {right, `{"recipient":{"id":"6"},"message":{"text":"a"}}`, 400, `messaging_type`},
		"an unknown messaging_type": {right, `{"recipient":{"id":"6"},"messaging_type":"X","message":{"text":"a"}}`, 400, `messaging_type`},
		"no tag":                    {right, `{"recipient":{"id":"6"},"messaging_type":"MESSAGE_TAG","message":{"text":"a"}}`, 400, `tag`},
		"no message":                {right, `{"recipient":{"id":"6"},"messaging_type":"UPDATE"}`, 400, `message`},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := p.call(t, "POST", "https://graph.facebook.com/v2.6/me/messages?"+c.query, c.body, nil)
			assert.Equal(t, c.status, response.StatusCode, body)
			assert.Contains(t, body, c.want)
		})
	}
	response, body := p.call(t, "GET", "https://graph.facebook.com/v2.6/me/messages?"+right, "", nil)
	assert.Equal(t, http.StatusBadRequest, response.StatusCode)
	assert.Contains(t, body, "Unsupported GET request.")

	p.ott.Connect(accounts{failure: errors.New("the table is gone")})
	response, body = p.call(t, "POST", "https://graph.facebook.com/v2.6/me/messages?"+right, messengerBody, nil)
	assert.Equal(t, http.StatusInternalServerError, response.StatusCode)
	assert.NotContains(t, body, "the table")
}

// mint gets a token from LINE.
func (p *platforms) mint(t *testing.T, form string) (*http.Response, map[string]any) {
	t.Helper()
	response, body := p.call(
		t,
		"POST",
		"https://api.line.me/oauth2/v3/token",
		form,
		http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
	)
	var answer map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	return response, answer
}

const credentials = "grant_type=client_credentials&client_id=1234567890&client_secret=channel-secret"

func TestLINEGrantsTokens(t *testing.T) {
	p := startPlatforms(t)
	response, answer := p.mint(t, credentials)
	assert.Equal(t, http.StatusOK, response.StatusCode)
	assert.Equal(t, "Bearer", answer["token_type"])
	assert.EqualValues(t, 900, answer["expires_in"])
	for form, want := range map[string]string{
		"": "unsupported_grant_type",
		"grant_type=password&client_id=1234567890&client_secret=channel-secret":  "unsupported_grant_type",
		"grant_type=client_credentials&client_id=1&client_secret=channel-secret": "invalid_client",
		"grant_type=client_credentials&client_id=1234567890&client_secret=x":     "invalid_client",
		"grant_type=client_credentials&client_id=1234567890":                     "invalid_client",
	} {
		response, answer := p.mint(t, form)
		assert.Equal(t, http.StatusBadRequest, response.StatusCode)
		assert.Equal(t, want, answer["error"], form)
	}
	response, body := p.call(
		t,
		"POST",
		"https://api.line.me/oauth2/v3/token",
		credentials,
		http.Header{"Content-Type": {"application/json"}},
	)
	assert.Equal(t, http.StatusBadRequest, response.StatusCode)
	assert.Contains(t, body, "invalid_request")
}

func TestLINEChecksAsTheMessagingAPIDoes(t *testing.T) {
	p := startPlatforms(t)
	_, granted := p.mint(t, credentials)
	bearer := func(more ...string) http.Header {
		header := http.Header{
			"Authorization": {"Bearer " + granted["access_token"].(string)}, "Content-Type": {"application/json"},
		}
		for i := 0; i < len(more); i += 2 {
			header.Set(more[i], more[i+1])
		}
		return header
	}
	const text = `{"type":"text","text":"Hola"}`
	push := func(messages ...string) string {
		return `{"to":"` + lineUser + `","messages":[` + strings.Join(messages, ",") + `]}`
	}
	key := uuid.NewString()
	for _, c := range []struct {
		name, path, body string
		header           http.Header
		status           int
		want             string
	}{
		{"a push", "push", push(text), bearer(), 200, `{"sentMessages":[{"id":"`},
		{"without a retry key it is another one", "push", push(text), bearer(), 200, ``},
		{"with a retry key", "push", push(text, text), bearer("X-Line-Retry-Key", key), 200, ``},
		{"and again", "push", push(text, text), bearer("X-Line-Retry-Key", strings.ToUpper(key)), 409, `{"message":"The retry key is already accepted","sentMessages":[{"id":"`},
		{"with another retry key", "push", push(text), bearer("X-Line-Retry-Key", uuid.NewString()), 200, ``},
		{"a retry key that is none", "push", push(text), bearer("X-Line-Retry-Key", "1"), 400, `The retry key is invalid`},
		{"no token", "push", push(text), nil, 401, `Authentication failed`},
		{"an unknown token", "push", push(text), http.Header{"Authorization": {"Bearer x"}}, 401, `Authentication failed`},
		{"a token without Bearer", "push", push(text), http.Header{"Authorization": {granted["access_token"].(string)}}, 401, ``},
		{"nobody to push to", "push", `{"messages":[` + text + `]}`, bearer(), 400, `The property, 'to'`},
		{"no JSON", "push", `x`, bearer(), 400, `could not be parsed as JSON`},
		{"no message", "push", push(), bearer(), 400, `{"message":"The request body has 1 error(s)","details":[{"message":"Size must be between 1 and 5","property":"messages"}]}`},
		{"six messages", "push", push(text, text, text, text, text, text), bearer(), 400, `Size must be between 1 and 5`},
		{"a message without a type, one without a text", "push", push(`{}`, `{"type":"text"}`, `1`), bearer(), 400,
			`[{"message":"May not be empty","property":"messages[0].type"},{"message":"May not be empty","property":"messages[1].text"},{"message":"Must be an object","property":"messages[2]"}]`},
		{"no content type", "push", push(text), bearer("Content-Type", ""), 415, `{"message":"The content type, , is not supported"}`},
		{"a content type with a charset", "push", push(text), bearer("Content-Type", "application/json; charset=UTF-8"), 200, ``},
		{"a form", "push", push(text), bearer("Content-Type", "text/plain"), 415, `The content type, text/plain, is not supported`},
		{"a retry key without hyphens", "push", push(text), bearer("X-Line-Retry-Key", strings.ReplaceAll(key, "-", "")), 400, `The retry key is invalid`},
		{"a reply", "reply", `{"replyToken":"r","messages":[` + text + `]}`, bearer(), 200, ``},
		{"a reply with the same token", "reply", `{"replyToken":"r","messages":[` + text + `]}`, bearer(), 400, `{"message":"Invalid reply token"}`},
		{"a reply with what is no token", "reply", `{"replyToken":"a b","messages":[` + text + `]}`, bearer(), 400, `Invalid reply token`},
		{"a reply without a token", "reply", `{"messages":[` + text + `]}`, bearer(), 400, `Invalid reply token`},
		{"a reply with a retry key", "reply", `{"replyToken":"s","messages":[` + text + `]}`, bearer("X-Line-Retry-Key", key), 400, `The retry key is not accepted`},
		{"another path", "multicast", push(text), bearer(), 404, `Not found`},
	} {
		response, body := p.call(t, "POST", "https://api.line.me/v2/bot/message/"+c.path, c.body, c.header)
		assert.Equal(t, c.status, response.StatusCode, "%s: %s", c.name, body)
		assert.Contains(t, body, c.want, c.name)
		assert.NotEmpty(t, response.Header.Get("X-Line-Request-Id"), c.name)
		assert.Equal(
			t,
			c.status == http.StatusConflict,
			response.Header.Get("X-Line-Accepted-Request-Id") != "",
			c.name,
		)
	}

	p.pass(15*time.Minute - time.Second)
	response, _ := p.call(t, "POST", "https://api.line.me/v2/bot/message/push", push(text), bearer())
	assert.Equal(t, http.StatusOK, response.StatusCode)
	p.pass(time.Second)
	response, _ = p.call(t, "POST", "https://api.line.me/v2/bot/message/push", push(text), bearer())
	assert.Equal(t, http.StatusUnauthorized, response.StatusCode, "a token lives 15 minutes")

	p.pass(24 * time.Hour)
	_, granted = p.mint(t, credentials)
	response, _ = p.call(
		t,
		"POST",
		"https://api.line.me/v2/bot/message/push",
		push(text),
		bearer("X-Line-Retry-Key", key),
	)
	assert.Equal(t, http.StatusOK, response.StatusCode, "LINE remembers a retry key for a day")
}

func TestOTTShowsWhatItReceived(t *testing.T) {
	p := startPlatforms(t)
	right := "access_token=page-token&a=1&a=2&appsecret_proof=" + proofOf("page-token", "application-secret")
	p.call(
		t,
		"POST",
		"https://graph.facebook.com/ott/v2.6//messages?"+right,
		messengerBody,
		http.Header{"Content-Type": {"application/json"}},
	)
	p.mint(t, credentials)
	require.NoError(t, p.Script("ott", standin.Answer{Status: 503, Headers: map[string]string{"Retry-After": "1"}}))
	response, _ := p.call(t, "POST", "https://api.line.me/v2/bot/message/push", `{}`, nil)
	assert.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	assert.Equal(t, "1", response.Header.Get("Retry-After"))

	list := partners{Server: p.Server, control: p.control}.received(t, "ott")
	require.Len(t, list, 3)
	assert.Equal(t, "messenger", list[0]["platform"])
	assert.Equal(t, "POST", list[0]["method"])
	assert.Equal(t, "/ott/v2.6//messages", list[0]["path"], "as it was sent")
	assert.Equal(
		t,
		map[string]any{
			"access_token":    "page-token",
			"a":               "1,2",
			"appsecret_proof": proofOf("page-token", "application-secret"),
		},
		list[0]["query"],
	)
	assert.Subset(
		t,
		list[0]["headers"],
		map[string]any{"host": "graph.facebook.com", "content-type": "application/json"},
	)
	assert.Equal(t, messengerBody, list[0]["body"])
	assert.EqualValues(t, 200, list[0]["status"])
	assert.NotEmpty(t, list[0]["at"])
	assert.Equal(
		t,
		[]any{"line", "/oauth2/v3/token", credentials},
		[]any{list[1]["platform"], list[1]["path"], list[1]["body"]},
	)
	assert.Equal(
		t,
		[]any{"line", "/v2/bot/message/push", "{}", 503.0},
		[]any{list[2]["platform"], list[2]["path"], list[2]["body"], list[2]["status"]},
	)

	page := func() string {
		_, body := do(t, "GET", p.control, "", nil)
		return body
	}
	assert.Contains(t, page(), "SFMC Engineers to 6")
	assert.Contains(t, page(), "<p>Hola &lt;Ana&gt;</p>")
	do(t, "DELETE", p.control+"ott", "", nil)
	assert.Empty(t, p.ott.Requests())
	assert.NotContains(t, page(), "SFMC Engineers")
}

func TestPhonesShowMessages(t *testing.T) {
	p := startPlatforms(t)
	right := "?access_token=page-token&appsecret_proof=" + proofOf("page-token", "application-secret")
	for _, message := range []string{
		`{"text":"Hola"}`, `{"attachment":{"type":"image","payload":{"url":"https://example.com/a.png"}}}`,
		`{"attachment":{"type":"video","payload":{"attachment_id":"77"}}}`, `{"attachment":{"type":"template","payload":{"template_type":"coupon"}}}`,
	} {
		response, body := p.call(
			t,
			"POST",
			"https://graph.facebook.com/me/messages"+right,
			`{"recipient":{"user_ref":"u"},"messaging_type":"UPDATE","message":`+message+`}`,
			nil,
		)
		require.Equal(t, http.StatusOK, response.StatusCode, body)
	}
	_, granted := p.mint(t, credentials)
	p.call(
		t,
		"POST",
		"https://api.line.me/v2/bot/message/push",
		`{"to":"`+lineUser+`","messages":[{"type":"text","text":"a"},{"type":"image","originalContentUrl":"https://example.com/a.png","previewImageUrl":"https://example.com/b.png"}]}`,
		http.Header{
			"Authorization": {"Bearer " + granted["access_token"].(string)}, "Content-Type": {"application/json"},
		},
	)
	var shown [][]string
	for _, chat := range p.ott.Chats(4) {
		shown = append(shown, append([]string{chat.Platform, chat.From, chat.To}, chat.Lines...))
	}
	assert.Equal(t, [][]string{
		{"line", "News", lineUser, "a", "image https://example.com/a.png"},
		{"messenger", "SFMC Engineers", "u", `{"attachment":{"type":"template","payload":{"template_type":"coupon"}}}`},
		{"messenger", "SFMC Engineers", "u", "video 77"},
		{"messenger", "SFMC Engineers", "u", "image https://example.com/a.png"},
	}, shown)
}

func TestPlatformsKnowNobodyAtFirst(t *testing.T) {
	unconnected := standin.NewOTT(time.Now)
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodPost, "http://graph.facebook.com/me/messages?access_token=page-token", strings.NewReader(messengerBody)),
		httptest.NewRequest(http.MethodPost, "http://API.line.me:443/oauth2/v3/token", strings.NewReader(credentials)),
	} {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		unconnected.ServeHTTP(w, r)
		assert.Equal(t, http.StatusBadRequest, w.Code, w.Body)
	}
}
