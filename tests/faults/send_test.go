package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/shared/dynamo"
	"carillon/shared/ott"
	"carillon/shared/ott/outbound"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

const (
	ottSend    = "OttSendFunction"
	ottDeliver = "OttDeliverFunction"
	sendPath   = "/ott/v1/send"
	// demoBrand is the tenant of the demo's OTT client.
	demoBrand = "demo-brand"
	// What the platforms are asked for.
	messengerSend = "/me/messages"
	lineGrant     = "/oauth2/v3/token"
	linePush      = "/v2/bot/message/push"
)

// note is an OTT message from a page or channel of its own, under a key that nothing else has.
type note struct{ platform, sender, key string }

// newNote registers a sender, active and with credentials of its own.
func newNote(t *testing.T, platform ott.Platform) note {
	t.Helper()
	n := note{platform: string(platform), sender: uuid.NewString(), key: uuid.NewString()}
	n.register(t)
	return n
}

// another is one more message from the same sender.
func (n note) another() note {
	n.key = uuid.NewString()
	return n
}

// register registers the sender, again with other credentials if there is one.
func (n note) register(t *testing.T) {
	t.Helper()
	version := uuid.NewString()
	body := harness.RegistrationBody(n.sender, version)
	if n.platform == string(ott.LINE) {
		body = fmt.Sprintf(
			`{"ottPlatformName":"line","ottPlatformAttributes":{"channelId":%q,"channelName":"n","channelSecret":%q,
			"endpointUrl":"https://example.com/","isTransactional":true,"isTestChannel":false,"isActive":true}}`,
			n.sender,
			version,
		)
	}
	answer := bundle.Post(t, "/ott/v1/registration", body, ottBearer(t))
	require.Equal(t, http.StatusCreated, answer.Status, answer.Body)
}

// send asks for the message.
func (n note) send(t *testing.T) harness.Reply {
	t.Helper()
	return bundle.Post(
		t,
		sendPath,
		fmt.Sprintf(`{"messageKey":%[1]q,"from":{"senderType":%[2]q,"senderId":%[3]q},"to":{"ottId":%[4]q},
		"message":{"contents":[{"type":"text","text":"hello %[1]s"}],"customKeys":[{"messagingType":"RESPONSE"}]},
		"validityPeriod":60}`,
			n.key, n.platform, n.sender, harness.RecipientID(n.platform, n.key)),
		ottBearer(t),
	)
}

// accepted asks for the message, which must be taken, and returns its ottRequestId.
func (n note) accepted(t *testing.T) string {
	t.Helper()
	answer := n.send(t)
	require.Equal(t, http.StatusCreated, answer.Status, answer.Body)
	return answer.Field(t, "ottRequestId")
}

// status is the message's last event, with its reason if there is one.
func (n note) status(t *testing.T) string {
	t.Helper()
	answer := bundle.Ask(t, http.MethodGet, sendPath+"/"+n.key, ottBearer(t))
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	var body struct {
		Status []struct{ Event, Reason string }
	}
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &body))
	last := body.Status[len(body.Status)-1]
	return strings.TrimSpace(last.Event + " " + last.Reason)
}

// becomes waits until the message is final.
func (n note) becomes(t *testing.T, expected string) {
	t.Helper()
	status := harness.Eventually(t, "the message is final", func() (string, bool) {
		status := n.status(t)
		return status, status != "Created" && status != "Queued"
	})
	require.Equal(t, expected, status)
}

// taken is what the platform took of the message: each one is a copy on the person's phone.
func (n note) taken() []standin.PlatformRequest {
	var taken []standin.PlatformRequest
	for _, r := range bundle.OTT.Requests() {
		if r.Status == http.StatusOK && strings.Contains(r.Body, n.key) {
			taken = append(taken, r)
		}
	}
	return taken
}

// requireSent checks that the message is one, and that the platform took it as often as is allowed.
func (n note) requireSent(t *testing.T, id string, copies int) {
	t.Helper()
	n.becomes(t, "Sent")
	assert.Len(t, n.taken(), copies)
	messages := 0
	for _, item := range bundle.Scan(t, stackname.MessagesTable) {
		if strings.Contains(dynamo.GetString(item, "body"), n.key) {
			assert.Equal(t, id, dynamo.GetString(item, "ottRequestId"))
			messages++
		}
	}
	assert.Equal(t, 1, messages)
	for _, r := range bundle.OTT.Requests() {
		if r.Path == linePush && strings.Contains(r.Body, n.key) {
			assert.Equal(t, id, r.Headers["x-line-retry-key"], "LINE knows a repeat by it")
		}
	}
}

// setTimes changes the message's record, as if time had passed.
func (n note) setTimes(t *testing.T, id string, times dynamo.Item) {
	t.Helper()
	for name, value := range times {
		_, err := bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName:                 aws.String(bundle.Table(stackname.MessagesTable)),
			Key:                       dynamo.Item{"id": dynamo.String(demoBrand + "#message#" + id)},
			UpdateExpression:          aws.String("SET #name = :value"),
			ConditionExpression:       aws.String("attribute_exists(id)"),
			ExpressionAttributeNames:  map[string]string{"#name": name},
			ExpressionAttributeValues: dynamo.Item{":value": value},
		})
		require.NoError(t, err)
	}
}

// leaseEnds lets the time pass in which the message is the killed process's own.
func (n note) leaseEnds(t *testing.T, id string) {
	t.Helper()
	n.setTimes(t, id, dynamo.Item{"notBefore": dynamo.Int(1)})
}

// comesAgain has SQS deliver the message again, times over and in one batch.
func (n note) comesAgain(t *testing.T, id string, times int) {
	t.Helper()
	require.NoError(t, bundle.PurgeQueue(t.Context(), "OutboundQueue"))
	body, err := json.Marshal(outbound.Job{Tenant: demoBrand, OttRequestID: id})
	require.NoError(t, err)
	var event events.SQSEvent
	for i := range times {
		event.Records = append(event.Records, events.SQSMessage{MessageId: fmt.Sprint(i), Body: string(body)})
	}
	payload, err := json.Marshal(event)
	require.NoError(t, err)
	answer, err := bundle.Function(ottDeliver).Invoke(t.Context(), payload)
	require.NoError(t, err)
	var response events.SQSEventResponse
	require.NoError(t, json.Unmarshal(answer, &response))
	assert.Empty(t, response.BatchItemFailures)
}

// Kill -9 of ott-send between any two of its steps: whoever got no answer asks again, and the message is sent once.
func TestSendKilledBetweenTwoSteps(t *testing.T) {
	ottLane.enter(t)
	items, others := bundle.Behind(t, ottSend)
	tests := []struct {
		name        string
		item, queue *fault
		durable     bool // the message is kept although nobody was told
	}{
		{name: "before the sender is looked up", item: before("GetItem", ottSend)},
		{name: "before the transaction", item: before("TransactWriteItems", ottSend)},
		{name: "between transaction and queue", item: after("TransactWriteItems", ottSend), durable: true},
		{name: "before the queue", queue: before("SendMessageBatch", ottSend), durable: true},
		{name: "between queue and record", queue: after("SendMessageBatch", ottSend), durable: true},
		{name: "before the record", item: before("UpdateItem", ottSend), durable: true},
		{name: "between record and answer", item: after("UpdateItem", ottSend), durable: true},
	}
	for _, test := range tests {
		for _, platform := range []ott.Platform{ott.Messenger, ott.LINE} {
			t.Run(test.name+" "+string(platform), func(t *testing.T) {
				n := newNote(t, platform)
				items.Inject(test.item)
				others.Inject(test.queue)
				require.Equal(t, http.StatusInternalServerError, n.send(t).Status)
				items.Inject()
				others.Inject()
				found := bundle.Ask(t, http.MethodGet, sendPath+"/"+n.key, ottBearer(t)).Status
				assert.Equal(t, test.durable, found == http.StatusOK)
				id := n.accepted(t)
				assert.Equal(t, id, n.accepted(t), "a repeat gets the first answer")
				n.requireSent(t, id, 1)
			})
		}
	}
}

// Kill -9 of ott-deliver between any two of its steps. LINE takes the message once, for it knows the retry key.
// Messenger has no such key: it gets a second copy where it took the first and nobody could record that, and nowhere
// else.
func TestOttDeliverKilledBetweenTwoSteps(t *testing.T) {
	ottLane.enter(t)
	items, others := bundle.Behind(t, ottDeliver)
	platforms := bundle.BehindPartner(t, ottDeliver, "PLATFORM_STANDIN_URL", "ott")
	both := map[ott.Platform]int{ott.Messenger: 1, ott.LINE: 1}
	unrecorded := map[ott.Platform]int{ott.Messenger: 2, ott.LINE: 1}
	tests := []struct {
		name   string
		proxy  *harness.Proxy
		fault  *fault
		copies map[ott.Platform]int // what the platform has taken in the end
		done   bool                 // it is recorded although the process died
	}{
		{name: "before the claim", proxy: items, fault: before("UpdateItem", ottDeliver), copies: both},
		{name: "after the claim", proxy: items, fault: after("UpdateItem", ottDeliver), copies: both},
		{name: "before the registration is read", proxy: items, fault: before("GetItem", ottDeliver), copies: both},
		{
			name:   "before the credentials are read",
			proxy:  others,
			fault:  before("GetSecretValue", ottDeliver),
			copies: both,
		},
		{
			name:   "before LINE grants a token",
			proxy:  platforms,
			fault:  at(lineGrant, before("", ottDeliver)),
			copies: map[ott.Platform]int{ott.LINE: 1},
		},
		{
			name:   "after LINE has granted a token",
			proxy:  platforms,
			fault:  at(lineGrant, after("", ottDeliver)),
			copies: map[ott.Platform]int{ott.LINE: 1},
		},
		{
			name:   "before LINE has the message",
			proxy:  platforms,
			fault:  at(linePush, before("", ottDeliver)),
			copies: map[ott.Platform]int{ott.LINE: 1},
		},
		{
			name:   "when LINE has taken it",
			proxy:  platforms,
			fault:  at(linePush, after("", ottDeliver)),
			copies: map[ott.Platform]int{ott.LINE: 1},
		},
		{
			name:   "before Messenger has the message",
			proxy:  platforms,
			fault:  at(messengerSend, before("", ottDeliver)),
			copies: map[ott.Platform]int{ott.Messenger: 1},
		},
		{
			name:   "when Messenger has taken it",
			proxy:  platforms,
			fault:  at(messengerSend, after("", ottDeliver)),
			copies: map[ott.Platform]int{ott.Messenger: 2},
		},
		{
			name:   "before the record",
			proxy:  items,
			fault:  later(1, before("UpdateItem", ottDeliver)),
			copies: unrecorded,
		},
		{
			name:   "after the record",
			proxy:  items,
			fault:  later(1, after("UpdateItem", ottDeliver)),
			copies: both,
			done:   true,
		},
	}
	for _, test := range tests {
		for platform, copies := range test.copies {
			t.Run(test.name+" "+string(platform), func(t *testing.T) {
				n, f := newNote(t, platform), *test.fault
				struck := f.Strikes()
				test.proxy.Inject(&f)
				id := n.accepted(t)
				harness.Reached(t, struck)
				test.proxy.Inject()
				if test.done {
					assert.Equal(t, "Sent", n.status(t))
				} else {
					assert.Equal(t, "Queued", n.status(t))
					n.leaseEnds(t, id)
				}
				n.comesAgain(t, id, 1)
				n.requireSent(t, id, copies)
				n.comesAgain(t, id, 3)
				assert.Equal(t, id, n.accepted(t))
				n.requireSent(t, id, copies)
			})
		}
	}
}

func TestTheOutboundQueueRefusesMessages(t *testing.T) {
	ottLane.enter(t)
	_, others := bundle.Behind(t, ottSend)
	tests := []struct {
		name   string
		fault  *fault
		status int
	}{
		{"twice", times(2, "SendMessageBatch", awsError(500, "InternalError")), http.StatusCreated},
		{
			"and loses its answer",
			lost("SendMessageBatch"),
			http.StatusCreated,
		}, // so it has two
		{"on and on", always("SendMessageBatch", awsError(500, "InternalError")), http.StatusServiceUnavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNote(t, ott.Messenger)
			others.Inject(test.fault)
			answer := n.send(t)
			others.Inject()
			assert.Equal(t, test.status, answer.Status, answer.Body)
			n.requireSent(t, n.accepted(t), 1)
		})
	}
}

// SQS loses no message that it took; were it to, whoever asks again brings the message home.
func TestTheOutboundQueueLosesAMessage(t *testing.T) {
	ottLane.enter(t)
	n := newNote(t, ott.LINE)
	bundle.PauseQueues("OutboundQueue")
	id := n.accepted(t)
	require.NoError(t, bundle.PurgeQueue(t.Context(), "OutboundQueue"))
	bundle.ResumeQueues("OutboundQueue")
	assert.Equal(t, id, n.accepted(t), "it may be in the queue still")
	assert.Equal(t, "Queued", n.status(t))
	n.setTimes(t, id, dynamo.Item{"queuedAt": dynamo.Time(time.Now().Add(-11 * time.Minute))})
	assert.Equal(t, id, n.accepted(t))
	n.requireSent(t, id, 1)
}

// What a killed process had taken from the queue comes back by itself, with nobody who asks again. It finds the
// process's lease still running, waits in the queue until that ends, and is sent.
func TestTheOutboundQueueBringsBackWhatAKilledProcessHad(t *testing.T) {
	ottLane.enter(t)
	// Seconds, instead of six minutes; and what is left of the lease, instead of half a minute: much more than it takes
	// the queue to bring the message back.
	const visibility, lease = "3", 20 * time.Second
	setVisibilityTimeout(t, "OutboundQueue", visibility)
	items, others := bundle.Behind(t, ottDeliver)
	claimed := after("UpdateItem", ottDeliver)
	struck := claimed.Strikes()
	items.Inject(claimed)
	n := newNote(t, ott.Messenger)
	id := n.accepted(t)
	harness.Reached(t, struck)
	n.setTimes(t, id, dynamo.Item{"notBefore": dynamo.Int(time.Now().Add(lease).UnixMilli())})
	harness.Eventually(t, "it is back, and put off for the lease", func() (int, bool) {
		sent := others.Count("SendMessageBatch")
		return sent, sent > 0
	})
	assert.Equal(t, "Queued", n.status(t))
	n.requireSent(t, id, 1)
}

// setVisibilityTimeout changes how many seconds a queue waits for whoever took a message, until the test ends.
func setVisibilityTimeout(t *testing.T, logicalID, seconds string) {
	t.Helper()
	const name = types.QueueAttributeNameVisibilityTimeout
	set := func(ctx context.Context, value string) {
		_, err := bundle.SQS().SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{
			QueueUrl: aws.String(bundle.QueueURL(logicalID)), Attributes: map[string]string{string(name): value},
		})
		require.NoError(t, err)
	}
	before, err := bundle.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(bundle.QueueURL(logicalID)), AttributeNames: []types.QueueAttributeName{name},
	})
	require.NoError(t, err)
	set(t.Context(), seconds)
	t.Cleanup(func() { set(context.Background(), before.Attributes[string(name)]) })
}

func TestOttDeliverWhenAWSFails(t *testing.T) {
	ottLane.enter(t)
	items, others := bundle.Behind(t, ottDeliver)
	items.Inject(
		times(2, "UpdateItem", throttled),
		times(2, "GetItem", awsError(500, "InternalServerError")),
		lost("UpdateItem"), // the claim's answer is lost
	)
	others.Inject(times(2, "GetSecretValue", throttled))
	n := newNote(t, ott.Messenger)
	n.requireSent(t, n.accepted(t), 1)
}

// A property is registered again and again while messages go out: each is sent once, with the credentials of its time.
func TestRegisteredAgainWhileSending(t *testing.T) {
	ottLane.enter(t)
	const rounds, each = 5, 4
	for _, platform := range []ott.Platform{ott.Messenger, ott.LINE} {
		t.Run(string(platform), func(t *testing.T) {
			first := newNote(t, platform)
			notes, ids := make([]note, rounds*each), make([]string, rounds*each)
			var all sync.WaitGroup
			for round := range rounds {
				for i := round * each; i < (round+1)*each; i++ {
					all.Go(func() {
						notes[i] = first.another()
						if answer := notes[i].send(t); assert.Equal(t, http.StatusCreated, answer.Status, answer.Body) {
							ids[i] = answer.Field(t, "ottRequestId")
						}
					})
				}
				first.register(t)
			}
			all.Wait()
			for i, n := range notes {
				n.requireSent(t, ids[i], 1)
			}
		})
	}
}
