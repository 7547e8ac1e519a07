package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/tests/harness"
)

// comesAgain has ott-deliver get the message's job again, times over and in one batch.
func (n note) comesAgain(t *testing.T, id string, times int) {
	t.Helper()
	require.NoError(t, bundle.PurgeQueue(t.Context(), "OutboundQueue"))
	now := time.Now()
	message := ott.Message{Platform: n.platform, SenderID: n.sender, OttID: n.person}
	body, err := json.Marshal(ott.NewJob(demoBrand, id, message, n.createdAt(t), now, now.Add(time.Hour)))
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

// update is a kill of ott-deliver at a write of its own.
func update(kill func(operation, function string) *fault, what string) *fault {
	return with(what, kill("UpdateItem", ottDeliver))
}

// Kill -9 of ott-deliver between any two of its steps. LINE takes the message once, for it knows the retry key.
// Messenger has no such key: it gets a second copy where it took the first and nobody could record that, and nowhere
// else.
func TestOttDeliverKilledBetweenTwoSteps(t *testing.T) {
	ottLane.enter(t)
	items, others := bundle.Behind(t, ottDeliver)
	bus := bundle.BehindPartner(t, ottDeliver, "AWS_ENDPOINT_URL_EVENTBRIDGE", "events")
	platforms := bundle.BehindPartner(t, ottDeliver, "PLATFORM_STANDIN_URL", "ott")
	both := map[ott.Platform]int{ott.Messenger: 1, ott.LINE: 1}
	unrecorded := map[ott.Platform]int{ott.Messenger: 2, ott.LINE: 1}
	ofLINE, ofMessenger := map[ott.Platform]int{ott.LINE: 1}, map[ott.Platform]int{ott.Messenger: 1}
	tests := []struct {
		name   string
		proxy  *harness.Proxy
		fault  *fault
		copies map[ott.Platform]int // what the platform has taken in the end
		done   bool                 // it is recorded although the process died
	}{
		{name: "before the permit", proxy: items, fault: update(before, aPermit), copies: both},
		{name: "after the permit", proxy: items, fault: update(after, aPermit), copies: both},
		{
			name: "before the message is read", proxy: items, copies: both,
			fault: with(ofMessage, before("GetItem", ottDeliver)),
		},
		{
			name: "before the registration is read", proxy: items, copies: both,
			fault: with(`"pk"`, before("GetItem", ottDeliver)),
		},
		{
			name: "before the credentials are read", proxy: others, copies: both,
			fault: before("GetSecretValue", ottDeliver),
		},
		{
			name: "after the credentials are read", proxy: others, copies: both,
			fault: after("GetSecretValue", ottDeliver),
		},
		{name: "before the claim", proxy: items, fault: update(before, aClaim), copies: both},
		{name: "after the claim", proxy: items, fault: update(after, aClaim), copies: both},
		{
			name: "before LINE grants a token", proxy: platforms, copies: ofLINE,
			fault: at(lineGrant, before("", ottDeliver)),
		},
		{
			name: "after LINE has granted a token", proxy: platforms, copies: ofLINE,
			fault: at(lineGrant, after("", ottDeliver)),
		},
		{
			name: "before LINE has the message", proxy: platforms, copies: ofLINE,
			fault: at(linePush, before("", ottDeliver)),
		},
		{
			name: "when LINE has taken it", proxy: platforms, copies: ofLINE,
			fault: at(linePush, after("", ottDeliver)),
		},
		{
			name: "before Messenger has the message", proxy: platforms, copies: ofMessenger,
			fault: at(messengerSend, before("", ottDeliver)),
		},
		{
			name: "when Messenger has taken it", proxy: platforms, copies: map[ott.Platform]int{ott.Messenger: 2},
			fault: at(messengerSend, after("", ottDeliver)),
		},
		{name: "before the record", proxy: items, fault: update(before, aRecord), copies: unrecorded},
		{name: "after the record", proxy: items, fault: update(after, aRecord), copies: both, done: true},
		{
			name: "before the bus is told of the credentials", proxy: bus, copies: both, done: true,
			fault: before("PutEvents", ottDeliver),
		},
		{
			name: "after the bus is told of the credentials", proxy: bus, copies: both, done: true,
			fault: after("PutEvents", ottDeliver),
		},
		{
			name: "before the credentials' state", proxy: items, copies: both, done: true,
			fault: update(before, aState),
		},
		{name: "after the credentials' state", proxy: items, copies: both, done: true, fault: update(after, aState)},
		{name: "before the permit is back", proxy: items, copies: both, done: true, fault: update(before, aReturn)},
		{name: "after the permit is back", proxy: items, copies: both, done: true, fault: update(after, aReturn)},
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
					leaseEnds(t, id, 1)
				}
				n.comesAgain(t, id, 1)
				n.requireSent(t, id, copies)
				n.comesAgain(t, id, 3)
				assert.Equal(t, id, n.accepted(t))
				n.requireSent(t, id, copies)

				another := n.another()
				another.requireSent(t, another.accepted(t), 1)
				harness.Eventually(t, "the credentials are known to be right", func() (string, bool) {
					state := n.credentials(t)
					return state, state == "accepted"
				})
				assert.Positive(t, n.told(), "before it was kept")
			})
		}
	}
}

// Whatever holds the first message of a conversation up, the second one goes after it.
func TestOrderOfAConversation(t *testing.T) {
	ottLane.enter(t)
	setVisibilityTimeout(t, "OutboundQueue", "3")
	items, others := bundle.Behind(t, ottDeliver)
	platforms := bundle.BehindPartner(t, ottDeliver, "PLATFORM_STANDIN_URL", "ott")
	down := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	tests := []struct {
		name   string
		proxy  *harness.Proxy
		fault  *fault
		killed bool
		copies map[ott.Platform]int // of the first
	}{
		{name: "killed when it was claimed", proxy: items, killed: true, fault: update(after, aClaim)},
		{
			name: "killed when it was taken", proxy: items, killed: true, fault: update(before, aRecord),
			copies: map[ott.Platform]int{ott.Messenger: 2},
		},
		{name: "killed when it was recorded", proxy: items, killed: true, fault: update(after, aRecord)},
		{name: "killed between the two", proxy: items, killed: true, fault: update(after, aReturn)},
		{name: "tried three times", proxy: platforms, fault: times(2, "", down)},
		{name: "tried again, and SQS does not hold it", proxy: platforms, fault: times(1, "", down)},
	}
	for _, test := range tests {
		for _, platform := range []ott.Platform{ott.Messenger, ott.LINE} {
			t.Run(test.name+" "+string(platform), func(t *testing.T) {
				n, f := newNote(t, platform), *test.fault
				next, last := n.next(), n.next()
				conversation := []note{n, next, last}
				if test.proxy == platforms {
					f.Body = n.key
				}
				struck := f.Strikes()
				test.proxy.Inject(&f)
				if test.proxy == platforms && f.Times == 1 {
					others.Inject(always("ChangeMessageVisibility", awsError(500, "InternalError")))
				}
				bundle.PauseQueues("OutboundQueue")
				var ids []string
				for _, n := range conversation {
					ids = append(ids, n.accepted(t))
				}
				bundle.ResumeQueues("OutboundQueue")
				harness.Reached(t, struck)
				if test.killed {
					leaseEnds(t, ids[0], 1)
				}
				last.requireSent(t, ids[2], 1)
				next.requireSent(t, ids[1], 1)
				n.requireSent(t, ids[0], max(1, test.copies[platform]))
				requireInOrder(t, conversation...)
				others.Inject()
			})
		}
	}
}

// A platform that takes a message and does not say so: Messenger, which cannot tell a repeat, gets it three times at
// most, and LINE once.
func TestAPlatformTakesMessagesAndHangs(t *testing.T) {
	ottLane.enter(t)
	platforms := bundle.BehindPartner(t, ottDeliver, "PLATFORM_STANDIN_URL", "ott")
	over := make(chan struct{})
	t.Cleanup(func() { close(over) }) // when the cases are over, and before the proxy ends
	tests := []struct {
		name     string
		platform ott.Platform
		times    int    // that it hangs; -1 for always
		status   string // a regular expression
		copies   int
	}{
		{name: "Messenger once", platform: ott.Messenger, times: 1, status: "^Sent$", copies: 2},
		{
			name: "Messenger on and on", platform: ott.Messenger, times: -1, copies: 3,
			status: "^Error given up after 3 tries without an answer, for each may have been taken; " +
				`Messenger did not answer: .*(Client\.Timeout|context deadline) exceeded`,
		},
		{name: "LINE twice", platform: ott.LINE, times: 2, status: "^Sent$", copies: 1},
	}
	notes, hangs := make([]note, len(tests)), make([]*fault, len(tests))
	for i, test := range tests {
		notes[i] = newNote(t, test.platform)
		hangs[i] = with(notes[i].key, &fault{Times: test.times, After: func() { <-over }})
	}
	platforms.Inject(hangs...)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			notes[i].accepted(t)
			assert.Regexp(t, test.status, notes[i].final(t))
			assert.Len(t, notes[i].taken(), test.copies)
		})
	}
}

// AWS that fails costs a message a moment. Nobody waits for the queue to bring back a job by itself: that would take
// longer here than the test waits.
func TestOttDeliverWhenAWSFails(t *testing.T) {
	ottLane.enter(t)
	setVisibilityTimeout(t, "OutboundQueue", "600")
	items, others := bundle.Behind(t, ottDeliver)
	const tries = 8 // that the SDK makes
	ofProperty := func(n note, _ string) string { return "property#" + n.property() }
	ofRegistration := func(n note, _ string) string { return `"` + n.property() }
	ofSecret := func(n note, _ string) string { return n.secret(t) }
	ofMessage := func(_ note, id string) string { return ofMessage + id }
	ofProgress := func(_ note, id string) string { return "#progress#" + id }
	tests := []struct {
		name  string
		of    func(n note, id string) string // what the call's body holds
		fault *fault
	}{
		{"gives no permit", ofProperty, times(tries+1, "UpdateItem", throttled)},
		{"hides the message", ofMessage, times(tries+1, "GetItem", awsError(500, "InternalServerError"))},
		{"hides the registration", ofRegistration, times(tries+1, "GetItem", throttled)},
		{"hides the credentials", ofSecret, times(tries+1, "GetSecretValue", throttled)},
		{"takes no claim", ofProgress, times(tries+1, "UpdateItem", throttled)},
		{"loses the claim's answer", ofProgress, lost("UpdateItem")},
		{"takes no record", ofProgress, later(1, times(tries+1, "UpdateItem", throttled))},
		{"loses the record's answer", ofProgress, later(1, lost("UpdateItem"))},
		{"takes no permit back", ofProperty, later(1, times(tries, "UpdateItem", throttled))},
	}
	bundle.PauseQueues("OutboundQueue")
	notes, ids := make([]note, len(tests)), make([]string, len(tests))
	faults, struck := make([]*fault, len(tests)), make([]<-chan struct{}, len(tests))
	for i, test := range tests {
		notes[i] = newNote(t, ott.Messenger)
		ids[i] = notes[i].accepted(t)
		faults[i] = with(test.of(notes[i], ids[i]), test.fault)
		struck[i] = faults[i].Strikes()
	}
	items.Inject(faults...)
	others.Inject(faults...)
	bundle.ResumeQueues("OutboundQueue")
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			harness.Reached(t, struck[i])
			notes[i].requireSent(t, ids[i], 1)
			next := notes[i].next()
			next.requireSent(t, next.accepted(t), 1)
		})
	}
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
