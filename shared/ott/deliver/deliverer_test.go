package deliver_test

import (
	"bytes"
	"compress/flate"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/ott"
	"carillon/shared/secret"
)

func TestDeliver(t *testing.T) {
	t.Parallel()
	var o *outbox
	o = newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		o.clock.Advance(time.Second)
		status(200, `{"message_id":"m_1"}`)(n, w, r, body)
	})
	credentials := o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	assert.Equal(t, "Queued", o.status(id))
	begun := o.clock.Now()
	o.done(id)
	assert.Equal(t, ott.Progress{BegunAt: begun, SentAt: begun.Add(time.Second), PlatformIDs: []string{"m_1"}},
		o.message(id).Progress)
	query := o.platforms.all()[0].uri
	assert.Contains(t, query, "access_token="+url.QueryEscape(credentials.PageAccessToken.Reveal()))

	o.done(id, id)
	assert.Len(t, o.platforms.all(), 1, "a message that comes twice is sent once")
}

// Ten messages of one batch, both networks, one of them refused.
func TestDeliverABatch(t *testing.T) {
	t.Parallel()
	api := newLINEAPI(t)
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Host == "api.line.me":
			api.serve(n, w, r, body)
		case strings.Contains(body, "refused"):
			status(400, `{"error":{"message":"No","code":100}}`)(n, w, r, body)
		}
	})
	api.clock = o.clock
	o.register(ott.Messenger, nil)
	o.register(ott.LINE, nil)
	var ids []string
	for range 4 {
		ids = append(ids, o.accept(messengerHello()),
			o.accept(lineRequest(`{"ottId":"U1"}`, `{"type":"text","text":"t"},{"type":"text","text":"u"}`, ``)))
	}
	refused := o.accept(strings.Replace(messengerHello(), "hello", "refused", 1))
	o.done(append(ids, refused)...)
	for i, id := range ids {
		assert.Equal(t, "Sent", o.status(id))
		if i%2 == 1 {
			assert.Equal(t, []string{"461230966842064897", "461230966842064898"}, o.message(id).Progress.PlatformIDs)
		}
	}
	assert.Equal(t, "Error: Messenger answered 400: No (code 100)", o.status(refused))
	o.done(refused)
	assert.Len(t, o.platforms.all(), 4+4+1+1, "a refusal is final: four each, the refused one, LINE's token")

	for _, body := range []string{"", "{}", `{"tenant":"acme"}`, "null"} {
		assert.Equal(
			t,
			[]came{{failed: true}},
			o.handle(body),
			"what the queue cannot hold is a dead letter in the end",
		)
	}
}

// docs/contract.md §1: an inactive registration sends nothing. Its state counts when the message is sent.
func TestDeliverWithoutARegistration(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*outbox){
		"deleted meanwhile": func(o *outbox) {
			require.NoError(t, o.registrations.Delete(t.Context(), "acme", ott.Messenger, pageID))
		},
		"inactive meanwhile": func(o *outbox) {
			o.register(ott.Messenger, func(r *ott.Registration) { r.IsActive = false })
		},
		"another tenant's by now": func(o *outbox) {
			require.NoError(t, o.registrations.Delete(t.Context(), "acme", ott.Messenger, pageID))
			require.NoError(t, o.registrations.Put(t.Context(), "globex", uuid.NewString(),
				ott.Registration{Platform: ott.Messenger, PropertyID: pageID,
					EndpointURL: "https://example.com/", IsActive: true}, ott.Credentials{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t, status(200, ""))
			o.register(ott.Messenger, nil)
			id := o.accept(messengerHello())
			change(o)
			o.done(id)
			assert.Equal(t, "Error: Sender Id provided is either unregistered or inactive", o.status(id))
			assert.Empty(t, o.platforms.all())
			assert.Empty(t, o.news.told)
		})
	}
}

// Many processes that get the same message at once send it once; the others look again later.
func TestDeliverTheSameAtOnce(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	jobs := make([]string, 20)
	for i := range jobs {
		jobs[i] = o.job(id)
	}
	done := 0
	for _, became := range o.handle(jobs...) {
		if !became.failed {
			done++
			continue
		}
		assert.Equal(t, []time.Duration{30 * time.Second}, became.held, "as long as the lease may be")
	}
	assert.Positive(t, done)
	assert.Equal(t, "Sent", o.status(id))
	assert.Len(t, o.platforms.all(), 1)
	o.done(id)
}

// Nothing that is printed, kept or held shows a credential; each try is a line with its metric.
func TestDeliverLogs(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		switch n {
		case 0:
			panic(http.ErrAbortHandler)
		default:
			status(400, `{"error":{"message":"You sent `+r.URL.RawQuery+`","code":190}}`)(n, w, r, body)
		}
	})
	credentials := o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	o.clock.Advance(o.held(id))
	waiting := o.status(id)
	assert.True(t, strings.HasPrefix(waiting, "Queued: Messenger did not answer: "), waiting)
	o.done(id)
	assert.Equal(t,
		"Error: Messenger answered 400: You sent access_token=REDACTED&appsecret_proof=REDACTED (code 190)",
		o.status(id))
	assert.Equal(t, 2, strings.Count(o.log.String(), `"platformErrors":1`))
	o.log.Metric(t, "platformErrors", 1)
	require.Len(t, o.news.told, 1)
	for _, hidden := range []secret.Text{credentials.PageAccessToken, credentials.ApplicationSecret} {
		assert.NotContains(t, o.log.String()+waiting+o.status(id)+o.news.told[0].Reason, hidden.Reveal())
	}
	assert.NotContains(t, o.log.String(), "access_token=token")
}

// The line of each try is what PlatformErrorsAlarm is made of: it says 0 where all is well, so that the alarm has data.
func TestPlatformErrorsIsAMetric(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		errors float64
	}{"taken": {200, 0}, "refused": {400, 1}, "to be sent again": {503, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t, status(test.status, ""))
			o.register(ott.Messenger, nil)
			o.handle(o.job(o.accept(messengerHello())))
			o.log.Metric(t, "platformErrors", test.errors)
		})
	}
}

// What was accepted is sent as it was decoded then, whatever the rules of today say to its body.
func TestDeliverWhatTodaysRulesWouldRefuse(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	body := strings.NewReplacer(`"RESPONSE"`, `"OF_OLD"`, `"hello"`, `""`).Replace(messengerHello())
	_, faults, err := ott.DecodeSend(strings.NewReader(body))
	require.NoError(t, err)
	require.Len(t, faults, 2, "the rules of today")
	message := decoded(t, messengerHello())
	message.MessagingType = "OF_OLD"
	id := o.put(message, body)
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
	assert.JSONEq(t, `{"recipient":{"id":"1"},"messaging_type":"OF_OLD","message":{"text":"hello"}}`,
		o.platforms.all()[0].body)

	// Its time is likewise that of its acceptance.
	message.Validity = 14 * 24 * time.Hour
	id = o.put(message, body)
	o.clock.Advance(message.Validity - time.Millisecond)
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
}

// A message that cannot be read, of a later release say, is neither sent nor taken for sent: it waits while it is
// valid, and its job ends with it.
func TestDeliverWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	job := o.job(id)
	const text = `{"version":2,"message":{"text":"hello"}}`
	var block bytes.Buffer
	deflate, err := flate.NewWriter(&block, flate.BestSpeed)
	require.NoError(t, err)
	_, err = deflate.Write(append([]byte{byte(len(text))}, text...))
	require.NoError(t, err)
	require.NoError(t, deflate.Close())
	_, err = emulatortest.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 &o.table,
		Key:                       dynamo.Item{"id": dynamo.String("acme#message#" + id)},
		UpdateExpression:          aws.String("SET texts = :texts"),
		ExpressionAttributeValues: dynamo.Item{":texts": dynamo.Bytes(block.Bytes())},
	})
	require.NoError(t, err)
	assert.Equal(t, time.Second, o.heldJob(job))
	o.clock.Advance(29 * time.Minute)
	assert.Equal(t, time.Second, o.heldJob(job))
	o.clock.Advance(time.Minute + 31*time.Second)
	assert.Equal(t, []came{{}}, o.handle(job))
	assert.Empty(t, o.platforms.all())
	assert.Contains(t, o.log.String(), "ott: a kept message has the version 2")
	assert.NotContains(t, o.log.String(), "hello")
}

// A request whose key stands for another message may have sent a job before it was refused: of that message's id, in its
// own conversation. It must not send that message out of its turn.
func TestDeliverAJobOfAnotherConversation(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	job := strings.Replace(o.job(id), `"conversation":"`, `"conversation":"x`, 1)
	require.NotEqual(t, o.job(id), job)
	assert.Equal(t, []came{{}}, o.handle(job))
	assert.Empty(t, o.platforms.all())
	assert.Equal(t, "Queued", o.status(id))
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))
}

// A request that died before its message was durable, and then another of the same message, that came to its end behind
// a later message: the message leaves in its own 201's place, not in that of the request that had none.
func TestDeliverAJobOfAnEarlierRequest(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	m := o.message(id)
	died := m.CreatedAt.Add(-2 * time.Second)
	earlier := ott.NewJob("acme", id, m.Message, died, died, m.ValidUntil.Add(-2*time.Second))
	assert.Equal(t, []came{{}}, o.handle(encoded(t, earlier)))
	assert.Empty(t, o.platforms.all())
	assert.Equal(t, "Queued", o.status(id))
	o.done(id)
	assert.Equal(t, "Sent", o.status(id))

	byHand := o.accept(messengerHello())
	m = o.message(byHand)
	job := ott.NewJob("acme", byHand, m.Message, m.CreatedAt, m.QueuedAt, m.ValidUntil)
	job.CreatedAt = 0
	assert.Equal(t, []came{{}}, o.handle(encoded(t, job)))
	assert.Equal(t, "Sent", o.status(byHand), "one that somebody makes is of no request")
}
