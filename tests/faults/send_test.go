package faults_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/tests/harness"
)

// Kill -9 of ott-send between any two of its steps: whoever got no answer asks again, and the message is sent once, and
// before what is sent to the same person next.
func TestSendKilledBetweenTwoSteps(t *testing.T) {
	ottLane.enter(t)
	items, others := bundle.Behind(t, ottSend)
	tests := []struct {
		name        string
		item, queue *fault
		durable     bool // the message is kept although nobody was told
	}{
		{name: "before its key is looked up", item: with(ofMessage, before("GetItem", ottSend))},
		{name: "before the sender is looked up", item: with(`"pk"`, before("GetItem", ottSend))},
		{name: "before the property is looked at", item: with("property#", before("GetItem", ottSend))},
		{name: "before the queue", queue: before("SendMessageBatch", ottSend)},
		{name: "between queue and message", queue: after("SendMessageBatch", ottSend)},
		{name: "before the message", item: before("PutItem", ottSend)},
		{name: "between message and answer", item: after("PutItem", ottSend), durable: true},
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
				assert.Equal(t, test.durable, n.isDurable(t))
				id := n.accepted(t)
				assert.Equal(t, id, n.accepted(t), "a repeat gets the first answer")
				next := n.next()
				next.requireSent(t, next.accepted(t), 1)
				n.requireSent(t, id, 1)
				requireInOrder(t, n, next)
			})
		}
	}
}

// Nobody asks again for what ott-send died with before it was kept: then it is not sent, and its job holds up what is
// sent to the same person next for seconds alone.
func TestAJobWhoseMessageNeverComes(t *testing.T) {
	ottLane.enter(t)
	items, _ := bundle.Behind(t, ottSend)
	n := newNote(t, ott.Messenger)
	items.Inject(before("PutItem", ottSend))
	require.Equal(t, http.StatusInternalServerError, n.send(t).Status)
	items.Inject()
	next := n.next()
	next.requireSent(t, next.accepted(t), 1)
	assert.False(t, n.isDurable(t))
	assert.Empty(t, n.taken())
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
		{"and loses its answer", lost("SendMessageBatch"), http.StatusCreated},
		{"on and on", always("SendMessageBatch", awsError(500, "InternalError")), http.StatusServiceUnavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNote(t, ott.Messenger)
			others.Inject(test.fault)
			answer := n.send(t)
			others.Inject()
			assert.Equal(t, test.status, answer.Status, answer.Body)
			assert.Equal(t, test.status == http.StatusCreated, n.isDurable(t), "there is no message without a job")
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
	set(t, demoBrand+ofMessage+id, "queuedAt", time.Now().Add(-11*time.Minute).UnixMilli())
	assert.Equal(t, id, n.accepted(t))
	n.requireSent(t, id, 1)
}

// What a killed process had taken from the queue comes back by itself, with nobody who asks again. It finds the
// process's lease still running, is held in the queue until that ends, and is sent.
func TestTheOutboundQueueBringsBackWhatAKilledProcessHad(t *testing.T) {
	ottLane.enter(t)
	// Seconds, instead of a minute and a half; and what is left of the lease, instead of half a minute: much more than it
	// takes the queue to bring the message back.
	const visibility, lease = "3", 20 * time.Second
	setVisibilityTimeout(t, "OutboundQueue", visibility)
	items, others := bundle.Behind(t, ottDeliver)
	claimed := with(aClaim, after("UpdateItem", ottDeliver))
	struck := claimed.Strikes()
	items.Inject(claimed)
	n := newNote(t, ott.Messenger)
	id := n.accepted(t)
	harness.Reached(t, struck)
	leaseEnds(t, id, time.Now().Add(lease).UnixMilli())
	harness.Eventually(t, "it is back, and held for the lease", func() (int, bool) {
		held := others.Count("ChangeMessageVisibility")
		return held, held > 0
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
