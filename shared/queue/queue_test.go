package queue_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/fault"
	"carillon/shared/queue"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

type job struct {
	N int `json:"n"`
}

// newQueue makes a queue and returns its URL.
func newQueue(t *testing.T) string {
	t.Helper()
	out, err := emulatortest.SQS().
		CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(emulatortest.StackName())})
	require.NoError(t, err)
	return *out.QueueUrl
}

// received takes what the queue holds by now.
func received(t *testing.T, url string) map[string]bool {
	t.Helper()
	bodies := map[string]bool{}
	for {
		out, err := emulatortest.SQS().
			ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10})
		require.NoError(t, err)
		if len(out.Messages) == 0 {
			return bodies
		}
		for _, message := range out.Messages {
			assert.False(t, bodies[*message.Body], "%s came twice", *message.Body)
			bodies[*message.Body] = true
		}
	}
}

func TestSendPutsEveryJobOntoTheQueue(t *testing.T) {
	url := newQueue(t)
	sender := queue.NewSender[job](emulatortest.SQS(), url, clocktest.New())
	require.NoError(t, sender.Send(t.Context()), "nothing is no call")
	var entries []queue.Entry[job]
	want := map[string]bool{}
	for n := range 23 {
		entries = append(entries, queue.Entry[job]{Job: job{N: n}})
		want[fmt.Sprintf(`{"n":%d}`, n)] = true
	}
	require.NoError(t, sender.Send(t.Context(), entries...))
	assert.Equal(t, want, received(t, url))
}

// call is a SendMessageBatch, or a ChangeMessageVisibility, as SQS sees it.
type call struct {
	Entries []struct {
		ID                     string `json:"Id"`
		DelaySeconds           int32
		MessageBody            string
		MessageGroupID         *string `json:"MessageGroupId"`
		MessageDeduplicationID *string `json:"MessageDeduplicationId"`
	}
	// Of a ChangeMessageVisibility.
	ReceiptHandle     string
	VisibilityTimeout *int32
}

// service answers calls as a test says.
func service(t *testing.T, answer func(n int, c call) (status int, body string)) (*sqs.Client, func() []call) {
	t.Helper()
	var mu sync.Mutex
	var calls []call
	endpoint := emulatortest.Between(
		t,
		emulatortest.AWSEndpoint(),
		func(w http.ResponseWriter, sent emulatortest.Call) bool {
			var c call
			if !assert.NoError(t, json.Unmarshal([]byte(sent.Body), &c)) {
				return false
			}
			mu.Lock()
			calls = append(calls, c)
			n := len(calls)
			mu.Unlock()
			status, body := answer(n, c)
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
			return true
		},
	)
	return emulatortest.SQSAt(endpoint), func() []call {
		mu.Lock()
		defer mu.Unlock()
		return calls
	}
}

const took = `{"Successful":[],"Failed":[]}`

func TestDelaysAreRoundedAsTheyAreNamed(t *testing.T) {
	client, calls := service(t, func(int, call) (int, string) { return http.StatusOK, took })
	sender := queue.NewSender[job](client, "https://sqs.example.com/1/q", clocktest.New())
	for _, test := range []struct {
		delay queue.Delay
		want  int32
	}{
		{queue.Delay{}, 0},
		{queue.NoLongerThan(2*time.Second - 1), 1},
		{queue.NoLongerThan(2 * time.Second), 2},
		{queue.NoLongerThan(-time.Second), 0},
		{queue.NoLongerThan(time.Hour), 900},
		{queue.NoShorterThan(2*time.Second + 1), 3},
		{queue.NoShorterThan(2 * time.Second), 2},
		{queue.NoShorterThan(-time.Second), 0},
		{queue.NoShorterThan(queue.MaxDelay + 1), 900},
	} {
		require.NoError(t, sender.Send(t.Context(), queue.Entry[job]{Delay: test.delay}))
		sent := calls()
		assert.Equal(t, test.want, sent[len(sent)-1].Entries[0].DelaySeconds)
	}
}

// SQS may refuse some entries of a batch and take the others: only those are sent again.
func TestRefusedEntriesAreSentAgain(t *testing.T) {
	client, calls := service(t, func(n int, _ call) (int, string) {
		if n < 3 {
			return http.StatusOK, `{"Successful":[],"Failed":[{"Id":"1","Code":"InternalError","SenderFault":false}]}`
		}
		return http.StatusOK, took
	})
	now := clocktest.New()
	sender := queue.NewSender[job](client, "https://sqs.example.com/1/q", now)
	require.NoError(t, sender.Send(t.Context(), queue.Entry[job]{Job: job{1}}, queue.Entry[job]{Job: job{2}}))
	sent := calls()
	require.Len(t, sent, 3)
	assert.Len(t, sent[0].Entries, 2)
	for _, again := range sent[1:] {
		require.Len(t, again.Entries, 1)
		assert.Equal(t, `{"n":2}`, again.Entries[0].MessageBody)
	}
	assert.Len(t, now.Slept(), 2)
}

func TestEntriesThatAreRefusedForGood(t *testing.T) {
	client, calls := service(t, func(int, call) (int, string) {
		return http.StatusOK, `{"Successful":[],"Failed":[{"Id":"0","Code":"InvalidMessageContents","SenderFault":true}]}`
	})
	err := queue.NewSender[job](
		client,
		"https://sqs.example.com/1/q",
		clocktest.New(),
	).Send(t.Context(), queue.Entry[job]{})
	require.EqualError(t, err, "queue: SQS refused 1 of 1 messages: InvalidMessageContents")
	assert.Len(t, calls(), 4)
}

// A call that fails costs no other its jobs, and says that SQS is unavailable.
func TestCallsThatFail(t *testing.T) {
	client, calls := service(t, func(_ int, c call) (int, string) {
		if c.Entries[0].MessageBody == `{"n":10}` {
			return http.StatusServiceUnavailable, `{"__type":"ServiceUnavailable"}`
		}
		return http.StatusOK, took
	})
	var entries []queue.Entry[job]
	for n := range 30 {
		entries = append(entries, queue.Entry[job]{Job: job{n}})
	}
	err := queue.NewSender[job](client, "https://sqs.example.com/1/q", clocktest.New()).Send(t.Context(), entries...)
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
	assert.Len(t, calls(), 3)
}

// A FIFO queue needs a group and what tells repeats; a standard queue must not be given the latter, and may be given
// the former.
func TestGroupsAndDeduplicationIDs(t *testing.T) {
	client, calls := service(t, func(int, call) (int, string) { return http.StatusOK, took })
	sender := queue.NewSender[job](client, "https://sqs.example.com/1/q", clocktest.New())
	require.NoError(t, sender.Send(t.Context(),
		queue.Entry[job]{}, queue.Entry[job]{Group: "g"}, queue.Entry[job]{Group: "h", DeduplicationID: "once"}))
	sent := calls()
	require.Len(t, sent, 1)
	require.Len(t, sent[0].Entries, 3)
	for i, want := range []struct{ group, deduplicationID *string }{
		{}, {group: aws.String("g")}, {group: aws.String("h"), deduplicationID: aws.String("once")},
	} {
		assert.Equal(t, want.group, sent[0].Entries[i].MessageGroupID)
		assert.Equal(t, want.deduplicationID, sent[0].Entries[i].MessageDeduplicationID)
	}
}

// A message that is held may not come early: whole seconds, rounded up, for no longer than SQS may keep it.
func TestHold(t *testing.T) {
	client, calls := service(t, func(int, call) (int, string) { return http.StatusOK, `{}` })
	sender := queue.NewSender[job](client, "https://sqs.example.com/1/q", clocktest.New())
	for _, test := range []struct {
		wait time.Duration
		want int32
	}{
		{0, 0}, {-time.Hour, 0}, {1, 1}, {time.Millisecond, 1}, {time.Second, 1}, {time.Second + 1, 2},
		{2*time.Second - 1, 2}, {queue.MaxDelay, 900}, {queue.MaxDelay + time.Minute, 960},
		{11 * time.Hour, 39_600}, {11*time.Hour + 1, 39_600}, {365 * 24 * time.Hour, 39_600},
		{math.MaxInt64 - time.Second, 39_600},
	} {
		require.NoError(t, sender.Hold(t.Context(), "the receipt", test.wait))
		sent := calls()
		last := sent[len(sent)-1]
		require.NotNil(t, last.VisibilityTimeout, "%v", test.wait)
		assert.Equal(t, test.want, *last.VisibilityTimeout, "%v", test.wait)
		assert.Equal(t, "the receipt", last.ReceiptHandle)
	}
}

func TestHoldOfAReceiptThatIsNone(t *testing.T) {
	sender := queue.NewSender[job](emulatortest.SQS(), newQueue(t), clocktest.New())
	assert.ErrorContains(t, sender.Hold(t.Context(), "none", time.Second), "ReceiptHandleIsInvalid")
}
