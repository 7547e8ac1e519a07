package deliver_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock/clocktest"
	"carillon/shared/ott/deliver"
)

func messengerRequest(to, content, keys string) string {
	return `{"messageKey":"k","from":{"senderType":"messenger","senderId":"1732555047025799"},"to":` + to +
		`,"message":{"contents":[` + content + `],"customKeys":[` + keys + `]},"validityPeriod":30}`
}

// Exactly what Messenger gets: the request, header by header, and the body of each type of content.
func TestMessengerRequest(t *testing.T) {
	t.Parallel()
	const toID, response = `{"ottId":"1061820367222105"}`, `{"messagingType":"RESPONSE"}`
	tests := map[string]struct{ to, content, keys, want string }{
		"text": {toID, `{"type":"text","text":"<Hello> & \"é\" \u003c"}`, response,
			`{"recipient":{"id":"1061820367222105"},"messaging_type":"RESPONSE","message":{"text":"<Hello> & ` +
				`\"é\" <"}}`},
		"userReference wins": {`{"ottId":"1061820367222105",` +
			`"userReference":"ref"}`, `{"type":"text","text":"t"}`, response,
			`{"recipient":{"user_ref":"ref"},"messaging_type":"RESPONSE","message":{"text":"t"}}`},
		"tag and notification": {toID, `{"type":"text","text":"t"}`, `{"messagingType":"MESSAGE_TAG",` +
			`"tag":"HUMAN_AGENT"},{"notificationType":"NO_PUSH"}`,
			`{"recipient":{"id":"1061820367222105"},"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT",` +
				`"notification_type":"NO_PUSH","message":{"text":"t"}}`},
		"image": {toID, `{"type":"image","url":"https://example.com/a.jpg?x=1&y=2","isReusable":true,` +
			`"altUrl":"https://example.com/b.jpg"}`, response,
			`{"recipient":{"id":"1061820367222105"},"messaging_type":"RESPONSE",` +
				`"message":{"attachment":{"type":"image","payload":{"url":"https://example.com/a.jpg?x=1&y=2",` +
				`"is_reusable":true}}}}`},
		"audio": {toID, `{"type":"audio","url":"https://example.com/a.m4a","duration":5}`, response,
			`{"recipient":{"id":"1061820367222105"},"messaging_type":"RESPONSE",` +
				`"message":{"attachment":{"type":"audio","payload":{"url":"https://example.com/a.m4a",` +
				`"is_reusable":false}}}}`},
		"video that was kept": {toID, `{"type":"video","attachmentId":12345678901234567890,` +
			`"url":"https://example.com/a.mp4"}`, response,
			`{"recipient":{"id":"1061820367222105"},"messaging_type":"RESPONSE",` +
				`"message":{"attachment":{"type":"video","payload":{"attachment_id":"12345678901234567890"}}}}`},
		"native as it is": {toID, `{"type":"native","nativePayload":{"attachment":{"type":"template",` +
			`"payload":{"n":12345678901234567890.50,"html":"<b>&\u003c","Z":1,"a":[]}}}}`, response,
			`{"recipient":{"id":"1061820367222105"},"messaging_type":"RESPONSE",` +
				`"message":{"attachment":{"type":"template","payload":{"n":12345678901234567890.50,"html":"<b>&` +
				`\u003c","Z":1,"a":[]}}}}`},
	}
	mac := hmac.New(sha256.New, []byte(applicationSecret))
	_, _ = mac.Write([]byte(pageAccessToken))
	proof := hex.EncodeToString(mac.Sum(nil))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatforms(t, status(200, `{"recipient_id":"1","message_id":"m"}`))
			d := messengerDelivery(decoded(t, messengerRequest(test.to, test.content, test.keys)))
			d.Registration.EndpointURL = "https://graph.facebook.com:8443/v2.6/me/messages?fields=a%2Cb"
			require.NoError(t, deliver.NewMessenger(p.transport(t), clocktest.New()).Send(t.Context(), d))
			require.Len(t, p.all(), 1)
			got := p.all()[0]
			assert.Equal(t, http.MethodPost, got.method)
			assert.Equal(t, "graph.facebook.com:8443", got.host)
			uri, err := url.ParseRequestURI(got.uri)
			require.NoError(t, err)
			assert.Equal(t, "/v2.6/me/messages", uri.Path)
			assert.Equal(t,
				url.Values{"fields": {"a,b"}, "access_token": {pageAccessToken}, "appsecret_proof": {proof}},
				uri.Query())
			assert.Equal(t, test.want, got.body)
			length := got.header.Get("Content-Length")
			assert.Equal(t, http.Header{
				"Content-Type": {"application/json"}, "User-Agent": {"Carillon"}, "Accept-Encoding": {"gzip"},
				"Content-Length": {length},
			}, got.header)
		})
	}
}

// What an answer of Messenger means: docs/contract.md §1, 429 and 5xx are retried with backoff, a refusal is final and
// readable.
func TestMessengerAnswers(t *testing.T) {
	t.Parallel()
	graph := func(code, more string) string {
		return `{"error":{"message":"(#` + code + `) Something","type":"OAuthException","code":` + code + more +
			`,"fbtrace_id":"x"}}`
	}
	tests := map[string]struct {
		status  int
		body    string
		headers []string
		refused string // the whole reason
		again   string // the cause
		after   time.Duration
	}{
		"200":                {status: 200, body: `{"message_id":"m"}`},
		"200 without a body": {status: 200},
		"204":                {status: 204},
		"no matching user": {
			status: 400, body: graph("100", `,"error_subcode":2018001`),
			refused: "Messenger answered 400: (#100) Something (code 100, subcode 2018001)",
		},
		"revoked token": {
			status: 401, body: graph("190", ""), refused: "Messenger answered 401: (#190) Something (code 190)",
		},
		"outside the window": {
			status: 403, body: graph("10", ""), refused: "Messenger answered 403: (#10) Something (code 10)",
		},
		"a refusal in HTML":     {status: 404, body: "<html>", refused: "Messenger answered 404"},
		"a refusal of no shape": {status: 400, body: `{"error":"x"}`, refused: "Messenger answered 400"},
		"a redirect": {
			status: 302, headers: []string{"Location", "http://169.254.169.254/"}, refused: "Messenger answered 302",
		},
		"a redirect with method": {
			status: 308, headers: []string{"Location", "/elsewhere"}, refused: "Messenger answered 308",
		},
		"transient": {status: 400, body: graph("551", `,"is_transient":true`), headers: []string{"Retry-After", "7"},
			again: "Messenger answered 400: (#551) Something (code 551)", after: 7 * time.Second},
		"code 1":  {status: 400, body: graph("1", ""), again: "Messenger answered 400: (#1) Something (code 1)"},
		"code 2":  {status: 400, body: graph("2", ""), again: "Messenger answered 400: (#2) Something (code 2)"},
		"code 4":  {status: 403, body: graph("4", ""), again: "Messenger answered 403: (#4) Something (code 4)"},
		"code 17": {status: 400, body: graph("17", ""), again: "Messenger answered 400: (#17) Something (code 17)"},
		"code 32": {status: 400, body: graph("32", ""), again: "Messenger answered 400: (#32) Something (code 32)"},
		"code 613": {
			status: 400, body: graph("613", ""), again: "Messenger answered 400: (#613) Something (code 613)",
		},
		"code 80006": {
			status: 400, body: graph("80006", ""), again: "Messenger answered 400: (#80006) Something (code 80006)",
		},
		"429": {
			status: 429, headers: []string{"Retry-After", "120"}, again: "Messenger answered 429",
			after: 2 * time.Minute,
		},
		"429 for long": {
			status: 429, headers: []string{"Retry-After", "99999999"}, again: "Messenger answered 429",
			after: time.Hour,
		},
		"429 until long ago": {
			status: 429, headers: []string{"Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"},
			again: "Messenger answered 429",
		},
		"408": {status: 408, again: "Messenger answered 408"},
		"500": {
			status: 500, body: graph("100", ""), again: "Messenger answered 500: (#100) Something (code 100)",
		},
		"503": {status: 503, headers: []string{"Retry-After", "soon"}, again: "Messenger answered 503"},
		"token quoted": {status: 400, body: `{"error":{"message":"Malformed ` +
			`access token ` + pageAccessToken + ` or ` + url.QueryEscape(pageAccessToken) + ` or ` +
			pageAccessToken[:15] + `…, ` + applicationSecret + `","code":190}}`,
			refused: "Messenger answered 400: Malformed access token REDACTED or REDACTED or REDACTED…, REDACTED " +
				"(code 190)"},
		"too large": {status: 200, body: strings.Repeat("x", 1<<20)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatforms(t, status(test.status, test.body, test.headers...))
			err := deliver.NewMessenger(p.transport(t), clocktest.New()).Send(t.Context(),
				messengerDelivery(decoded(t, messengerRequest(`{"ottId":"1"}`, `{"type":"text","text":"t"}`,
					`{"messagingType":"UPDATE"}`))))
			assert.Len(t, p.all(), 1, "nothing is followed, nothing is sent again at once")
			assertOutcome(t, err, test.refused, test.again, test.after)
		})
	}
}

func assertOutcome(t *testing.T, err error, refused, again string, after time.Duration) {
	t.Helper()
	switch {
	case refused != "":
		assert.Equal(t, &deliver.Refused{Reason: refused}, err)
	case again != "":
		var retry *deliver.Again
		require.ErrorAs(t, err, &retry)
		assert.Equal(t, again, retry.Error())
		assert.Equal(t, after, retry.After)
	default:
		assert.NoError(t, err)
	}
}

// A call without an answer is made again, and its error does not show the URL, which holds the token.
func TestMessengerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	p := newPlatforms(t, func(int, http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) })
	closed := newPlatforms(t, nil)
	closedTransport := closed.transport(t)
	closed.Close()
	for name, transport := range map[string]http.RoundTripper{
		"broken off": p.transport(t), "refused": closedTransport,
	} {
		d := messengerDelivery(decoded(t,
			messengerRequest(`{"ottId":"1"}`, `{"type":"text","text":"t"}`, `{"messagingType":"UPDATE"}`)))
		err := deliver.NewMessenger(transport, clocktest.New()).Send(t.Context(), d)
		var again *deliver.Again
		require.ErrorAs(t, err, &again, name)
		assert.True(t, strings.HasPrefix(err.Error(), "Messenger did not answer: "), "%v", err)
		for _, hidden := range []string{"access_token", "EAAG", "proof", applicationSecret} {
			assert.NotContains(t, err.Error(), hidden)
		}
	}
}
