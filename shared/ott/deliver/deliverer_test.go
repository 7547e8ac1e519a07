package deliver_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/ott"
	"carillon/shared/queue"
	"carillon/shared/rounds"
	"carillon/shared/secret"
)

func TestDeliver(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, `{"message_id":"m"}`))
	credentials := o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	assert.Equal(t, "Created", o.status(id))
	require.Zero(t, o.deliver(id))
	assert.Equal(t, "Sent", o.status(id))
	m, err := o.messages.Get(t.Context(), "acme", id)
	require.NoError(t, err)
	assert.Equal(t, o.clock.Now(), m.QueuedAt, "marked as queued where the sender was too late")
	query := o.platforms.all()[0].uri
	assert.Contains(t, query, "access_token="+url.QueryEscape(credentials.PageAccessToken.Reveal()))

	require.Zero(t, o.deliver(id, id), "again")
	assert.Len(t, o.platforms.all(), 1, "a message that comes twice is sent once")
	assert.Empty(t, o.queue.take())
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
			o.accept(lineRequest(`{"ottId":"U1"}`, `{"type":"text","text":"t"}`, ``)))
	}
	refused := o.accept(strings.Replace(messengerHello(), "hello", "refused", 1))
	require.Zero(t, o.deliver(append(ids, refused, uuid.NewString())...),
		"an id that there is not is none to try again")
	for _, id := range ids {
		assert.Equal(t, "Sent", o.status(id))
	}
	assert.Equal(t, "Error: Messenger answered 400: No (code 100)", o.status(refused))
	assert.Equal(t, 1, strings.Count(o.log.String(), `"msg":"unknown message"`))

	for _, body := range []string{"", "{}", `{"tenant":"acme"}`, "null"} {
		response, err := o.deliverer.Handle(t.Context(), events.SQSEvent{
			Records: []events.SQSMessage{{MessageId: "m", Body: body}},
		})
		require.NoError(t, err)
		assert.Len(t, response.BatchItemFailures, 1, "what the queue cannot hold ends as a dead letter: %q", body)
	}
}

// docs/contract.md §1: an inactive registration sends nothing. Its state counts when the message is sent.
func TestDeliverWithoutARegistration(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*outbox){
		"deleted meanwhile": func(o *outbox) {
			require.NoError(t, o.registrations.Delete(t.Context(), "acme", ott.Messenger, "1732555047025799"))
		},
		"inactive meanwhile": func(o *outbox) {
			o.register(ott.Messenger, func(r *ott.Registration) { r.IsActive = false })
		},
		"another tenant's by now": func(o *outbox) {
			require.NoError(t, o.registrations.Delete(t.Context(), "acme", ott.Messenger, "1732555047025799"))
			require.NoError(t, o.registrations.Put(t.Context(), "globex", uuid.NewString(),
				ott.Registration{Platform: ott.Messenger, PropertyID: "1732555047025799",
					EndpointURL: "https://example.com/", IsActive: true}, ott.Credentials{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t, status(200, ""))
			o.register(ott.Messenger, nil)
			id := o.accept(messengerHello())
			change(o)
			require.Zero(t, o.deliver(id))
			assert.Equal(t, "Error: Sender Id provided is either unregistered or inactive", o.status(id))
			assert.Empty(t, o.platforms.all())
		})
	}
}

// 429 and 5xx are retried with backoff until the validity period is over.
func TestDeliverUntilItExpires(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(503, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	expiry := o.clock.Now().Add(30 * time.Minute)
	tries := 0
	for least := time.Duration(0); o.clock.Now().Before(expiry); tries++ {
		require.Zero(t, o.deliver(id))
		require.Equal(t, "Queued", o.status(id))
		delay := o.next(id)
		assert.LessOrEqual(t, delay, queue.MaxDelay)
		assert.Positive(t, delay)
		if o.clock.Now().Add(delay).Before(expiry) {
			assert.GreaterOrEqual(t, delay, least, "each wait is at least as long as half the last one could be")
		}
		least = delay / 2
		o.clock.Advance(delay)
	}
	assert.Len(t, o.platforms.all(), tries)
	assert.Greater(t, tries, 8)
	assert.Less(t, tries, 20)
	require.Zero(t, o.deliver(id))
	assert.Equal(t, "Error: expired", o.status(id))
	assert.Len(t, o.platforms.all(), tries, "nothing is sent once it has expired")
	assert.Empty(t, o.queue.take())
}

// A job goes round so often and no more, whatever it is that it waits for: then its message is the queue's to bring
// back, and a dead letter in the end.
func TestAJobGoesRoundSoOften(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(503, ""))
	o.register(ott.Messenger, nil)
	job := func(id string, round int) string {
		return fmt.Sprintf(`{"tenant":"acme","ottRequestId":%q,"rounds":%d}`, id, round)
	}
	sentOn := func() string { return strings.ReplaceAll(strings.Join(o.queue.take(), ""), `\"`, `"`) }
	id := o.accept(messengerHello())
	for _, wait := range []string{"for another try", "for the lease that another job has"} {
		require.Zero(t, o.handle(job(id, 7)), wait)
		assert.Contains(t, sentOn(), job(id, 8), wait)
	}
	o.clock.Advance(queue.MaxDelay)
	for _, wait := range []string{"for another try", "for the lease that another job has"} {
		assert.Equal(t, 1, o.handle(job(id, rounds.Max)), wait)
		assert.Empty(t, sentOn(), wait)
	}
	assert.Equal(t, 2, strings.Count(o.log.String(), rounds.ErrTooMany.Error()))
	assert.Len(t, o.platforms.all(), 2)

	require.Zero(t, o.handle(job(id, rounds.Max-1)))
	assert.Contains(t, sentOn(), job(id, rounds.Max))
	o.clock.Advance(time.Hour)
	require.Zero(t, o.handle(job(id, rounds.Max)), "what needs no other round is done")
	assert.Equal(t, "Error: expired", o.status(id))
}

func TestDeliverAfterAWhile(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		answers := []func(int, http.ResponseWriter, *http.Request, string){
			status(429, "", "Retry-After", "1000"), status(400, `{"error":{"code":613,"message":"calls"}}`),
			status(200, ""),
		}
		answers[n](n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	require.Zero(t, o.deliver(id))
	assert.Equal(t, queue.MaxDelay, o.next(id), "SQS delays no longer")
	o.clock.Advance(queue.MaxDelay)
	require.Zero(t, o.deliver(id))
	assert.Equal(t, 100*time.Second, o.next(id), "the rest of Retry-After")
	assert.Len(t, o.platforms.all(), 1, "not sooner than Messenger wishes")
	o.clock.Advance(100 * time.Second)
	require.Zero(t, o.deliver(id))
	assert.LessOrEqual(t, o.next(id), 2*time.Second)
	o.clock.Advance(2 * time.Second)
	require.Zero(t, o.deliver(id))
	assert.Equal(t, "Sent", o.status(id))
	assert.Len(t, o.platforms.all(), 3)
}

// Credentials that are replaced while a message waits, or while it is sent.
func TestSecretRotationWhileSending(t *testing.T) {
	t.Parallel()
	var o *outbox
	var valid secret.Text
	rotate := false
	o = newOutbox(t, func(_ int, w http.ResponseWriter, r *http.Request, _ string) {
		if rotate { // between the reading of the old credentials and Messenger's look at them
			rotate = false
			valid = o.register(ott.Messenger, nil).PageAccessToken
		}
		if r.URL.Query().Get("access_token") != valid.Reveal() {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":{"message":"Invalid OAuth access token.","code":190}}`)
		}
	})
	valid = o.register(ott.Messenger, nil).PageAccessToken
	first := o.accept(messengerHello())
	require.Zero(t, o.deliver(first))
	assert.Equal(t, "Sent", o.status(first))

	waiting := o.accept(messengerHello())
	valid = o.register(ott.Messenger, nil).PageAccessToken
	require.Zero(t, o.deliver(waiting))
	assert.Equal(t, "Sent", o.status(waiting), "with the credentials of now, the old ones' secret being gone")

	under := o.accept(messengerHello())
	rotate = true
	require.Zero(t, o.deliver(under))
	assert.Equal(t, "Queued", o.status(under), "refused for the old credentials alone")
	o.clock.Advance(o.next(under))
	require.Zero(t, o.deliver(under))
	assert.Equal(t, "Sent", o.status(under))

	valid = secret.NewText("revoked on Messenger's side")
	last := o.accept(messengerHello())
	require.Zero(t, o.deliver(last))
	assert.Equal(t, "Error: Messenger answered 401: Invalid OAuth access token. (code 190)", o.status(last))
}

// A process that dies while it sends leaves a lease; another that gets the message waits for its end, then sends.
func TestDeliverAfterACrash(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	_, err := o.messages.Claim(t.Context(), "acme", id, o.clock.Now(), o.clock.Now().Add(30*time.Second))
	require.NoError(t, err)
	require.Zero(t, o.deliver(id))
	assert.Equal(t, 30*time.Second, o.next(id), "else nothing would bring it back")
	assert.Empty(t, o.platforms.all())
	o.clock.Advance(30 * time.Second)
	require.Zero(t, o.deliver(id))
	assert.Equal(t, "Sent", o.status(id))
}

// Many processes that get the same message at once send it once.
func TestDeliverTheSameAtOnce(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = id
	}
	require.Zero(t, o.deliver(ids...))
	assert.Equal(t, "Sent", o.status(id))
	assert.Len(t, o.platforms.all(), 1)
}

// What AWS fails to do is left to SQS, which brings the message back.
func TestDeliverWhileAWSFails(t *testing.T) {
	t.Parallel()
	var fail string
	failing := func(w http.ResponseWriter, call emulatortest.Call) bool {
		if fail == "" || !strings.Contains(call.Operation+call.Body, fail) {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	items := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), failing))
	answers := status(200, "")
	o := newOutboxOn(t, items, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		answers(n, w, r, body)
	})
	o.register(ott.Messenger, nil)
	id := o.accept(messengerHello())

	fail = "if_not_exists(queuedAt"
	require.Equal(t, 1, o.deliver(id), "the claim")
	fail = "GetItem"
	require.Equal(t, 1, o.deliver(id), "the registration")
	assert.Empty(t, o.platforms.all())
	fail = ""
	answers = status(500, "")
	o.queue.fails = true
	require.Equal(t, 1, o.deliver(id), "the queue, for the next try")
	o.queue.fails = false
	o.clock.Advance(time.Minute)
	answers = status(200, "")
	fail = "sentAt = if_not_exists"
	require.Equal(t, 1, o.deliver(id), "the record of what was sent")
	assert.Len(t, o.platforms.all(), 2)
	fail = ""
	o.clock.Advance(time.Minute)
	require.Zero(t, o.deliver(id))
	assert.Equal(t, "Sent", o.status(id))
	assert.Len(t, o.platforms.all(), 3, "Messenger gets a second copy: it has no idempotency key")
}

// Nothing that is printed, kept or queued shows a credential; each try is a line with its metric.
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
	require.Zero(t, o.deliver(id))
	o.clock.Advance(time.Minute)
	require.Zero(t, o.deliver(id))
	assert.Equal(t,
		"Error: Messenger answered 400: You sent access_token=REDACTED&appsecret_proof=REDACTED (code 190)",
		o.status(id))
	assert.Equal(t, 2, strings.Count(o.log.String(), `"platformErrors":1`))
	o.log.Metric(t, "platformErrors", 1)
	for _, hidden := range []secret.Text{credentials.PageAccessToken, credentials.ApplicationSecret} {
		assert.NotContains(t, o.log.String()+o.status(id)+strings.Join(o.queue.take(), ""), hidden.Reveal())
	}
	assert.NotContains(t, o.log.String(), "access_token=token")
}

// A registration whose secret was removed by hand is AWS's trouble, not the message's end.
func TestDeliverWithoutCredentials(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	r, err := o.registrations.Get(t.Context(), ott.Messenger, "1732555047025799")
	require.NoError(t, err)
	_, err = emulatortest.SecretsManager().DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
		SecretId: &r.SecretName, ForceDeleteWithoutRecovery: aws.Bool(true),
	})
	require.NoError(t, err)
	id := o.accept(messengerHello())
	require.Equal(t, 1, o.deliver(id))
	assert.Equal(t, "Queued", o.status(id))
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
			require.Zero(t, o.deliver(o.accept(messengerHello())))
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
	id := uuid.NewString()
	o.put(id, message, body)
	require.Zero(t, o.deliver(id))
	assert.Equal(t, "Sent", o.status(id))
	assert.JSONEq(t, `{"recipient":{"id":"1"},"messaging_type":"OF_OLD","message":{"text":"hello"}}`,
		o.platforms.all()[0].body)

	// Its time is likewise that of its acceptance.
	id = uuid.NewString()
	message.Validity = 14 * 24 * time.Hour
	o.put(id, message, body)
	o.clock.Advance(message.Validity - time.Millisecond)
	require.Zero(t, o.deliver(id))
	assert.Equal(t, "Sent", o.status(id))
}

// An item as the releases up to November 2026 wrote it has the body alone.
func TestDeliverAnItemOfTheFormerRelease(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	former := func(body string) (id string) {
		id = o.accept(messengerHello())
		_, err := emulatortest.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName:                 &o.table,
			Key:                       dynamo.Item{"id": dynamo.String("acme#message#" + id)},
			UpdateExpression:          aws.String("SET body = :body REMOVE message, validUntil"),
			ExpressionAttributeValues: dynamo.Item{":body": dynamo.String(body)},
		})
		require.NoError(t, err)
		return id
	}
	id := former(messengerHello())
	require.Zero(t, o.deliver(id))
	assert.Equal(t, "Sent", o.status(id))
	assert.JSONEq(t, `{"recipient":{"id":"1"},"messaging_type":"RESPONSE","message":{"text":"hello"}}`,
		o.platforms.all()[0].body)

	last, late := former(messengerHello()), former(messengerHello())
	o.clock.Advance(30*time.Minute - time.Millisecond)
	require.Zero(t, o.deliver(last))
	assert.Equal(t, "Sent", o.status(last))
	o.clock.Advance(time.Millisecond)
	require.Zero(t, o.deliver(late))
	assert.Equal(t, "Error: expired", o.status(late))

	assert.Equal(t, 1, o.deliver(former(`{}`)), "what it cannot have accepted ends as a dead letter")
	assert.Len(t, o.platforms.all(), 2)
}
