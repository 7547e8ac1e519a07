package contract_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/local/standin"
	"carillon/tests/harness"
)

var (
	ottSend       = endpoint{operation: http.MethodPost, path: "/ott/v1/send"}
	ottSendStatus = endpoint{operation: http.MethodGet, path: "/ott/v1/send/{messageId}"}
)

// sender is a page or channel of the demo brand that no other test sends from.
type sender struct {
	platform, id string
	attributes   object
}

func newPage(t *testing.T) sender {
	t.Helper()
	page := messengerPage()
	require.Equal(t, 201, register(t, page.text(t)).Status)
	attributes := page["ottPlatformAttributes"].(object)
	return sender{"messenger", attributes["pageId"].(string), attributes}
}

func newChannel(t *testing.T) sender {
	t.Helper()
	channel := lineChannel()
	require.Equal(t, 201, register(t, channel.text(t)).Status)
	attributes := channel["ottPlatformAttributes"].(object)
	return sender{"line", attributes["channelId"].(string), attributes}
}

// recipient is a person whom no other test writes to.
func (s sender) recipient() string { return harness.RecipientID(s.platform, s.id) }

// hello is a message from a sender that is right, under a key that no other message has.
func (s sender) hello() object {
	return object{
		"messageKey": unique(), "messageGroupKey": "CanBeAGUIDorAny100UnicodeCharString",
		"from": object{"senderType": s.platform, "senderId": s.id},
		"to":   object{"ottId": s.recipient()},
		"message": object{
			"subject":    "Message Name",
			"contents":   []any{object{"type": "text", "text": "thanks for purchase"}},
			"customKeys": []any{object{"messagingType": "RESPONSE"}},
		},
		"validityPeriod": 30,
	}
}

func sendAs(t *testing.T, c local.DemoClient, body string) answer {
	t.Helper()
	return send(t, ottSend, body, "Authorization", ottBearer(t, c, ""))
}

// accepted sends a message of the demo brand that must be taken, and returns its ottRequestId.
func accepted(t *testing.T, body string) string {
	t.Helper()
	a := sendAs(t, bundle.Demo.OTT, body)
	require.Equal(t, 201, a.Status, "%s", a.Body)
	id, ok := a.Object(t)["ottRequestId"].(string)
	require.True(t, ok)
	require.NoError(t, uuid.Validate(id))
	require.Len(t, a.Object(t), 1)
	return id
}

func statusOf(t *testing.T, c local.DemoClient, messageID string) answer {
	t.Helper()
	return send(
		t,
		ottSendStatus.at("/ott/v1/send/"+url.PathEscape(messageID)),
		"",
		"Authorization",
		ottBearer(t, c, ""),
	)
}

// event is one of a message's status.
type event struct{ Event, EventDateTime, Reason string }

// finished waits for the end of a message and returns its status.
func finished(t *testing.T, id string) []event {
	t.Helper()
	status := harness.Eventually(t, "the message is final", func() ([]event, bool) {
		var body struct{ Status []event }
		require.NoError(t, json.Unmarshal([]byte(statusOf(t, bundle.Demo.OTT, id).Body), &body))
		return body.Status, len(body.Status) == 3
	})
	assert.Equal(t, "Created", status[0].Event)
	assert.Equal(t, "Queued", status[1].Event)
	for i, e := range status {
		at, err := time.Parse("2006-01-02T15:04:05.000Z", e.EventDateTime)
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now(), at, time.Minute)
		if i > 0 {
			assert.LessOrEqual(t, status[i-1].EventDateTime, e.EventDateTime)
		}
	}
	return status
}

// received is what a platform got on behalf of a sender.
func (s sender) received() []standin.PlatformRequest {
	var requests []standin.PlatformRequest
	for _, r := range bundle.OTT.Requests() {
		if token, ok := s.attributes["pageAccessToken"]; ok && r.Query["access_token"] == token ||
			strings.Contains(r.Body, s.id) || strings.Contains(r.Body, s.recipient()) {
			requests = append(requests, r)
		}
	}
	return requests
}

// docs/contract.md §1, "Send and receive": POST to the registration's endpointUrl with the page access token and
// appsecret_proof.
func TestSendToMessenger(t *testing.T) {
	t.Parallel()
	page := newPage(t)
	body := page.hello()
	id := accepted(t, body.text(t))
	assert.Equal(t, "Sent", finished(t, id)[2].Event)

	requests := page.received()
	require.Len(t, requests, 1)
	r := requests[0]
	mac := hmac.New(sha256.New, []byte(page.attributes["applicationSecret"].(string)))
	_, _ = mac.Write([]byte(page.attributes["pageAccessToken"].(string)))
	assert.Equal(t, "POST /v2.6/me/messages", r.Method+" "+r.Path)
	assert.Equal(t, "graph.facebook.com", r.Headers["host"])
	assert.Equal(t, "application/json", r.Headers["content-type"])
	assert.Equal(t, hex.EncodeToString(mac.Sum(nil)), r.Query["appsecret_proof"])
	assert.JSONEq(
		t,
		`{"recipient":{"id":"`+page.recipient()+`"},"messaging_type":"RESPONSE","message":{"text":"thanks for purchase"}}`,
		r.Body,
	)

	// GET by ottRequestId or messageKey: as it was sent, with its id.
	sent := clone(body).(object)
	sent["ottRequestId"] = id
	for _, messageID := range []string{id, body["messageKey"].(string)} {
		a := statusOf(t, bundle.Demo.OTT, messageID)
		require.Equal(t, 200, a.Status, "%s", a.Body)
		var shown struct{ RequestBody json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(a.Body), &shown))
		assert.JSONEq(t, sent.text(t), string(shown.RequestBody))
		requireUnknownMessage(t, statusOf(t, bundle.Demo.OTTOther, messageID))
	}
	requireUnknownMessage(t, statusOf(t, bundle.Demo.OTT, unique()))
}

func requireUnknownMessage(t *testing.T, a answer) {
	t.Helper()
	require.Equal(t, 404, a.Status, "%s", a.Body)
	require.JSONEq(t, `{"message":"The message does not exist","errorcode":30003,"documentation":""}`, a.Body)
}

// docs/contract.md §1: a stateless token, then push with X-Line-Retry-Key; a userReference is tried first, push if LINE
// refuses it.
func TestSendToLINE(t *testing.T) {
	t.Parallel()
	channel := newChannel(t)
	reply := "reply-" + channel.id
	first := accepted(t, channel.hello().set(reply, "to", "userReference").text(t))
	assert.Equal(t, "Sent", finished(t, first)[2].Event)
	second := accepted(t, channel.hello().set(reply, "to", "userReference").text(t))
	assert.Equal(t, "Sent", finished(t, second)[2].Event)

	var paths []string
	var push standin.PlatformRequest
	for _, r := range channel.received() {
		assert.Equal(t, "api.line.me", r.Headers["host"])
		if r.Path == "/oauth2/v3/token" { // by each process that sent one of the two
			assert.Equal(t, 200, r.Status)
			continue
		}
		paths = append(paths, fmt.Sprint(r.Path, " ", r.Status))
		push = r
	}
	assert.Equal(
		t,
		[]string{"/v2/bot/message/reply 200", "/v2/bot/message/reply 400", "/v2/bot/message/push 200"},
		paths,
		"a reply token is good once",
	)
	assert.Equal(t, second, push.Headers["x-line-retry-key"])
}

// docs/contract.md §1: a refusal is final and readable. An inactive registration sends nothing.
func TestSendIsRefusedByThePlatform(t *testing.T) {
	t.Parallel()
	page, channel := newPage(t), newChannel(t)
	nothing := []any{object{"type": "native", "nativePayload": object{}}}
	for id, reason := range map[string]string{
		accepted(t, page.hello().set(nothing, "message", "contents").text(t)):    "Messenger answered 400: (#100) Param message must be non-empty. (code 100)",
		accepted(t, channel.hello().set(nothing, "message", "contents").text(t)): "LINE answered 400: The request body has 1 error(s); messages[0].type: May not be empty",
	} {
		last := finished(t, id)[2]
		assert.Equal(t, "Error", last.Event)
		assert.Equal(t, reason, last.Reason)
	}
}

// docs/contract.md §1: `Sender Id provided is either unregistered or inactive`.
func TestSendFromNobody(t *testing.T) {
	t.Parallel()
	page, channel := newPage(t), newChannel(t)
	notSendable := fault{Message: "Sender Id provided is either unregistered or inactive", ErrorCode: badValue}
	asleep := messengerPage().set(false, "ottPlatformAttributes", "isActive")
	require.Equal(t, 201, register(t, asleep.text(t)).Status)
	for name, body := range map[string]object{
		"unregistered":         page.hello().set(unique(), "from", "senderId"),
		"inactive":             page.hello().set(asleep["ottPlatformAttributes"].(object)["pageId"], "from", "senderId"),
		"of the other network": page.hello().set(channel.id, "from", "senderId"),
	} {
		t.Run(name, func(t *testing.T) {
			requireFaults(t, sendAs(t, bundle.Demo.OTT, body.text(t)), []fault{notSendable})
			requireFaults(
				t,
				sendAs(t, bundle.Demo.OTT, body.without("messageKey").text(t)),
				append(missingFaults("MessageKey"), notSendable),
			)
		})
	}
	requireFaults(t, sendAs(t, bundle.Demo.OTTOther, page.hello().text(t)), []fault{notSendable})
	assert.Empty(t, page.received())
}

// docs/contract.md §1: a native content's object may be named nativePayload or payload; texts up to the platform's limit.
func TestSendNativeAndLongTexts(t *testing.T) {
	t.Parallel()
	channel := newChannel(t)
	sticker := object{"type": "sticker", "packageId": "446", "stickerId": "1988"}
	long := strings.Repeat("🍎", 2500)
	id := accepted(t, channel.hello().set([]any{
		object{"type": "native", "payload": sticker},
		object{"type": "native", "nativePayload": sticker, "payload": sticker},
		object{"type": "text", "text": long},
		object{"type": "video", "url": "https://example.com/a.mp4", "altUrl": "https://example.com/a.jpg"},
		object{"type": "audio", "url": "https://example.com/a.m4a", "duration": 60_000},
	}, "message", "contents").text(t))
	require.Equal(t, "Sent", finished(t, id)[2].Event)
	var pushed struct{ Messages []object }
	for _, r := range channel.received() {
		if r.Path == "/v2/bot/message/push" {
			require.NoError(t, json.Unmarshal([]byte(r.Body), &pushed))
		}
	}
	assert.Equal(t, []object{
		sticker,
		sticker,
		{"type": "text", "text": long},
		{
			"type":               "video",
			"originalContentUrl": "https://example.com/a.mp4",
			"previewImageUrl":    "https://example.com/a.jpg",
		},
		{"type": "audio", "originalContentUrl": "https://example.com/a.m4a", "duration": 60_000.0},
	}, pushed.Messages)

	page := newPage(t)
	text := []any{object{"type": "text", "text": strings.Repeat("é", 2000)}}
	id = accepted(t, page.hello().set(text, "message", "contents").text(t))
	require.Equal(t, "Sent", finished(t, id)[2].Event)
}

// Each row of docs/contract.md §1's list, in its order, alone and all at once.
func TestSendFaults(t *testing.T) {
	t.Parallel()
	page, channel := newPage(t), newChannel(t)
	text := func(code int, message string) fault { return fault{Message: message, ErrorCode: code} }
	contents := func(contents ...any) func(object) object {
		return func(o object) object { return o.set(contents, "message", "contents") }
	}
	for name, test := range map[string]struct {
		from   sender
		change func(o object) object
		want   []fault
	}{
		"MessageKey":      {page, func(o object) object { return o.without("messageKey") }, missingFaults("MessageKey")},
		"From":            {page, func(o object) object { return o.without("from") }, missingFaults("From object")},
		"Sender Id":       {page, func(o object) object { return o.set("", "from", "senderId") }, missingFaults("Sender Id")},
		"Sender Type":     {page, func(o object) object { return o.without("from", "senderType") }, missingFaults("Sender Type")},
		"To":              {page, func(o object) object { return o.without("to") }, missingFaults("To object")},
		"Message":         {page, func(o object) object { return o.without("message") }, missingFaults("Message object")},
		"contents":        {page, contents(), missingFaults("Message contents")},
		"Content Type":    {channel, contents(object{"text": "t"}), missingFaults("Content Type for all message contents")},
		"Text":            {channel, contents(object{"type": "text"}), []fault{text(missing, "Text attribute must be provided for Text type Message Content")}},
		"Url":             {channel, contents(object{"type": "image"}), []fault{text(missing, "Url attribute must be provided for Image, File, Audio and Video type Message Content")}},
		"Validity Period": {page, func(o object) object { return o.without("validityPeriod") }, missingFaults("Validity Period")},
		"too many for Messenger": {
			page, contents(object{"type": "text", "text": "1"}, object{"type": "text", "text": "2"}),
			[]fault{text(badValue, "Message object cannot contain more than 1 message objects")},
		},
		"too many for LINE": {
			channel, contents(make6()...), []fault{text(badValue, "Message object cannot contain more than 5 message objects")},
		},
		"MessagingType": {page, func(o object) object { return o.without("message", "customKeys") }, []fault{text(missing, "MessagingType must be provided as a Custom Key")}},
		"Tag": {
			page, func(o object) object {
				return o.set([]any{object{"messagingType": "MESSAGE_TAG"}}, "message", "customKeys")
			},
			[]fault{text(missing, "Tag must be provided as a Custom Key when MessagingType is provided as MESSAGE_TAG")},
		},
		"no recipient for Messenger":    {page, func(o object) object { return o.set(object{}, "to") }, []fault{text(missing, "Either OttId or UserReference must be provided in the To object")}},
		"no recipient for LINE":         {channel, func(o object) object { return o.set(object{"userReference": "r"}, "to") }, []fault{text(missing, "OttId must be provided in the To object")}},
		"AltUrl":                        {channel, contents(object{"type": "video", "url": "https://example.com/a.mp4"}), []fault{text(missing, "AltUrl attribute must be provided for Video type Message Content")}},
		"Duration":                      {channel, contents(object{"type": "audio", "url": "https://example.com/a.m4a"}), []fault{text(missing, "Duration attribute must be provided for Audio type Message Content")}},
		"a text too long for Messenger": {page, contents(object{"type": "text", "text": strings.Repeat("é", 2001)}), []fault{text(badValue, "Text attribute is invalid")}},
		"a text too long for LINE":      {channel, contents(object{"type": "text", "text": strings.Repeat("🍎", 2501)}), []fault{text(badValue, "Text attribute is invalid")}},
		"payloads that differ":          {channel, contents(object{"type": "native", "payload": object{"type": "text"}, "nativePayload": object{}}), []fault{text(badValue, "Payload is invalid")}},
		"control characters": {page, func(o object) object {
			return o.set("a\nb", "messageKey").set("1\x00", "from", "senderId").set("1\t", "to", "ottId")
		},
			[]fault{text(badValue, "MessageKey is invalid"), text(badValue, "SenderId is invalid"), text(badValue, "OttId is invalid")}},
		"wrong types": {page, func(o object) object { return o.set(1, "messageKey").set("t", "to") }, []fault{text(wrongType, "MessageKey is invalid"), text(wrongType, "To is invalid")}},
		"bad values": {page, func(o object) object { return o.set(0, "validityPeriod").set(strings.Repeat("k", 101), "messageKey") },
			[]fault{text(badValue, "MessageKey is invalid"), text(badValue, "ValidityPeriod is invalid")}},
		"senderType": {page, func(o object) object { return o.set("whatsapp", "from", "senderType") }, []fault{text(badValue, "SenderType is invalid")}},
		"all at once": {
			page, func(o object) object {
				return object{"from": o["from"], "to": object{}, "message": object{"contents": []any{object{}, object{"type": "text"}, object{"type": "image"}}}}
			},
			append(append(missingFaults("MessageKey", "Content Type for all message contents"),
				text(missing, "Text attribute must be provided for Text type Message Content"),
				text(missing, "Url attribute must be provided for Image, File, Audio and Video type Message Content")),
				append(missingFaults("Validity Period"), text(badValue, "Message object cannot contain more than 1 message objects"),
					text(missing, "MessagingType must be provided as a Custom Key"), text(missing, "Either OttId or UserReference must be provided in the To object"))...),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireFaults(t, sendAs(t, bundle.Demo.OTT, test.change(test.from.hello()).text(t)), test.want)
		})
	}
}

func make6() []any {
	contents := make([]any, 6)
	for i := range contents {
		contents[i] = object{"type": "text", "text": "t"}
	}
	return contents
}

// docs/contract.md §1: the same messageKey with the same body within 24 h gives the first ottRequestId and sends
// nothing; with another body 409.
func TestSendTheSameKeyAgain(t *testing.T) {
	t.Parallel()
	page := newPage(t)
	body := page.hello()
	bearer := ottBearer(t, bundle.Demo.OTT, "")
	ids := make([]string, 50)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			a, err := exchange(ottSend, body.text(t), "Authorization", bearer)
			assert.NoError(t, err)
			assert.Equal(t, 201, a.Status, "%s", a.Body)
			ids[i] = a.Body
		})
	}
	all.Wait()
	for _, id := range ids {
		assert.Equal(t, ids[0], id)
	}
	id := accepted(t, body.text(t))
	assert.Equal(t, "Sent", finished(t, id)[2].Event)
	require.Equal(t, id, accepted(t, body.text(t)))
	assert.Len(t, page.received(), 1, "sent once")

	a := sendAs(t, bundle.Demo.OTT, body.set(31, "validityPeriod").text(t))
	require.Equal(t, 409, a.Status)
	require.EqualValues(t, 30004, number(t, a.Object(t)["errorcode"]))
}

// docs/contract.md §1: 401 without a token, 403 without ott_send, 415 for another media type; compressed bodies.
func TestSendAccess(t *testing.T) {
	t.Parallel()
	page := newPage(t)
	body := page.hello().text(t)
	for name, bearer := range badBearers(t, ottBearer(t, bundle.Demo.OTT, "")) {
		for _, a := range []answer{send(t, ottSend, body, "Authorization", bearer), send(t, ottSendStatus.at("/ott/v1/send/x"), "", "Authorization", bearer)} {
			require.Equal(t, 401, a.Status, name)
			require.JSONEq(t, `{"message":"Not Authorized","errorcode":0,"documentation":""}`, a.Body)
		}
	}
	registrar := ottBearer(t, bundle.Demo.OTT, "ott_registration_read ott_registration_write")
	for _, a := range []answer{send(t, ottSend, body, "Authorization", registrar), send(t, ottSendStatus.at("/ott/v1/send/x"), "", "Authorization", registrar)} {
		require.Equal(t, 403, a.Status)
		require.JSONEq(t, `{"message":"Insufficient Privileges","errorcode":20002,"documentation":""}`, a.Body)
	}
	sendOnly := ottBearer(t, bundle.Demo.OTT, "ott_send")
	require.Equal(t, 415, send(t, ottSend, body, "Authorization", sendOnly, "Content-Type", "text/plain").Status)
	require.Equal(t, 201, send(t, ottSend, body, "Authorization", sendOnly).Status)
	require.Equal(t, 403, send(t, registration, messengerPage().text(t), "Authorization", sendOnly).Status)
}
