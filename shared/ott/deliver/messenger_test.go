package deliver_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
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
			ids, err := deliver.NewMessenger(p.transport(t), clocktest.New()).Send(t.Context(), d)
			require.NoError(t, err)
			assert.Equal(t, []string{"m"}, ids)
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
		// What is refused is the registration's credentials; what goes by is the message's own trouble.
		credentials, ofMessage bool
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
			credentials: true,
		},
		"wrong application secret": {
			status:      400,
			body:        `{"error":{"message":"Invalid appsecret_proof provided in the API argument","code":100}}`,
			refused:     "Messenger answered 400: Invalid appsecret_proof provided in the API argument (code 100)",
			credentials: true,
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
			again: "Messenger answered 400: (#551) Something (code 551)", after: 7 * time.Second, ofMessage: true},
		"code 551": {
			status: 400, body: graph("551", ""), refused: "Messenger answered 400: (#551) Something (code 551)",
		},
		"transient, of the page": {status: 400, body: graph("4", `,"is_transient":true`),
			again: "Messenger answered 400: (#4) Something (code 4)"},
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
		"code 1200": {
			status: 400, body: graph("1200", `,"is_transient":false`),
			again: "Messenger answered 400: (#1200) Something (code 1200)", ofMessage: true,
		},
		"code 1200, later": {
			status: 400, body: graph("1200", ""), headers: []string{"Retry-After", "9"},
			again: "Messenger answered 400: (#1200) Something (code 1200)", after: 9 * time.Second, ofMessage: true,
		},
		"code 1200 as a failure": {
			status: 500, body: graph("1200", ""), again: "Messenger answered 500: (#1200) Something (code 1200)",
			ofMessage: true,
		},
		"code 613 as a failure": {
			status: 503, body: graph("613", ""), again: "Messenger answered 503: (#613) Something (code 613)",
		},
		"code 3": {status: 400, body: graph("3", ""), refused: "Messenger answered 400: (#3) Something (code 3)"},
		"code 12000": {
			status: 400, body: graph("12000", ""), refused: "Messenger answered 400: (#12000) Something (code 12000)",
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
				"(code 190)", credentials: true},
		"too large": {status: 200, body: strings.Repeat("x", 1<<20)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatforms(t, status(test.status, test.body, test.headers...))
			err := errorOf(deliver.NewMessenger(p.transport(t), clocktest.New()).Send(t.Context(), messengerText(t)))
			assert.Len(t, p.all(), 1, "nothing is followed, nothing is sent again at once")
			assertOutcome(t, err, test.refused, test.again, test.after)
			assertKind(t, err, test.credentials, test.again != "" && !test.ofMessage, false)
		})
	}
}

func assertOutcome(t *testing.T, err error, refused, again string, after time.Duration) {
	t.Helper()
	switch {
	case refused != "":
		var final *deliver.Refused
		require.ErrorAs(t, err, &final)
		assert.Equal(t, refused, final.Reason)
	case again != "":
		var retry *deliver.Again
		require.ErrorAs(t, err, &retry)
		assert.Equal(t, again, retry.Error())
		assert.Equal(t, after, retry.After)
	default:
		assert.NoError(t, err)
	}
}

// assertKind holds an error to whom it is about, and to whether it is known what became of the message.
func assertKind(t *testing.T, err error, credentials, trouble, unanswered bool) {
	t.Helper()
	if refused, ok := errors.AsType[*deliver.Refused](err); ok {
		assert.Equal(t, credentials, refused.Credentials, "of the credentials: %v", err)
	}
	if again, ok := errors.AsType[*deliver.Again](err); ok {
		assert.Equal(t, trouble, again.Trouble, "the property's trouble: %v", err)
		assert.Equal(t, unanswered, again.Unanswered, "unanswered: %v", err)
	}
}

// A call without an answer is made again, and its error does not show the URL, which holds the token. It counts as
// unanswered if anything of it may have arrived.
func TestMessengerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	p := newPlatforms(t, func(int, http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) })
	closed := newPlatforms(t, nil)
	closedTransport := closed.transport(t)
	closed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	for name, test := range map[string]struct {
		transport  http.RoundTripper
		ctx        context.Context
		unanswered bool
	}{
		"broken off": {p.transport(t), t.Context(), true},
		"refused":    {closedTransport, t.Context(), false},
		"no such host": {&http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "graph.example.com", IsNotFound: true}
		}}, t.Context(), false},
		"given up while it is dialled": {&http.Transport{DialContext: func(
			dialling context.Context, _, _ string,
		) (net.Conn, error) {
			cancel()
			<-dialling.Done()
			return nil, dialling.Err()
		}}, ctx, false},
		"by who tells nothing": {silent{}, t.Context(), true},
	} {
		err := errorOf(deliver.NewMessenger(test.transport, clocktest.New()).Send(test.ctx, messengerText(t)))
		var again *deliver.Again
		require.ErrorAs(t, err, &again, name)
		assert.True(t, strings.HasPrefix(err.Error(), "Messenger did not answer: "), "%v", err)
		assertKind(t, err, false, true, test.unanswered)
		for _, hidden := range []string{"access_token", "EAAG", "proof", applicationSecret} {
			assert.NotContains(t, err.Error(), hidden)
		}
	}
	cancel()
}

// One that hangs has the call, and is waited for no longer than the caller waits.
func TestMessengerHangs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p := newPlatforms(t, func(_ int, _ http.ResponseWriter, r *http.Request, _ string) {
		cancel()
		<-r.Context().Done()
	})
	err := errorOf(deliver.NewMessenger(p.transport(t), clocktest.New()).Send(ctx, messengerText(t)))
	assertKind(t, err, false, true, true)
	assert.ErrorContains(t, err, "Messenger did not answer: ")
}

// silent is a transport that fails and tells no trace of what it did.
type silent struct{}

// RoundTrip implements http.RoundTripper.
func (silent) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("broken") }

// A message whose time is over is not sent.
func TestMessengerAndTheTimeIsOver(t *testing.T) {
	t.Parallel()
	p := newPlatforms(t, status(200, ""))
	clock, d := clocktest.New(), messengerText(t)
	messenger := deliver.NewMessenger(p.transport(t), clock)
	d.ValidUntil = clock.Now().Add(time.Millisecond)
	require.NoError(t, errorOf(messenger.Send(t.Context(), d)))
	clock.Advance(time.Millisecond)
	var refused *deliver.Refused
	require.ErrorAs(t, errorOf(messenger.Send(t.Context(), d)), &refused)
	assert.True(t, refused.Expired)
	assert.Len(t, p.all(), 1)
	assert.Equal(t, deliver.Repeats{Tries: 3}, messenger.Repeats())
}

func TestMessengerIDs(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string][]string{
		`{"recipient_id":"1","message_id":"m_AG5Hz2U7tcwEWigZ0pA"}`: {"m_AG5Hz2U7tcwEWigZ0pA"},
		`{"message_id":"` + strings.Repeat("m", 512) + `"}`:         {strings.Repeat("m", 512)},
		`{"message_id":"` + strings.Repeat("m", 513) + `"}`:         nil,
		`{"message_id":""}`: nil, `{"message_id":5}`: nil, `{"message_id":null}`: nil, "{\"message_id\":\"\xff\"}": {"\ufffd"},
		`{}`: nil, ``: nil, `[]`: nil, `<html>`: nil,
	} {
		ids, err := deliver.NewMessenger(answering{200, answer}, clocktest.New()).Send(t.Context(), messengerText(t))
		require.NoError(t, err, answer)
		assert.ElementsMatch(t, want, ids, answer)
	}
}
