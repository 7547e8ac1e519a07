package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/ott"
	"carillon/shared/ott/api"
	"carillon/shared/ott/otttest"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/stackname"
)

// The parts of a right request.
const (
	messengerFrom = `"from":{"senderType":"messenger","senderId":"503868699681937"}`
	ottIDTo       = `"to":{"ottId":"U42348yafsd8y3248yfsq8cy9088934d"}`
	textMessage   = `"message":{"contents":[{"type":"text","text":"thanks for purchase"}],` +
		`"customKeys":[{"messagingType":"RESPONSE"}]}`
	validity         = `"validityPeriod":30`
	messageKey       = `"messageKey":"e1c35141-6e5c-4bc2-813b-60f969e52b0d"`
	messengerMessage = "{" + messageKey + "," + messengerFrom + "," + ottIDTo + "," + textMessage + "," + validity + "}"
)

// instead returns a right request with parts replaced, old and new in turn.
func instead(request string, parts ...string) string {
	return strings.NewReplacer(parts...).Replace(request)
}

// withMessage returns a right request with that message object.
func withMessage(request, message string) string {
	return instead(request, textMessage, `"message":`+message)
}

// withContents returns a right request with those contents.
func withContents(request, contents string) string {
	return withMessage(request, `{"contents":[`+contents+`],"customKeys":[{"messagingType":"RESPONSE"}]}`)
}

// Two of its texts when a part is missing.
const (
	noKey       = "MessageKey must be provided"
	noRecipient = "Either OttId or UserReference must be provided in the To object"
)

const sendScope = ott.ScopeSend

// outbox is a queue that keeps what it takes, or fails.
type outbox struct {
	mu     sync.Mutex
	queued []string
	fails  bool
}

func (o *outbox) Enqueue(_ context.Context, tenant, id string, delay time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fails {
		return errors.New("SQS is down")
	}
	o.queued = append(o.queued, fmt.Sprint(tenant, " ", id, " ", delay))
	return nil
}

// sending is ott-send and ott-send-status on one stack, with a Messenger page and a LINE channel of bearer's tenant.
type sending struct {
	*otttest.Registry
	t            *testing.T
	outbox       outbox
	messages     *store.Messages
	send, status *endpoint
}

func newSending(t *testing.T) *sending {
	t.Helper()
	s := &sending{Registry: otttest.NewRegistry(t), t: t}
	s.messages = s.through(s.Items)
	s.use(s.messages)
	s.register("tenant-1", ott.Registration{
		Platform: ott.Messenger, PropertyID: "503868699681937", EndpointURL: "https://graph.facebook.com/",
		IsActive: true,
	})
	s.register("tenant-1", ott.Registration{
		Platform: ott.LINE, PropertyID: "2145435435632435", EndpointURL: "https://example.com/", IsActive: true,
	})
	return s
}

// through is the messages' store by way of another client.
func (s *sending) through(items *dynamodb.Client) *store.Messages {
	return store.NewMessages(items, stackname.MessagesTable(s.Stack), s.Clock)
}

// use makes the endpoints work on a store.
func (s *sending) use(messages *store.Messages) {
	tokens := api.NewAuthority(secret.NewCache(vault{}), keyName)
	s.send = newEndpoint(
		(&api.SendHandler{
			Tokens: tokens, Registrations: s.RegistrationReader, Messages: messages, Outbox: &s.outbox, Clock: s.Clock,
			Log: s.Log.Logger(),
		}).Serve,
		api.EncodeError)
	s.status = newEndpoint((&api.SendStatusHandler{Tokens: tokens, Messages: messages}).Serve, api.EncodeError)
}

func (s *sending) register(tenant string, r ott.Registration) {
	s.t.Helper()
	require.NoError(s.t, s.Put(s.t.Context(), tenant, fmt.Sprint(time.Now().UnixNano()), r, ott.Credentials{}))
}

func (s *sending) post(body string) events.APIGatewayV2HTTPResponse {
	s.t.Helper()
	return s.send.post(s.t, body, map[string]string{
		"authorization": bearer(s.t, sendScope), "content-type": "application/json; charset=utf-8",
	})
}

// accepted sends a message that must be taken and returns its id.
func (s *sending) accepted(body string) string {
	s.t.Helper()
	answer := s.post(body)
	require.Equal(s.t, http.StatusCreated, answer.StatusCode, answer.Body)
	id := regexp.MustCompile(`^{"ottRequestId":"([0-9a-f-]{36})"}$`).FindStringSubmatch(answer.Body)
	require.NotNil(s.t, id, answer.Body)
	return id[1]
}

func (s *sending) get(authorization, messageID string) events.APIGatewayV2HTTPResponse {
	s.t.Helper()
	answer, err := s.status.serve(s.t.Context(), events.APIGatewayV2HTTPRequest{
		PathParameters: map[string]string{"messageId": messageID},
		Headers:        map[string]string{"authorization": authorization},
	})
	require.NoError(s.t, err)
	return answer
}

func (s *sending) withKey(key string) string {
	return instead(messengerMessage, messageKey, `"messageKey":"`+key+`"`)
}

// docs/contract.md §1, "Send and receive": 201 once the message is durable, and GET by ottRequestId or messageKey.
func TestSendAndItsStatus(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	body := instead(messengerMessage, `{"messageKey"`,
		`{"OTTRequestID":"mine", "Big":12345678901234567890.0,"messageKey"`, "thanks", `<&> é \u003c`)
	id := s.accepted(body)
	assert.Equal(t, []string{"tenant-1 " + id + " 0s"}, s.outbox.queued)

	shown := strings.TrimSuffix(strings.Replace(instead(body, `"OTTRequestID":"mine", `, ""), `\u003c`, "<", 1), "}") +
		`,"ottRequestId":"` + id + `"}`
	var first string
	for name, messageID := range map[string]string{
		"ottRequestId": id, "messageKey": "e1c35141-6e5c-4bc2-813b-60f969e52b0d",
	} {
		answer := s.get(bearer(t, sendScope), messageID)
		require.Equal(t, http.StatusOK, answer.StatusCode, name)
		assert.Equal(t, "application/json", answer.Headers["content-type"])
		events := regexp.MustCompile(`^{"requestBody":(.*),"status":\[{"event":"Created","eventDateTime":"(.*)"},` +
			`{"event":"Queued","eventDateTime":"(.*)"}\]}$`).FindStringSubmatch(answer.Body)
		require.NotNil(t, events, answer.Body)
		assert.Equal(t, shown, events[1], name)
		for _, at := range events[2:] {
			parsed, err := time.Parse("2006-01-02T15:04:05.000Z", at)
			require.NoError(t, err)
			assert.Equal(t, s.Clock.Now(), parsed)
		}
		first = answer.Body
	}

	m, err := s.messages.Claim(t.Context(), "tenant-1", id, s.Clock.Now(), s.Clock.Now().Add(time.Minute))
	require.NoError(t, err)
	require.NoError(t,
		s.messages.Failed(t.Context(), m, "no such user", time.Date(2026, 1, 2, 3, 4, 5, 60_000_000,
			time.FixedZone("", 3600))))
	answer := s.get(bearer(t, sendScope), id)
	assert.Equal(t,
		strings.TrimSuffix(first, "]}")+`,{"event":"Error","eventDateTime":"2026-01-02T02:04:05.060Z","reason":"no `+
			`such user"}]}`,
		answer.Body)
	require.NoError(t, s.messages.Sent(t.Context(), m, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
	answer = s.get(bearer(t, sendScope), id)
	assert.Equal(t,
		strings.TrimSuffix(first, "]}")+`,{"event":"Sent","eventDateTime":"2026-01-02T03:04:05.000Z"}]}`, answer.Body)

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

// Unknown members are ignored, however much they hold; those of a large body are not kept.
func TestSendWithMoreThanAskedFor(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	for name, more := range map[string]string{
		"small": `"unknown":[1e400]`, "large": `"unknown":"` + strings.Repeat("x", 4_000_000) + `"`,
	} {
		key := `"MESSAGE_KEY":"` + name + `"`
		body := instead(messengerMessage, messageKey, more+","+key)
		id := s.accepted(body)
		assert.Equal(t, id, s.accepted(body))
		changed := s.post(instead(body, "unknown", "Unknown"))
		assert.Equal(t, http.StatusConflict, changed.StatusCode, "all of a body counts")
		shown := s.get(bearer(t, sendScope), id).Body
		want := key + "," + messengerFrom
		if name == "small" {
			want = more + "," + want
		}
		assert.True(t, strings.HasPrefix(shown, `{"requestBody":{`+want), "%.200s", shown)
	}
}

// What is large and not a message's is read and not kept; what is a message's must fit.
func TestSendOfALargeBody(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	long := strings.Repeat("x", ott.MaxBody)
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"a long unknown name":     {`{"` + long + `":1,` + messengerMessage[1:], http.StatusCreated},
		"behind a mark":           {"\ufeff" + `{"unknown":"` + long + `",` + messengerMessage[1:], http.StatusCreated},
		"deep unknown members":    {`{"unknown":[{"to":[{"` + long + `":{}}]}],` + messengerMessage[1:], http.StatusCreated},
		"a text":                  {instead(messengerMessage, "thanks for purchase", long), http.StatusRequestEntityTooLarge},
		"many elements":           {`{"to":[` + strings.Repeat("1,", ott.MaxBody) + `1]}`, http.StatusRequestEntityTooLarge},
		"a name of a known value": {`{"to":{"` + long + `":1}}`, http.StatusRequestEntityTooLarge},
		"white space":             {strings.Repeat(" ", ott.MaxBody) + messengerMessage, http.StatusCreated},
		"a text, then broken":     {`{"to":"` + long + `"`, http.StatusBadRequest},
		"behind it more":          {messengerMessage + strings.Repeat(" ", ott.MaxBody) + "x", http.StatusBadRequest},
		"an array":                {`["` + long + `"]`, http.StatusBadRequest},
		"an unknown member twice": {`{"unknown":"` + long + `","unknown":1}`, http.StatusBadRequest},
		"a known member twice":    {`{"unknown":"` + long + `","to":1,"to":1}`, http.StatusBadRequest},
	} {
		key := `"messageKey":"` + name + `"`
		body := strings.Replace(test.body, messageKey, key, 1)
		answer := s.post(body)
		assert.Equal(t, test.status, answer.StatusCode, "%s: %.200s", name, answer.Body)
		if test.status == http.StatusCreated {
			assert.Equal(t, answer.Body, s.post(body).Body, name)
			shown := s.get(bearer(t, sendScope), s.accepted(body)).Body
			assert.Less(t, len(shown), 2000, name)
			assert.True(t, strings.HasPrefix(shown, `{"requestBody":{"`), "%s: %.100s", name, shown)
		}
	}
}

// A byte order mark is no part of the body: it is not shown.
func TestSendBehindAByteOrderMark(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	id := s.accepted("\ufeff" + messengerMessage)
	assert.Equal(t, id, s.accepted(messengerMessage))
	assert.True(t, strings.HasPrefix(s.get(bearer(t, sendScope), id).Body, `{"requestBody":{"`))
}

// single and aggregated refusals to the letter, each row of docs/contract.md §1.
func TestSendIsRefused(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	s.register("tenant-1", ott.Registration{
		Platform: ott.Messenger, PropertyID: "asleep", EndpointURL: "https://graph.facebook.com/",
	})
	s.register("tenant-2", ott.Registration{
		Platform: ott.Messenger, PropertyID: "foreign", EndpointURL: "https://graph.facebook.com/", IsActive: true,
	})
	const notSendable = `{"message":"Sender Id provided is either unregistered or inactive","errorcode":10005,` +
		`"documentation":""}`
	aggregate := func(errors ...string) string {
		return `{"message":"Please fix the following errors","errorcode":10006,"documentation":"",` +
			`"validationErrors":[` +
			strings.Join(errors, ",") + `]}`
	}
	lacks := func(text string) string { return `{"message":"` + text + `","errorcode":10002,"documentation":""}` }
	from := func(id string) string { return instead(messengerMessage, "503868699681937", id) }
	for name, test := range map[string]struct {
		body, want string
		status     int
	}{
		"unregistered":         {from("nobody"), aggregate(notSendable), 400},
		"inactive":             {from("asleep"), aggregate(notSendable), 400},
		"another tenant's":     {from("foreign"), aggregate(notSendable), 400},
		"of the other network": {from("2145435435632435"), aggregate(notSendable), 400},
		"the seed's example": {
			withMessage(messengerMessage, `{"customKeys":[{"messagingType":"RESPONSE"}]}`),
			aggregate(lacks("Message contents must be provided")), 400,
		},
		"with others, last": {
			instead(from("nobody"), messageKey+",", "", ottIDTo, `"to":{}`),
			aggregate(lacks(noKey), lacks(noRecipient), notSendable), 400,
		},
		"a wrong type": {
			instead(messengerMessage, messageKey, `"messageKey":5`),
			aggregate(`{"message":"MessageKey is invalid","errorcode":10001,"documentation":""}`), 400,
		},
		"no JSON": {
			`{"messageKey"`, `{"message":"the body is not valid JSON at byte 13","errorcode":10004,"documentation":""}`,
			400,
		},
		"too large": {
			withContents(messengerMessage, `{"type":"text","text":"`+strings.Repeat("x", 256<<10)+`"}`),
			`{"message":"the message is larger than 256 KiB","errorcode":10004,"documentation":""}`, 413,
		},
	} {
		answer := s.post(test.body)
		assert.Equal(t, test.status, answer.StatusCode, name)
		assert.Equal(t, test.want, answer.Body, name)
	}
	for name, test := range map[string]struct {
		authorization, mediaType, want string
		status                         int
	}{
		"no token":   {"", "application/json", `{"message":"Not Authorized","errorcode":0,"documentation":""}`, 401},
		"no scope":   {bearer(t, readScope, writeScope), "application/json", insufficient, 403},
		"media type": {bearer(t, sendScope), "text/plain", "", 415},
	} {
		answer := s.send.post(t, messengerMessage, map[string]string{
			"authorization": test.authorization, "content-type": test.mediaType,
		})
		assert.Equal(t, test.status, answer.StatusCode, name)
		assert.Equal(t, test.want, answer.Body, name)
	}
	assert.Empty(t, s.outbox.queued)
}

// docs/contract.md §1: the same messageKey with the same body gives the first ottRequestId and sends nothing; with
// another body 409, 30004.
func TestSendAgain(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	id := s.accepted(messengerMessage)
	assert.Equal(t, id, s.accepted(messengerMessage))
	assert.Len(t, s.outbox.queued, 1, "sent once")
	answer := s.post(instead(messengerMessage, "thanks", "Thanks"))
	assert.Equal(t, http.StatusConflict, answer.StatusCode)
	assert.Equal(t,
		`{"message":"MessageKey stands for another message of the last 24 hours","errorcode":30004,"documentation":""}`,
		answer.Body)

	// What is durable stands, whatever has become of its sender; a new message is refused.
	s.register("tenant-1", ott.Registration{
		Platform: ott.Messenger, PropertyID: "503868699681937", EndpointURL: "https://graph.facebook.com/",
	})
	assert.Equal(t, id, s.accepted(messengerMessage))
	for _, body := range []string{s.withKey("another"), instead(messengerMessage, "thanks", "Thanks")} {
		answer = s.post(body)
		assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
		assert.Contains(t, answer.Body, ott.NotSendable)
	}
}

func TestFiftySendsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	authorization := bearer(t, sendScope)
	answers := make([]string, 50)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answer, err := s.send.serve(t.Context(), events.APIGatewayV2HTTPRequest{
				Body:    messengerMessage,
				Headers: map[string]string{"authorization": authorization, "content-type": "application/json"},
			})
			assert.NoError(t, err)
			answers[i] = answer.Body
		})
	}
	all.Wait()
	for _, answer := range answers {
		assert.Equal(t, answers[0], answer)
	}
	for _, queued := range s.outbox.queued {
		assert.Equal(t, s.outbox.queued[0], queued, "whatever is queued twice is the same message")
	}
}

// A crash between any two steps is mended by the same request again.
func TestSendIsCutShort(t *testing.T) {
	t.Parallel()
	s := newSending(t)

	s.outbox.fails = true
	answer := s.post(s.withKey("before the queue"))
	assert.Equal(t, http.StatusInternalServerError, answer.StatusCode)
	assert.NotContains(t, answer.Body, "SQS")
	m, err := s.messages.Get(t.Context(), "tenant-1", "before the queue")
	require.NoError(t, err, "durable")
	assert.Zero(t, m.QueuedAt)
	s.outbox.fails = false
	assert.Equal(t, m.OttRequestID, s.accepted(s.withKey("before the queue")))
	assert.Equal(t, []string{"tenant-1 " + m.OttRequestID + " 0s"}, s.outbox.queued)

	failing := func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "UpdateItem" {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	s.use(s.through(emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), failing))))
	id := s.accepted(s.withKey("after the queue"))
	assert.Equal(t, id, s.accepted(s.withKey("after the queue")))
	assert.Len(t, s.outbox.queued, 3, "queued again, as nobody knows that it was")
	assert.Contains(t, s.Log.String(), `"msg":"a message could not be marked as queued"`)
}

// The largest message is taken, and shown as it was sent.
func TestSendOfTheLargestMessage(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	native := withContents(messengerMessage, `{"type":"native","nativePayload":{"text":"filler"}}`)
	text := strings.Repeat("x", ott.MaxBody-len(native)+len("filler"))
	body := instead(native, "filler", text)
	require.Len(t, body, 256<<10)
	id := s.accepted(body)
	answer := s.get(bearer(t, sendScope), id)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	shown := `{"requestBody":` + strings.TrimSuffix(body, "}") + `,"ottRequestId":"` + id + `"},"status":[`
	assert.True(t, strings.HasPrefix(answer.Body, shown))
	assert.Equal(t, http.StatusRequestEntityTooLarge, s.post(strings.Replace(body, text, text+"x", 1)).StatusCode)
}
