package deliver_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock/clocktest"
	"carillon/shared/ott/deliver"
	"carillon/shared/secret"
)

func lineRequest(to, content, keys string) string {
	return `{"messageKey":"k","from":{"senderType":"line","senderId":"23493453984234345"},"to":` + to +
		`,"message":{"contents":[` + content + `],"customKeys":[` + keys + `]},"validityPeriod":30}`
}

func lineText(t *testing.T) deliver.Delivery {
	t.Helper()
	return lineDelivery(decoded(t, lineRequest(`{"ottId":"U1"}`, `{"type":"text","text":"t"}`, ``)))
}

// Exactly what LINE gets: the token's minting, the push, header by header, and the body of each type of content.
func TestLINERequests(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		content, keys, messages string
		quiet                   bool
	}{
		"text": {
			`{"type":"text","text":"<Hello> & \"é\""}`, ``, `[{"type":"text","text":"<Hello> & \"é\""}]`, false,
		},
		"image": {
			`{"type":"image","url":"https://example.com/a.jpg","altUrl":"https://example.com/b.jpg"}`, ``,
			`[{"type":"image","originalContentUrl":"https://example.com/a.jpg",` +
				`"previewImageUrl":"https://example.com/b.jpg"}]`,
			false,
		},
		"image without preview": {
			`{"type":"image","url":"https://example.com/a.jpg"}`, ``,
			`[{"type":"image","originalContentUrl":"https://example.com/a.jpg",` +
				`"previewImageUrl":"https://example.com/a.jpg"}]`,
			false,
		},
		"video": {
			`{"type":"video","url":"https://example.com/a.mp4","altUrl":"https://example.com/b.jpg"}`, ``,
			`[{"type":"video","originalContentUrl":"https://example.com/a.mp4",` +
				`"previewImageUrl":"https://example.com/b.jpg"}]`,
			false,
		},
		"audio": {
			`{"type":"audio","url":"https://example.com/a.m4a","duration":13141}`, ``,
			`[{"type":"audio","originalContentUrl":"https://example.com/a.m4a","duration":13141}]`, false,
		},
		"native as it is": {
			`{"type":"native","nativePayload":{"type":"sticker","packageId":"446","n":12345678901234567890.50,` +
				`"html":"<b>&","Z":{"a":[]}}}`,
			``, `[{"type":"sticker","packageId":"446","n":12345678901234567890.50,"html":"<b>&","Z":{"a":[]}}]`, false,
		},
		"five": {
			`{"type":"text","text":"1"},{"type":"native","nativePayload":{"type":"x"}},{"type":"text","text":"3"},` +
				`{"type":"text","text":"4"},{"type":"text","text":"5"}`,
			``,
			`[{"type":"text","text":"1"},{"type":"x"},{"type":"text","text":"3"},{"type":"text","text":"4"},` +
				`{"type":"text","text":"5"}]`,
			false,
		},
		"SILENT_PUSH": {
			`{"type":"text","text":"t"}`, `{"notificationType":"SILENT_PUSH"}`, `[{"type":"text","text":"t"}]`, true,
		},
		"NO_PUSH": {
			`{"type":"text","text":"t"}`, `{"notificationType":"NO_PUSH"}`, `[{"type":"text","text":"t"}]`, true,
		},
		"REGULAR": {
			`{"type":"text","text":"t"}`, `{"notificationType":"REGULAR"}`, `[{"type":"text","text":"t"}]`, false,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := newLINEAPI(t)
			ids, err := api.line(t).Send(t.Context(), lineDelivery(decoded(t,
				lineRequest(`{"ottId":"U0098560c6da67ea9cab11d4405e3c018"}`, test.content, test.keys))))
			require.NoError(t, err)
			assert.Len(t, ids, strings.Count(test.content, `"type":"`)-strings.Count(test.content, `"nativePayload"`),
				"one for each content")
			all := api.all()
			require.Len(t, all, 2)
			for _, r := range all {
				assert.Regexp(t, `^LINE-BotSDK-Go/`, r.header.Get("User-Agent"))
				for _, header := range []string{"User-Agent", "Content-Length", "Accept-Encoding"} {
					r.header.Del(header)
				}
			}
			assert.Equal(t, "/oauth2/v3/token", all[0].uri)
			assert.Equal(t, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, all[0].header)
			assert.Equal(t,
				"client_id=23493453984234345&client_secret="+channelSecret+"&grant_type=client_credentials",
				all[0].body)
			assert.Equal(t, "/v2/bot/message/push", all[1].uri)
			assert.Equal(t, http.Header{
				"Content-Type": {"application/json; charset=UTF-8"}, "X-Line-Retry-Key": {requestID},
				"Authorization": {"Bearer line-token-0-tttttttttttttttttttt"},
			}, all[1].header)
			// customAggregationUnits is the SDK's way.
			assert.JSONEq(t,
				fmt.Sprintf(
					`{"to":"U0098560c6da67ea9cab11d4405e3c018","messages":%s,"notificationDisabled":%t,`+
						`"customAggregationUnits":null}`,
					test.messages, test.quiet),
				all[1].body)
			if strings.Contains(test.messages, "12345678901234567890.50") {
				assert.Contains(t, all[1].body, `"n":12345678901234567890.50`, "digit by digit")
			}
		})
	}
}

// docs/contract.md §1: a userReference is a reply token, tried first, push to ottId if LINE refuses it.
func TestLINEReplyToken(t *testing.T) {
	t.Parallel()
	api := newLINEAPI(t)
	api.reply = "reply-token"
	line := api.line(t)
	d := lineDelivery(decoded(t,
		lineRequest(`{"ottId":"U1","userReference":"reply-token"}`, `{"type":"text","text":"t"}`,
			`{"notificationType":"NO_PUSH"}`)))
	require.NoError(t, errorOf(line.Send(t.Context(), d)))
	assert.Equal(t, "token reply", api.paths())
	r := api.all()[1]
	assert.JSONEq(t,
		`{"replyToken":"reply-token","messages":[{"type":"text","text":"t"}],"notificationDisabled":true}`, r.body)
	assert.Empty(t, r.header.Get("X-Line-Retry-Key"))

	require.NoError(t, errorOf(line.Send(t.Context(), d)), "the token is used up")
	assert.Equal(t, "token reply reply push", api.paths())

	api.first = func(w http.ResponseWriter, path string) bool {
		if strings.HasSuffix(path, "/reply") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return strings.HasSuffix(path, "/reply")
	}
	assertOutcome(t, errorOf(line.Send(t.Context(), d)), "", "LINE answered 503", 0)
	assert.Equal(t, "token reply reply push reply", api.paths(), "a failing LINE is no refusal")
}

// The retry key is the message's id, so a second try that LINE has no need of counts as sent.
func TestLINERetryKey(t *testing.T) {
	t.Parallel()
	api := newLINEAPI(t)
	line := api.line(t)
	first, err := line.Send(t.Context(), lineText(t))
	require.NoError(t, err)
	assert.Equal(t, []string{"461230966842064897"}, first)
	second, err := line.Send(t.Context(), lineText(t))
	require.NoError(t, err, "409: accepted before")
	assert.Equal(t, first, second, "with the ids of then")
	assert.Equal(t, "token push push", api.paths())
}

// A token is minted once for all who need it, kept for its life, and minted anew when LINE does not know it.
func TestLINEToken(t *testing.T) {
	t.Parallel()
	api := newLINEAPI(t)
	line := api.line(t)
	send := func(d deliver.Delivery) error {
		d.OttRequestID = uuid.NewString()
		return errorOf(line.Send(t.Context(), d))
	}
	var all sync.WaitGroup
	for range 50 {
		d := lineText(t)
		all.Go(func() { assert.NoError(t, send(d)) })
	}
	all.Wait()
	minted := func() int { return strings.Count(api.paths(), "token") }
	assert.Equal(t, 1, minted(), "fifty at once")

	api.clock.Advance(14*time.Minute - time.Second)
	require.NoError(t, send(lineText(t)))
	assert.Equal(t, 1, minted(), "while it lives")
	api.clock.Advance(time.Second)
	require.NoError(t, send(lineText(t)))
	assert.Equal(t, 2, minted(), "a minute before its end")

	api.mu.Lock()
	clear(api.tokens)
	api.tokens["line-token-other"] = time.Time{}
	api.mu.Unlock()
	require.NoError(t, send(lineText(t)))
	assert.Equal(t, 3, minted(), "LINE does not know it any more")

	again := lineText(t)
	again.Registration.SecretName = "carillon/ott/line/2"
	require.NoError(t, send(again))
	assert.Equal(t, 4, minted(), "the channel was registered again")
	again.Registration.SecretName, again.Credentials.ChannelSecret = "carillon/ott/line/3",
		secret.NewText("old-secret-0123456789")
	assertOutcome(t, send(again),
		"LINE's token endpoint answered 400: invalid_client; invalid client_secret REDACTED", "", 0)
}

func TestLINEAnswers(t *testing.T) {
	t.Parallel()
	const details = `{"message":"The request body has 2 error(s)","details":[{"message":"May not be empty",` +
		`"property":"messages[0].text"},{"message":"Must be one of…","property":"messages[1].type"}]}`
	tests := map[string]struct {
		path, body     string
		status         int
		headers        []string
		refused, again string
		after          time.Duration
		paths          string
		credentials    bool // they are what is refused
	}{
		"push refused": {
			"push", details, 400, nil,
			"LINE answered 400: The request body has 2 error(s); messages[0].text: May not be empty; " +
				"messages[1].type: Must be one of…",
			"", 0, "token push", false,
		},
		"push forbidden": {
			"push",
			`{"message":"Not available"}`,
			403,
			nil,
			"LINE answered 403: Not available",
			"",
			0,
			"token push",
			false,
		},
		"push redirected": {
			"push",
			``,
			307,
			[]string{"Location", "/v2/bot/message/push2"},
			"LINE answered 307",
			"",
			0,
			"token push",
			false,
		},
		"limit reached": {
			"push", `{"message":"You have reached your monthly limit."}`, 429, []string{"Retry-After", "60"}, "",
			"LINE answered 429: You have reached your monthly limit.", time.Minute, "token push", false,
		},
		"push fails":           {"push", `oops`, 500, nil, "", "LINE answered 500", 0, "token push", false},
		"push answers garbage": {"push", `oops`, 200, nil, "", "", 0, "token push", false},
		"no known token": {
			"push", `{"message":"Authentication failed: line-token-1-tttttttttttttttttttt"}`, 401, nil,
			"LINE answered 401: Authentication failed: REDACTED", "", 0, "token push token push", true,
		},
		"token fails": {
			"token", ``, 503, []string{"Retry-After", "3"}, "", "LINE's token endpoint answered 503", 3 * time.Second,
			"token", false,
		},
		"token is none": {
			"token", `{}`, 200, nil, "", "LINE answered something else than a token", 0, "token", false,
		},
		"token is garbage": {
			"token", `oops`, 200, nil, "", "LINE answered something else than a token", 0, "token", false,
		},
		"token endpoint redirects": {
			"token", ``, 302, []string{"Location", "http://169.254.169.254/"}, "LINE's token endpoint answered 302", "",
			0, "token", true,
		},
		"too large": {
			"push", strings.Repeat("x", 1<<20), 400, nil, "LINE answered 400", "", 0, "token push", false,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := newLINEAPI(t)
			answer := status(test.status, test.body, test.headers...)
			api.first = func(w http.ResponseWriter, path string) bool {
				if strings.HasSuffix(path, test.path) {
					answer(0, w, nil, "")
				}
				return strings.HasSuffix(path, test.path)
			}
			err := errorOf(api.line(t).Send(t.Context(), lineText(t)))
			assertOutcome(t, err, test.refused, test.again, test.after)
			assertKind(t, err, test.credentials, test.again != "", false)
			assert.Equal(t, test.paths, api.paths())
		})
	}
}

func TestLINEDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"token", "push"} {
		api := newLINEAPI(t)
		api.first = func(_ http.ResponseWriter, asked string) bool {
			if strings.HasSuffix(asked, path) {
				panic(http.ErrAbortHandler)
			}
			return false
		}
		err := errorOf(api.line(t).Send(t.Context(), lineText(t)))
		var again *deliver.Again
		require.ErrorAs(t, err, &again, path)
		assertKind(t, err, false, true, path == "push")
		assert.True(t, strings.HasPrefix(err.Error(), "LINE did not answer: "), "%v", err)
		assert.NotContains(t, err.Error(), channelSecret)
	}
}

// Ids that LINE says oddly are left out: it took the message all the same.
func TestLINEIDs(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string][]string{
		`{"sentMessages":[{"id":"1"},{"id":"2","quoteToken":"q"}]}`:               {"1", "2"},
		`{"sentMessages":[{"id":""},{"id":"2"}]}`:                                 {"2"},
		`{"sentMessages":[{"id":"` + strings.Repeat("9", 513) + `"},{"id":"2"}]}`: {"2"},
		`{"sentMessages":[{"id":"` + strings.Repeat("9", 512) + `"}]}`:            {strings.Repeat("9", 512)},
		`{"sentMessages":[]}`: nil, `{}`: nil, ``: nil, `[]`: nil, `oops`: nil, `{"sentMessages":[{"id":3}]}`: nil,
	} {
		for _, status := range []int{200, 409} {
			ids, err := deliver.NewLINE(answering{status, answer}, clocktest.New()).Send(t.Context(), lineText(t))
			require.NoError(t, err, answer)
			assert.ElementsMatch(t, want, ids, "%d %s", status, answer)
		}
	}
}

// A message whose time is over while the token is minted is not pushed, nor replied.
func TestLINEMintsAndTheTimeIsOver(t *testing.T) {
	t.Parallel()
	for _, d := range []deliver.Delivery{lineText(t), lineDelivery(decoded(t,
		lineRequest(`{"ottId":"U1","userReference":"reply-token"}`, `{"type":"text","text":"t"}`, ``)))} {
		api := newLINEAPI(t)
		d.ValidUntil = api.clock.Now().Add(time.Second)
		api.first = func(http.ResponseWriter, string) bool {
			api.clock.Advance(time.Second)
			return false
		}
		err := errorOf(api.line(t).Send(t.Context(), d))
		var refused *deliver.Refused
		require.ErrorAs(t, err, &refused)
		assert.True(t, refused.Expired)
		assert.Equal(t, "token", api.paths())
	}
}

// A repeat is told for the 24 hours that LINE remembers a retry key, and for a bit less that counts here.
func TestLINEHasNoBoundOfTries(t *testing.T) {
	assert.Equal(t, deliver.Repeats{For: 24*time.Hour - time.Minute},
		deliver.NewLINE(answering{200, ""}, clocktest.New()).Repeats())
}
