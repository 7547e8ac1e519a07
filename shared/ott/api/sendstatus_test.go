package api_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
)

// docs/contract.md §1: GET by ottRequestId or messageKey shows the body as it was sent.
func TestSendStatusShowsTheBody(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	body := instead(messengerMessage, `{"messageKey"`,
		`{"OTTRequestID":"mine", "Big":12345678901234567890.0,"messageKey"`, "thanks", `<&> é \u003c`)
	id := s.accepted(body)

	shown := strings.TrimSuffix(strings.Replace(instead(body, `"OTTRequestID":"mine", `, ""), `\u003c`, "<", 1), "}") +
		`,"ottRequestId":"` + id + `"}`
	for name, messageID := range map[string]string{
		"ottRequestId": id, "messageKey": "e1c35141-6e5c-4bc2-813b-60f969e52b0d",
	} {
		answer := s.get(bearer(t, sendScope), messageID)
		require.Equal(t, http.StatusOK, answer.StatusCode, name)
		assert.Equal(t, "application/json", answer.Headers["content-type"])
		events := regexp.MustCompile(`^{"requestBody":(.*),"status":\[{"event":"Created","eventDateTime":"(.*)"},` +
			`{"event":"Queued","eventDateTime":"(.*)"}\],"platformMessageIds":\[\]}$`).FindStringSubmatch(answer.Body)
		require.NotNil(t, events, answer.Body)
		assert.Equal(t, shown, events[1], name)
		for _, at := range events[2:] {
			parsed, err := time.Parse("2006-01-02T15:04:05.000Z", at)
			require.NoError(t, err)
			assert.Equal(t, s.Clock.Now(), parsed)
		}
	}

	const unknown = `{"message":"The message does not exist","errorcode":30003,"documentation":""}`
	for name, test := range map[string]struct {
		authorization, messageID, body string
		status                         int
	}{
		"unknown":                {bearer(t, sendScope), "nobody's", unknown, http.StatusNotFound},
		"another tenant's by id": {bearerOf(t, "tenant-2", sendScope), id, unknown, http.StatusNotFound},
		"another tenant's by key": {
			bearerOf(t, "tenant-2", sendScope), "e1c35141-6e5c-4bc2-813b-60f969e52b0d", unknown, http.StatusNotFound,
		},
		"no token": {
			"", id, `{"message":"Not Authorized","errorcode":0,"documentation":""}`, http.StatusUnauthorized,
		},
		"no scope": {bearer(t, readScope, writeScope), id, insufficient, http.StatusForbidden},
	} {
		answer := s.get(test.authorization, test.messageID)
		assert.Equal(t, test.status, answer.StatusCode, name)
		assert.Equal(t, test.body, answer.Body, name)
	}
}

// fate is what a GET shows of what has become of a message: each event with its time after the message's creation, and
// its reason; and the platform's ids.
func (s *sending) fate(id string) (events []string, ids []string) {
	s.t.Helper()
	answer := s.get(bearer(s.t, sendScope), id)
	require.Equal(s.t, http.StatusOK, answer.StatusCode)
	var shown struct {
		Status []struct {
			Event         string
			EventDateTime time.Time
			Reason        *string
		}
		PlatformMessageIDs []string `json:"platformMessageIds"`
	}
	require.NoError(s.t, json.Unmarshal([]byte(answer.Body), &shown))
	assert.NotNil(s.t, shown.PlatformMessageIDs, "a list, though it be empty")
	for _, e := range shown.Status {
		text := e.Event + " " + e.EventDateTime.Sub(shown.Status[0].EventDateTime).String()
		if e.Reason != nil {
			text += ": " + *e.Reason
		}
		events = append(events, text)
	}
	return events, shown.PlatformMessageIDs
}

// What becomes of a message: while it waits the last answer is Queued's reason, which is nobody's any more once it is
// sent; the ids are the platform's; Delivered and Read come from receipts, whenever these come.
func TestSendStatus(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	assertFate := func(id string, want ...string) {
		t.Helper()
		events, ids := s.fate(id)
		assert.Equal(t, want, events)
		assert.Empty(t, ids)
	}
	created := s.Clock.Now()
	after := func(seconds int) time.Time { return created.Add(time.Duration(seconds) * time.Second) }
	id := s.accepted(messengerMessage)
	m, err := s.messages.Load(t.Context(), "tenant-1", id)
	require.NoError(t, err)
	conversation := m.Message.Conversation("tenant-1")
	assertFate(id, "Created 0s", "Queued 0s")

	require.NoError(t, s.messages.Wait(t.Context(), m, "others were not sent"))
	assertFate(id, "Created 0s", "Queued 0s: others were not sent")
	m = s.claim(id)
	m.Progress.Reason, m.Progress.Tries = "Messenger answered 503", 1
	require.NoError(t, s.messages.Release(t.Context(), m, after(10)))
	assertFate(id, "Created 0s", "Queued 0s: Messenger answered 503")

	// A receipt that comes before it is recorded that the message was sent is not lost.
	s.Clock.Advance(10 * time.Second)
	m = s.claim(id)
	require.NoError(t, s.messages.AddReceipts(t.Context(), "tenant-1", conversation,
		ott.Receipt{Kind: ott.DeliveredReceipt, Watermark: after(11), At: after(12)}))
	assertFate(id, "Created 0s", "Queued 0s: Messenger answered 503")
	m.Progress.BegunAt, m.Progress.PlatformIDs = after(10), []string{"m_1"}
	require.NoError(t, s.messages.Sent(t.Context(), m, after(13)))
	events, ids := s.fate(id)
	assert.Equal(t, []string{"Created 0s", "Queued 0s", "Sent 13s", "Delivered 12s"}, events)
	assert.Equal(t, []string{"m_1"}, ids)

	require.NoError(t, s.messages.AddReceipts(t.Context(), "tenant-1", conversation,
		ott.Receipt{Kind: ott.ReadReceipt, Watermark: after(9), At: after(14)}))
	events, _ = s.fate(id)
	assert.Len(t, events, 4, "read up to an earlier message")
	require.NoError(t, s.messages.AddReceipts(t.Context(), "tenant-1", conversation,
		ott.Receipt{Kind: ott.ReadReceipt, Watermark: after(20), At: after(21)}))
	events, _ = s.fate(id)
	assert.Equal(t, []string{"Created 0s", "Queued 0s", "Sent 13s", "Delivered 12s", "Read 21s"}, events)

	// One that its platform names.
	named := s.accepted(s.withKey("named"))
	n := s.claim(named)
	n.Progress.BegunAt, n.Progress.PlatformIDs = after(30), []string{"m_2"}
	require.NoError(t, s.messages.Sent(t.Context(), n, after(31)))
	require.NoError(t, s.messages.AddReceipts(t.Context(), "tenant-1", conversation,
		ott.Receipt{Kind: ott.DeliveredReceipt, MessageIDs: []string{"m_2"}, At: after(32)}))
	events, _ = s.fate(named)
	assert.Equal(t, []string{"Created 0s", "Queued 0s", "Sent 21s", "Delivered 22s"}, events)

	// One that is refused.
	refused := s.accepted(s.withKey("refused"))
	r := s.claim(refused)
	require.NoError(t, s.messages.AddReceipts(t.Context(), "tenant-1", conversation,
		ott.Receipt{Kind: ott.ReadReceipt, Watermark: after(1000), At: after(1000)}))
	require.NoError(t, s.messages.Failed(t.Context(), r, "no such user", after(11).Add(60*time.Millisecond)))
	assertFate(refused, "Created 0s", "Queued 0s", "Error 1.06s: no such user")
	answer := s.get(bearer(t, sendScope), refused).Body
	at := after(11).Add(60 * time.Millisecond).UTC().Format("2006-01-02T15:04:05.000Z")
	assert.Contains(t, answer, `,{"event":"Error","eventDateTime":"`+at+`","reason":"no such user"}],`+
		`"platformMessageIds":[]}`)
	require.NoError(t, s.messages.Sent(t.Context(), r, after(12)))
	events, _ = s.fate(refused)
	assert.Equal(t, "Sent 2s", events[2], "it was sent all the same")
}

// One that is over is shown as it ends, though nobody has given it up yet: nobody sends it any more.
func TestSendStatusOfWhatHasExpired(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	never, tried, under := s.accepted(
		s.withKey("never"),
	), s.accepted(
		s.withKey("tried"),
	), s.accepted(
		s.withKey("under way"),
	)
	m := s.claim(tried)
	m.Progress.Reason = "Messenger answered 503"
	require.NoError(t, s.messages.Release(t.Context(), m, s.Clock.Now().Add(time.Hour)))
	s.Clock.Advance(30*time.Minute - time.Second)
	s.claim(under)
	assertFate := func(id string, want ...string) {
		t.Helper()
		events, _ := s.fate(id)
		assert.Equal(t, want, events)
	}
	s.Clock.Advance(2*time.Second - time.Millisecond) // another's clock may be a second behind
	assertFate(never, "Created 0s", "Queued 0s")
	assertFate(tried, "Created 0s", "Queued 0s: Messenger answered 503")
	s.Clock.Advance(time.Millisecond)
	assertFate(never, "Created 0s", "Queued 0s", "Error 30m0s: expired")
	assertFate(tried, "Created 0s", "Queued 0s", "Error 30m0s: expired; Messenger answered 503")
	assertFate(under, "Created 0s", "Queued 0s")
	s.Clock.Advance(30 * time.Second)
	assertFate(under, "Created 0s", "Queued 0s", "Error 30m0s: expired")
}
