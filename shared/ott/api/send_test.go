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

	"carillon/shared/fault"
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

// queued is a job as a queue takes it.
type queued struct {
	job     ott.Job
	sending string
}

// outbox is a queue that keeps what it takes, or fails.
type outbox struct {
	mu     sync.Mutex
	queued []queued
	fails  bool
	before func() // happens before it takes a job
}

func (o *outbox) Enqueue(_ context.Context, job ott.Job, sending string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.before != nil {
		o.before()
	}
	if o.fails {
		return errors.New("SQS is down")
	}
	o.queued = append(o.queued, queued{job, sending})
	return nil
}

// ids are whose the jobs are, in their order.
func (o *outbox) ids() (ids []string) {
	for _, q := range o.queued {
		ids = append(ids, q.job.OttRequestID)
	}
	return ids
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
	s.use(s.Items)
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

// use makes the endpoints work by way of a client.
func (s *sending) use(items *dynamodb.Client) {
	messages := s.through(items)
	tokens := api.NewAuthority(secret.NewCache(vault{}), keyName)
	s.send = newEndpoint(
		(&api.SendHandler{
			Tokens: tokens, Messages: messages, Outbox: &s.outbox, Clock: s.Clock,
			Registrations: store.NewRegistrationReader(items, s.Table),
			Backlogs:      store.NewProperties(items, stackname.MessagesTable(s.Stack), 0), Log: s.Log.Logger(),
		}).Serve,
		api.EncodeError)
	s.status = newEndpoint(
		(&api.SendStatusHandler{Tokens: tokens, Messages: messages, Clock: s.Clock}).Serve,
		api.EncodeError,
	)
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
	return s.idOf(s.post(body))
}

// idOf is the id that an answer gives a message that was taken.
func (s *sending) idOf(answer events.APIGatewayV2HTTPResponse) string {
	s.t.Helper()
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

// claim claims a message to be sent.
func (s *sending) claim(id string) *ott.StoredMessage {
	s.t.Helper()
	m, err := s.messages.Load(s.t.Context(), "tenant-1", id)
	require.NoError(s.t, err)
	require.NoError(s.t, s.messages.Claim(s.t.Context(), m, s.Clock.Now(), s.Clock.Now().Add(30*time.Second)))
	return m
}

// docs/contract.md §1, "Send and receive": 201 once the message is durable and its job is in the queue, behind those of
// its conversation.
func TestSend(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	created := s.Clock.Now()
	s.outbox.before = func() {
		s.Clock.Advance(70 * time.Millisecond)
		_, err := s.messages.Get(t.Context(), "tenant-1", "e1c35141-6e5c-4bc2-813b-60f969e52b0d")
		assert.True(t, fault.Is(err, fault.NotFound), "the job is sent before the message is written: %v", err)
	}
	answer := s.post(messengerMessage)
	id := s.idOf(answer)
	m, err := s.messages.Get(t.Context(), "tenant-1", id)
	require.NoError(t, err, "durable")
	job := ott.NewJob("tenant-1", id, m.Message, created, created, created.Add(30*time.Minute))
	assert.Equal(t, []queued{{job, answer.Headers["x-request-id"]}}, s.outbox.queued)
	assert.Equal(t, ott.Conversation("tenant-1", ott.Messenger, "503868699681937", "U42348yafsd8y3248yfsq8cy9088934d"),
		job.Conversation)
	assert.Equal(t, []time.Time{created, created.Add(70 * time.Millisecond), created.Add(30 * time.Minute)},
		[]time.Time{m.CreatedAt, m.QueuedAt, m.ValidUntil})
}

// docs/contract.md §1: the same messageKey with the same body gives the first ottRequestId and sends nothing; with
// another body 409, 30004.
func TestSendAgain(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	id := s.accepted(messengerMessage)
	assert.Equal(t, id, s.accepted(messengerMessage))
	assert.Equal(t, []string{id}, s.outbox.ids(), "sent once")
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
	answer = s.post(s.withKey("another"))
	assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
	assert.Contains(t, answer.Body, ott.NotSendable)
	answer = s.post(instead(messengerMessage, "thanks", "Thanks"))
	assert.Equal(t, http.StatusConflict, answer.StatusCode, "the key is looked at first")
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
	sendings := map[string]bool{}
	for _, queued := range s.outbox.queued {
		assert.Equal(t, s.outbox.queued[0].job, queued.job, "whatever is queued twice is the same message")
		sendings[queued.sending] = true
	}
	assert.Len(t, sendings, len(s.outbox.queued), "each request's is another sending")
}
