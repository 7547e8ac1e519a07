package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/store"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

const (
	engageDeliver  = "EngageDeliverFunction"
	engageSchedule = "EngageScheduleFunction"
)

// smallBatch has n destinations, to be delivered at notBefore.
func smallBatch(n int, notBefore time.Time) string {
	var b strings.Builder
	fmt.Fprintf(
		&b,
		`{"aNumbers":[%q],"notBefore":%q,"destinations":[`,
		bundle.Demo.Engage.ANumbers[0],
		notBefore.UTC().Format(time.RFC3339Nano),
	)
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
	answer := bundle.Post(t, batchPath(), body, engageBearer(t))
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	return answer.Field(t, "requestId")
}

func pushStore() *store.Pushes {
	return store.NewPushes(bundle.DynamoDB(), bundle.Table(stackname.PushesTable), clock.System{})
}

func meta(t *testing.T, id string) *engage.Meta {
	t.Helper()
	m, err := pushStore().Meta(t.Context(), "", id)
	require.NoError(t, err)
	return m
}

// ends waits until a push is final.
func ends(t *testing.T, id string) {
	t.Helper()
	harness.Eventually(t, "the push ends", func() (*engage.Meta, bool) { m := meta(t, id); return m, m.Finished() })
}

// timePasses ends every lease and every wait of a push and makes it due since a minute, as a minute would.
func timePasses(t *testing.T, id string) {
	t.Helper()
	table, key := bundle.Table(
		stackname.PushesTable,
	), dynamo.Item{
		"requestId": dynamo.String(id),
		"part":      dynamo.String("meta"),
	}
	got, err := bundle.DynamoDB().GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: aws.String(table), Key: key, ConsistentRead: aws.Bool(true),
	})
	require.NoError(t, err)
	past := time.Now().Add(-time.Minute)
	set := func(name string, values dynamo.Item) {
		t.Helper()
		_, err := bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName:                 aws.String(table),
			Key:                       key,
			UpdateExpression:          aws.String("SET #name = :past"),
			ConditionExpression:       aws.String("#name = :seen"),
			ExpressionAttributeNames:  map[string]string{"#name": name},
			ExpressionAttributeValues: values,
		})
		if _, changed := dynamo.ConditionFailed(err); !changed { // else it went on in the meantime
			require.NoError(t, err)
		}
	}
	for name, seen := range got.Item {
		switch {
		case name == "dueAt",
			name == "notBefore",
			name == "enqueuedAt": // of meta alone: POSTs have what the content has
			set(name, dynamo.Item{":seen": seen, ":past": dynamo.Int(past.UnixMilli())})
		case chunkState.MatchString(name):
			// L or W and the time, to the base of 36: package store.
			text := dynamo.GetString(got.Item, name)
			if text[0] != 'L' && text[0] != 'W' {
				continue
			}
			at := strconv.FormatInt(past.UnixMilli(), 36) // as long as any time of our days
			ended := text[:1] + at + text[1+len(at):]
			set(name, dynamo.Item{":seen": seen, ":past": dynamo.String(ended)})
		}
	}
}

var chunkState = regexp.MustCompile(`^c[0-9]+$`)

// requireKept checks the promise of a push: every destination delivered, none before notBefore, a repeat only under the
// same webhook-id and with the same body.
func requireKept(t *testing.T, id string, destinations int) {
	t.Helper()
	bodies, delivered := map[string]string{}, map[string]string{}
	for _, p := range bundle.PushesOf(t, id) {
		assert.False(t, p.At.Before(p.Chunk.NotBefore), "never before notBefore")
		if body, repeat := bodies[p.WebhookID()]; repeat {
			assert.Equal(t, body, p.Body, "a repeat is the same POST")
		}
		bodies[p.WebhookID()] = p.Body
		for _, d := range p.Chunk.Destinations {
			if other, twice := delivered[d.BNumber]; twice && other != p.WebhookID() {
				assert.Less(t, len(p.Chunk.Destinations), destinations, "an attempt of what had no result, not of all")
				assert.True(t, strings.HasPrefix(p.WebhookID(), other+"."), "of %s: %s", other, p.WebhookID())
			}
			delivered[d.BNumber] = p.WebhookID()
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
	engageLane.enter(t)
	const closing = "attribute_exists(duePartition)" // the condition of store.Pushes.Close
	items, _ := bundle.Behind(t, engageDeliver)
	kill := bundle.KilledAfter(engageDeliver)
	tests := []struct {
		name  string
		fault *fault
		post  bool // the process dies when the gateway has its POST
		mixed bool // the gateway gives results to half of the destinations
		both  bool // two chunks, claimed before either is sent: neither knows that it is the last
		done  bool // the chunk is final although the process died
	}{
		{name: "before the content is read", fault: before("GetItem", engageDeliver)},
		{name: "before the chunk is read", fault: later(1, before("GetItem", engageDeliver))},
		{name: "before the permit", fault: before("UpdateItem", engageDeliver)},
		{name: "after the permit", fault: after("UpdateItem", engageDeliver)},
		{name: "before the claim", fault: later(1, before("UpdateItem", engageDeliver))},
		{name: "after the claim", fault: later(1, after("UpdateItem", engageDeliver))},
		{name: "when the gateway has the POST", post: true},
		{name: "before the results are kept", mixed: true, fault: before("PutItem", engageDeliver)},
		{name: "after the results are kept", mixed: true, fault: after("PutItem", engageDeliver)},
		{name: "before the wait", mixed: true, fault: later(2, before("UpdateItem", engageDeliver))},
		{name: "after the wait", mixed: true, fault: later(2, after("UpdateItem", engageDeliver))},
		{name: "before the end", fault: later(2, before("UpdateItem", engageDeliver))},
		{name: "after the end", fault: later(2, after("UpdateItem", engageDeliver)), done: true},
		{
			name:  "before the push is closed",
			fault: with(closing, before("UpdateItem", engageDeliver)),
			both:  true,
			done:  true,
		},
		{
			name:  "after the push is closed",
			fault: with(closing, after("UpdateItem", engageDeliver)),
			both:  true,
			done:  true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var struck <-chan struct{}
			if test.post {
				struck = atThePost(kill)
			} else {
				struck = test.fault.Strikes()
				items.Inject(test.fault)
			}
			if test.mixed {
				require.NoError(t, bundle.Partners.Script("gateway", standin.Answer{Half: true}))
			}
			destinations, notBefore := 20, time.Now()
			if test.both {
				destinations, notBefore = 600, notBefore.Add(2*time.Second)
			}
			id := accept(t, smallBatch(destinations, notBefore))
			harness.Reached(t, struck)
			items.Inject()
			if !test.done {
				assert.Positive(t, meta(t, id).Counts().Pending)
			}
			for range 2 {
				timePasses(t, id)
				require.NoError(t, bundle.TriggerSchedules(t.Context()))
			}
			harness.Eventually(
				t,
				"the push ends",
				func() (*engage.Meta, bool) { m := meta(t, id); return m, m.Finished() && m.DueAt.IsZero() },
			)
			requireKept(t, id, destinations)
		})
	}
}

// atThePost has the gateway take one POST and not answer it, and do something in the meantime; the channel is closed
// then.
func atThePost(meanwhile func()) <-chan struct{} {
	struck := make(chan struct{})
	bundle.Partners.Hook("gateway", func(standin.Request) *standin.Answer {
		bundle.Partners.Hook("gateway", nil)
		defer close(struck)
		meanwhile()
		return &standin.Answer{Hang: true}
	})
	return struck
}

func TestAcceptKilledAroundTheQueue(t *testing.T) {
	engageLane.enter(t)
	_, others := bundle.Behind(t, engageBatch)
	for name, f := range map[string]*fault{
		"before the messages": {Operation: "SendMessageBatch", Answer: bundle.KilledBefore(engageBatch)},
		"after the messages":  {Operation: "SendMessageBatch", After: bundle.KilledAfter(engageBatch)},
	} {
		t.Run(name, func(t *testing.T) {
			headers := engageBearer(t)
			headers["Idempotency-Key"] = uuid.NewString()
			body := smallBatch(30, time.Now())
			others.Inject(f)
			require.Equal(t, http.StatusInternalServerError, bundle.Post(t, batchPath(), body, headers).Status)
			others.Inject()
			endLocks(t, "engage#")
			answer := bundle.Post(t, batchPath(), body, headers)
			require.Equal(t, http.StatusOK, answer.Status, answer.Body)
			id := answer.Field(t, "requestId")
			ends(t, id)
			requireKept(t, id, 30)
			assert.Len(t, bundle.PushesOf(t, id), 1, "pushed once")
		})
	}
}

func TestTheQueueLosesEveryMessage(t *testing.T) {
	engageLane.enter(t)
	bundle.PauseQueues("DeliveryQueue")
	id := accept(t, smallBatch(1_200, time.Now()))
	require.NoError(t, bundle.PurgeQueue(t.Context(), "DeliveryQueue"))
	bundle.ResumeQueues("DeliveryQueue")
	timePasses(t, id)
	require.NoError(t, bundle.TriggerSchedules(t.Context()))
	ends(t, id) // the sweep brings it home
	requireKept(t, id, 1_200)
}

func TestTheQueueRefusesMessages(t *testing.T) {
	engageLane.enter(t)
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
	_, others := bundle.Behind(t, engageBatch)
	t.Run("twice", func(t *testing.T) {
		others.Inject(times(2, "SendMessageBatch", refuse))
		id := accept(t, smallBatch(600, time.Now()))
		others.Inject()
		ends(t, id)
		requireKept(t, id, 600)
	})
	t.Run("on and on", func(t *testing.T) {
		others.Inject(always("SendMessageBatch", refuse))
		id := accept(t, smallBatch(600, time.Now())) // the push is durable: it is accepted
		others.Inject()
		timePasses(t, id)
		require.NoError(t, bundle.TriggerSchedules(t.Context()))
		ends(t, id) // the sweep brings it home
		requireKept(t, id, 600)
	})
}

func TestScheduleKilledBetweenTwoSteps(t *testing.T) {
	engageLane.enter(t)
	items, others := bundle.Behind(t, engageSchedule)
	for _, test := range []struct {
		name          string
		item, message *fault
	}{
		{name: "before the index is read", item: before("Query", engageSchedule)},
		{name: "before the push is leased", item: before("UpdateItem", engageSchedule)},
		{name: "after the push is leased", item: after("UpdateItem", engageSchedule)},
		{name: "before the messages", message: before("SendMessageBatch", engageSchedule)},
		{name: "after the messages", message: after("SendMessageBatch", engageSchedule)},
	} {
		t.Run(test.name, func(t *testing.T) {
			bundle.PauseQueues("DeliveryQueue")
			id := accept(t, smallBatch(20, time.Now()))
			require.NoError(t, bundle.PurgeQueue(t.Context(), "DeliveryQueue"))
			bundle.ResumeQueues("DeliveryQueue")
			timePasses(t, id)
			items.Inject(test.item)
			others.Inject(test.message)
			require.Error(t, bundle.TriggerSchedules(t.Context()))
			items.Inject()
			others.Inject()
			timePasses(t, id)
			require.NoError(t, bundle.TriggerSchedules(t.Context()))
			ends(t, id) // the next sweep brings it home
			requireKept(t, id, 20)
			assert.Len(t, bundle.PushesOf(t, id), 1)
		})
	}
}

func TestDeliveryWhenDynamoDBThrottles(t *testing.T) {
	engageLane.enter(t)
	items, _ := bundle.Behind(t, engageDeliver)
	items.Inject(
		times(2, "UpdateItem", throttled),
		times(2, "GetItem", awsError(500, "InternalServerError")),
		times(2, "PutItem", awsError(400, "ProvisionedThroughputExceededException")),
	)
	id := accept(t, smallBatch(20, time.Now()))
	ends(t, id)
	items.Inject()
	requireKept(t, id, 20)
	assert.Len(t, bundle.PushesOf(t, id), 1)
}

func TestCancelOverHTTP(t *testing.T) {
	engageLane.enter(t)
	path := func(id string) string { return "/federated/outbound/v2/batch/" + id }
	token := engageBearer(t)
	id := accept(t, smallBatch(3, time.Now().Add(time.Hour)))
	for range 2 {
		answer := bundle.Ask(t, http.MethodDelete, path(id), token)
		assert.Equal(t, http.StatusOK, answer.Status)
		assert.JSONEq(
			t,
			fmt.Sprintf(
				`{"requestId":%q,"state":"cancelled","counts":{"total":3,"pending":0,"delivered":0,`+
					`"rejected":0,"failed":0,"expired":0,"cancelled":3}}`,
				id,
			),
			answer.Body,
		)
	}
	delivered := accept(t, smallBatch(3, time.Now()))
	ends(t, delivered)
	assert.Equal(t, http.StatusConflict, bundle.Ask(t, http.MethodDelete, path(delivered), token).Status)
	assert.Equal(t, http.StatusOK, bundle.Ask(t, http.MethodGet, path(delivered), token).Status)
}
