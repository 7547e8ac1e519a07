package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/store"
)

const (
	engageDeliver  = "EngageDeliverFunction"
	engageSchedule = "EngageScheduleFunction"
)

// smallBatch has n destinations, to be delivered at notBefore.
func smallBatch(n int, notBefore time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"aNumbers":[%q],"notBefore":%q,"destinations":[`, bundle.Demo.Engage.ANumbers[0], notBefore.UTC().Format(time.RFC3339Nano))
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"bNumber":"+1501%07d"}`, i)
	}
	b.WriteString("]}")
	return b.String()
}

func accept(t *testing.T, body string) string {
	t.Helper()
	answer := post(t, batchPath(), body, engageBearer(t))
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	return field(t, answer.body, "requestId")
}

func pushStore() *store.Pushes {
	return store.NewPushes(bundle.DynamoDB(), *table("pushes"), clock.System{})
}

func meta(t *testing.T, id string) *engage.Meta {
	t.Helper()
	m, err := pushStore().Meta(t.Context(), "", id)
	require.NoError(t, err)
	return m
}

// eventually waits for what the queue's messages bring about; it is bounded, and asks often.
func eventually(t *testing.T, why string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !condition(); time.Sleep(50 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "it never came about: %s", why)
	}
}

// timePasses ends every lease of a push and makes it due, as a minute would.
func timePasses(t *testing.T, id string) {
	t.Helper()
	m := meta(t, id)
	past := dynamo.Int(time.Now().Add(-time.Second).UnixMilli())
	set := func(name, condition string, values dynamo.Item) {
		_, err := bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName:                 table("pushes"),
			Key:                       dynamo.Item{"requestId": dynamo.String(id), "part": dynamo.String("meta")},
			UpdateExpression:          aws.String("SET #name = :past"),
			ConditionExpression:       aws.String(condition),
			ExpressionAttributeNames:  map[string]string{"#name": name},
			ExpressionAttributeValues: values,
		})
		var changed *types.ConditionalCheckFailedException
		if !errors.As(err, &changed) { // it went on in the meantime
			require.NoError(t, err)
		}
	}
	for i, chunk := range m.Chunks {
		if !chunk.LeasedUntil.IsZero() {
			seen := dynamo.Int(chunk.LeasedUntil.UnixMilli())
			set(fmt.Sprintf("c%d", i), "#name = :seen", dynamo.Item{":past": past, ":seen": seen})
		}
	}
	if !m.DueAt.IsZero() {
		set("dueAt", "attribute_exists(#name)", dynamo.Item{":past": past})
	}
}

// requireKept checks the promise of a push: every destination delivered, none before notBefore, a repeat only under the
// same webhook-id and with the same body.
func requireKept(t *testing.T, id string, destinations int) {
	t.Helper()
	bodies, delivered := map[string]string{}, map[string]string{}
	for _, p := range handsets.of(id) {
		assert.False(t, p.at.Before(p.notBefore), "never before notBefore")
		if body, repeat := bodies[p.id]; repeat {
			assert.Equal(t, body, p.raw, "a repeat is the same POST")
		}
		bodies[p.id] = p.raw
		for _, number := range p.bNumbers {
			if other, twice := delivered[number]; twice {
				assert.Equal(t, other, p.id, "nothing twice but under the same webhook-id")
			}
			delivered[number] = p.id
		}
	}
	assert.Len(t, delivered, destinations, "nothing is lost")
	m := meta(t, id)
	assert.Equal(t, engage.Counts{Total: destinations, Delivered: destinations}, m.Counts())
	assert.Equal(t, engage.PushCompleted, m.State())
	assert.Zero(t, m.DueAt, "out of the due index")
}

// Kill -9 of engage-deliver between any two of its steps; two sweeps later the push is final.
func TestDeliveryKilledBetweenTwoSteps(t *testing.T) {
	items, _ := behindProxies(t, engageDeliver)
	kill := func() { bundle.Function(engageDeliver).Kill() }
	tests := []struct {
		name  string
		fault *fault
		hook  func(p webhook, w http.ResponseWriter) bool // at the gateway
		both  bool                                        // two chunks, claimed before either is sent: neither knows that it is the last
		done  bool                                        // the chunk is final although the process died
	}{
		{name: "before the claim", fault: &fault{operation: "UpdateItem", answer: killed(engageDeliver)}},
		{name: "after the claim", fault: &fault{operation: "UpdateItem", after: kill}},
		{name: "before the content is read", fault: &fault{operation: "GetItem", answer: killed(engageDeliver)}},
		{name: "before the chunk is read", fault: &fault{operation: "GetItem", skip: 1, answer: killed(engageDeliver)}},
		{name: "when the gateway has the POST", hook: func(webhook, http.ResponseWriter) bool { kill(); panic(http.ErrAbortHandler) }},
		{name: "before the results are kept", fault: &fault{operation: "PutItem", answer: killed(engageDeliver)}},
		{name: "after the results are kept", fault: &fault{operation: "PutItem", after: kill}},
		{name: "before the counts", fault: &fault{operation: "UpdateItem", skip: 1, answer: killed(engageDeliver)}},
		{name: "after the counts", fault: &fault{operation: "UpdateItem", skip: 1, after: kill}, done: true},
		{name: "before the push is closed", fault: &fault{operation: "UpdateItem", skip: 4, answer: killed(engageDeliver)}, both: true, done: true},
		{name: "after the push is closed", fault: &fault{operation: "UpdateItem", skip: 4, after: kill}, both: true, done: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			struck := make(chan struct{}, 1)
			strike := func() {
				select {
				case struck <- struct{}{}:
				default:
				}
			}
			if f := test.fault; f != nil {
				if answer := f.answer; answer != nil {
					f.answer = func(w http.ResponseWriter, r *http.Request) bool { strike(); return answer(w, r) }
				}
				if after := f.after; after != nil {
					f.after = func() { strike(); after() }
				}
				items.inject(f)
			}
			if test.hook != nil {
				handsets.onPost(func(p webhook, w http.ResponseWriter) bool {
					handsets.onPost(nil)
					strike()
					return test.hook(p, w)
				})
			}
			destinations, notBefore := 20, time.Now()
			if test.both {
				destinations, notBefore = 600, notBefore.Add(2*time.Second)
			}
			id := accept(t, smallBatch(destinations, notBefore))
			select {
			case <-struck:
			case <-time.After(20 * time.Second):
				t.Fatal("the step was not reached")
			}
			items.inject()
			if !test.done {
				assert.Equal(t, destinations, meta(t, id).Counts().Pending)
			}
			for range 2 {
				timePasses(t, id)
				require.NoError(t, bundle.TriggerSchedules(t.Context()))
			}
			eventually(t, "the push ends", func() bool { m := meta(t, id); return m.Finished() && m.DueAt.IsZero() })
			requireKept(t, id, destinations)
		})
	}
}

func TestAcceptKilledAroundTheQueue(t *testing.T) {
	_, others := behindProxies(t, engageBatch)
	for name, f := range map[string]*fault{
		"before the messages": {operation: "SendMessageBatch", answer: killed(engageBatch)},
		"after the messages":  {operation: "SendMessageBatch", after: func() { bundle.Function(engageBatch).Kill() }},
	} {
		t.Run(name, func(t *testing.T) {
			headers := engageBearer(t)
			headers["Idempotency-Key"] = uuid.NewString()
			body := smallBatch(30, time.Now())
			others.inject(f)
			require.Equal(t, http.StatusInternalServerError, post(t, batchPath(), body, headers).status)
			others.inject()
			endLocks(t)
			answer := post(t, batchPath(), body, headers)
			require.Equal(t, http.StatusOK, answer.status, answer.body)
			id := field(t, answer.body, "requestId")
			eventually(t, "the push ends", func() bool { return meta(t, id).Finished() })
			requireKept(t, id, 30)
			assert.Len(t, handsets.of(id), 1, "pushed once")
		})
	}
}

func TestTheQueueLosesEveryMessage(t *testing.T) {
	bundle.PauseQueues()
	id := accept(t, smallBatch(1_200, time.Now()))
	require.NoError(t, bundle.PurgeQueue(t.Context(), "DeliveryQueue"))
	bundle.ResumeQueues()
	timePasses(t, id)
	require.NoError(t, bundle.TriggerSchedules(t.Context()))
	eventually(t, "the sweep brings the push home", func() bool { return meta(t, id).Finished() })
	requireKept(t, id, 1_200)
}

func TestTheQueueRefusesMessages(t *testing.T) {
	// refuse answers as SQS does when it takes all but the first entry of a batch, having carried out nothing.
	refuse := func(w http.ResponseWriter, r *http.Request) bool {
		var request struct{ Entries []struct{ Id string } } //nolint:revive // AWS's own spelling
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			return false
		}
		var failed []string
		for _, entry := range request.Entries {
			failed = append(failed, fmt.Sprintf(`{"Id":%q,"Code":"InternalError","SenderFault":false}`, entry.Id))
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = fmt.Fprintf(w, `{"Successful":[],"Failed":[%s]}`, strings.Join(failed, ","))
		return true
	}
	_, others := behindProxies(t, engageBatch)
	t.Run("twice", func(t *testing.T) {
		others.inject(&fault{operation: "SendMessageBatch", times: 2, answer: refuse})
		id := accept(t, smallBatch(600, time.Now()))
		others.inject()
		eventually(t, "the push ends", func() bool { return meta(t, id).Finished() })
		requireKept(t, id, 600)
	})
	t.Run("on and on", func(t *testing.T) {
		others.inject(&fault{operation: "SendMessageBatch", times: -1, answer: refuse})
		id := accept(t, smallBatch(600, time.Now())) // the push is durable: it is accepted
		others.inject()
		timePasses(t, id)
		require.NoError(t, bundle.TriggerSchedules(t.Context()))
		eventually(t, "the sweep brings the push home", func() bool { return meta(t, id).Finished() })
		requireKept(t, id, 600)
	})
}

func TestScheduleKilledBetweenTwoSteps(t *testing.T) {
	items, others := behindProxies(t, engageSchedule)
	kill := func() { bundle.Function(engageSchedule).Kill() }
	for _, test := range []struct {
		name          string
		item, message *fault
	}{
		{name: "before the index is read", item: &fault{operation: "Query", answer: killed(engageSchedule)}},
		{name: "before the push is leased", item: &fault{operation: "UpdateItem", answer: killed(engageSchedule)}},
		{name: "after the push is leased", item: &fault{operation: "UpdateItem", after: kill}},
		{name: "before the messages", message: &fault{operation: "SendMessageBatch", answer: killed(engageSchedule)}},
		{name: "after the messages", message: &fault{operation: "SendMessageBatch", after: kill}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bundle.PauseQueues()
			id := accept(t, smallBatch(20, time.Now()))
			require.NoError(t, bundle.PurgeQueue(t.Context(), "DeliveryQueue"))
			bundle.ResumeQueues()
			timePasses(t, id)
			if test.item != nil {
				items.inject(test.item)
			}
			if test.message != nil {
				others.inject(test.message)
			}
			require.Error(t, bundle.TriggerSchedules(t.Context()))
			items.inject()
			others.inject()
			timePasses(t, id)
			require.NoError(t, bundle.TriggerSchedules(t.Context()))
			eventually(t, "the next sweep brings the push home", func() bool { return meta(t, id).Finished() })
			requireKept(t, id, 20)
			assert.Len(t, handsets.of(id), 1)
		})
	}
}

func TestDeliveryWhenDynamoDBThrottles(t *testing.T) {
	items, _ := behindProxies(t, engageDeliver)
	items.inject(
		&fault{operation: "UpdateItem", times: 2, answer: awsError(400, "ThrottlingException")},
		&fault{operation: "GetItem", times: 2, answer: awsError(500, "InternalServerError")},
		&fault{operation: "PutItem", times: 2, answer: awsError(400, "ProvisionedThroughputExceededException")},
	)
	id := accept(t, smallBatch(20, time.Now()))
	eventually(t, "the push ends", func() bool { return meta(t, id).Finished() })
	items.inject()
	requireKept(t, id, 20)
	assert.Len(t, handsets.of(id), 1)
}

func TestCancelOverHTTP(t *testing.T) {
	ask := func(t *testing.T, method, id string, headers map[string]string) reply {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, bundle.BaseURL+"/federated/outbound/v2/batch/"+id, nil)
		require.NoError(t, err)
		for name, value := range headers {
			request.Header.Set(name, value)
		}
		return send(t, request)
	}
	token := engageBearer(t)
	id := accept(t, smallBatch(3, time.Now().Add(time.Hour)))
	for range 2 {
		answer := ask(t, http.MethodDelete, id, token)
		assert.Equal(t, http.StatusOK, answer.status)
		assert.JSONEq(t, fmt.Sprintf(`{"requestId":%q,"state":"cancelled","counts":{"total":3,"pending":0,"delivered":0,"rejected":0,"failed":0,"expired":0,"cancelled":3}}`, id), answer.body)
	}
	delivered := accept(t, smallBatch(3, time.Now()))
	eventually(t, "the push ends", func() bool { return meta(t, delivered).Finished() })
	assert.Equal(t, http.StatusConflict, ask(t, http.MethodDelete, delivered, token).status)
	assert.Equal(t, http.StatusOK, ask(t, http.MethodGet, delivered, token).status)
}
