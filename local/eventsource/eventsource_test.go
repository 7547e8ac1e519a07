package eventsource_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulator"
	"carillon/local/emulatortest"
	"carillon/local/eventsource"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// record is what a function sees of a message.
type record struct {
	MessageID, ReceiptHandle, Body, MD5OfBody, MD5OfMessageAttributes, EventSource, EventSourceARN, AWSRegion string
	Attributes                                                                                                map[string]string
	MessageAttributes                                                                                         map[string]map[string]any
}

// invocation is one that a test answers.
type invocation struct {
	at      time.Time
	payload []byte
	Records []record
	answer  chan<- answer
}

type answer struct {
	response string
	err      error
}

// function hands its invocations to the test.
type function chan *invocation

func (f function) Label() string { return "test" }

func (f function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	answers := make(chan answer, 1)
	inv := &invocation{at: time.Now(), payload: payload, answer: answers}
	if err := json.Unmarshal(payload, inv); err != nil {
		return nil, err
	}
	select {
	case f <- inv:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-answers:
		return []byte(a.response), a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// next waits for an invocation.
func (f function) next(t *testing.T) *invocation {
	t.Helper()
	select {
	case inv := <-f:
		return inv
	case <-time.After(20 * time.Second):
		t.Fatal("the function is not invoked")
		return nil
	}
}

// start makes a queue and a mapping of it.
func start(
	t *testing.T, change func(*eventsource.Config), attributes map[string]string,
) (function, *eventsource.Mapping, string) {
	t.Helper()
	out, err := emulatortest.SQS().
		CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(uuid.NewString()), Attributes: attributes})
	require.NoError(t, err)
	url := aws.ToString(out.QueueUrl)
	f := make(function)
	config := eventsource.Config{
		Client:                  emulatortest.SQS(),
		URL:                     url,
		ARN:                     "arn:aws:sqs:" + emulatortest.Region + ":" + emulator.AccountID + ":queue",
		Function:                f,
		BatchSize:               10,
		Concurrency:             2,
		ReportBatchItemFailures: true,
		Log:                     func(line string) { t.Log(line) },
	}
	if change != nil {
		change(&config)
	}
	m := eventsource.Start(config)
	t.Cleanup(m.Close)
	return f, m, url
}

func send(t *testing.T, url string, delay int32, bodies ...string) {
	t.Helper()
	for part := range slices.Chunk(bodies, 10) {
		var entries []types.SendMessageBatchRequestEntry
		for i, body := range part {
			entries = append(
				entries,
				types.SendMessageBatchRequestEntry{
					Id:           aws.String(strconv.Itoa(i)),
					MessageBody:  aws.String(body),
					DelaySeconds: delay,
				},
			)
		}
		out, err := emulatortest.SQS().
			SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: aws.String(url), Entries: entries})
		require.NoError(t, err)
		require.Empty(t, out.Failed)
	}
}

func numbered(n int) []string {
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = strconv.Itoa(i)
	}
	return bodies
}

// left returns how many messages the queue has, whatever their state.
func left(t *testing.T, url string) int {
	t.Helper()
	names := []types.QueueAttributeName{
		"ApproximateNumberOfMessages",
		"ApproximateNumberOfMessagesDelayed",
		"ApproximateNumberOfMessagesNotVisible",
	}
	out, err := emulatortest.SQS().
		GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: aws.String(url), AttributeNames: names})
	require.NoError(t, err)
	total := 0
	for _, name := range names {
		n, err := strconv.Atoi(out.Attributes[string(name)])
		require.NoError(t, err)
		total += n
	}
	return total
}

// emptied waits until nothing is left.
func emptied(t *testing.T, url string) {
	t.Helper()
	assert.Eventually(t, func() bool { return left(t, url) == 0 }, 20*time.Second, 20*time.Millisecond)
}

func TestEventIsLambdas(t *testing.T) {
	f, _, url := start(t, nil, nil)
	_, err := emulatortest.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(url), MessageBody: aws.String(`{"a":1}`),
		MessageAttributes: map[string]types.MessageAttributeValue{
			"text":  {DataType: aws.String("String"), StringValue: aws.String("x")},
			"bytes": {DataType: aws.String("Binary"), BinaryValue: []byte("y")},
		},
	})
	require.NoError(t, err)
	inv := f.next(t)
	require.Len(t, inv.Records, 1)
	r := inv.Records[0]
	require.NoError(t, uuid.Validate(r.MessageID))
	assert.NotEmpty(t, r.ReceiptHandle)
	assert.Equal(t, `{"a":1}`, r.Body)
	assert.Equal(t, "bb6cb5c68df4652941caf652a366f2d8", r.MD5OfBody)
	assert.Len(t, r.MD5OfMessageAttributes, 32)
	assert.Equal(t, "aws:sqs", r.EventSource)
	assert.Equal(t, "arn:aws:sqs:us-east-1:000000000000:queue", r.EventSourceARN)
	assert.Equal(t, emulatortest.Region, r.AWSRegion)
	assert.Equal(t, "1", r.Attributes["ApproximateReceiveCount"])
	for _, name := range []string{"SentTimestamp", "ApproximateFirstReceiveTimestamp", "SenderId"} {
		assert.NotEmpty(t, r.Attributes[name], name)
	}
	assert.Equal(t, map[string]map[string]any{
		"text": {"stringValue": "x", "dataType": "String", "stringListValues": []any{}, "binaryListValues": []any{}},
		"bytes": {
			"binaryValue":      "eQ==",
			"dataType":         "Binary",
			"stringListValues": []any{},
			"binaryListValues": []any{},
		},
	}, r.MessageAttributes)
	assert.Contains(t, string(inv.payload), `{"Records":[{"messageId":"`)
	inv.answer <- answer{response: `{"batchItemFailures":[]}`}
	emptied(t, url)
}

func TestWhatSucceededIsDeletedAndTheRestComesAgain(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(records []record) answer
		plain  bool // without ReportBatchItemFailures
		again  []string
	}{
		"all done":          {answer: func([]record) answer { return answer{response: `{"batchItemFailures":[]}`} }},
		"null":              {answer: func([]record) answer { return answer{response: `null`} }},
		"nothing":           {answer: func([]record) answer { return answer{} }},
		"no list":           {answer: func([]record) answer { return answer{response: `{"batchItemFailures":null}`} }},
		"one failed":        {answer: func(r []record) answer { return answer{response: failures(r[1].MessageID)} }, again: []string{"1"}},
		"unknown message":   {answer: func([]record) answer { return answer{response: failures("who")} }, again: []string{"0", "1", "2"}},
		"no identifier":     {answer: func([]record) answer { return answer{response: `{"batchItemFailures":[{"id":1}]}`} }, again: []string{"0", "1", "2"}},
		"not JSON":          {answer: func([]record) answer { return answer{response: `oops`} }, again: []string{"0", "1", "2"}},
		"failed":            {answer: func([]record) answer { return answer{err: errors.New("crashed")} }, again: []string{"0", "1", "2"}},
		"plain, any answer": {answer: func(r []record) answer { return answer{response: failures(r[0].MessageID)} }, plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := func(config *eventsource.Config) { config.ReportBatchItemFailures = !c.plain }
			f, m, url := start(t, change, map[string]string{"VisibilityTimeout": "3"})
			m.Pause() // so that all three are one batch
			send(t, url, 0, numbered(3)...)
			m.Resume()
			inv := f.next(t)
			require.Len(t, inv.Records, 3)
			inv.answer <- c.answer(inv.Records)
			// They need not come in one batch: each becomes visible by itself.
			var again []string
			for len(again) < len(c.again) {
				inv = f.next(t)
				for _, r := range inv.Records {
					again = append(again, r.Body)
					assert.Equal(t, "2", r.Attributes["ApproximateReceiveCount"])
				}
				inv.answer <- answer{}
			}
			assert.ElementsMatch(t, c.again, again)
			emptied(t, url)
		})
	}
}

func failures(ids ...string) string {
	type failure struct {
		ItemIdentifier string `json:"itemIdentifier"`
	}
	var list []failure
	for _, id := range ids {
		list = append(list, failure{id})
	}
	raw, _ := json.Marshal(map[string]any{"batchItemFailures": list})
	return string(raw)
}

func TestInvocationsAreBounded(t *testing.T) {
	f, _, url := start(t, func(c *eventsource.Config) { c.Concurrency, c.BatchSize = 3, 2 }, nil)
	send(t, url, 0, numbered(10)...)
	var open []*invocation
	for range 3 {
		open = append(open, f.next(t))
	}
	for _, inv := range open {
		assert.Len(t, inv.Records, 2)
	}
	assert.Equal(t, 10, left(t, url))
	select {
	case <-f:
		t.Fatal("a fourth invocation")
	case <-time.After(200 * time.Millisecond):
	}
	for done := 0; done < 5; done++ {
		if len(open) == 0 {
			open = append(open, f.next(t))
		}
		open[0].answer <- answer{}
		open = open[1:]
	}
	emptied(t, url)
}

// What is due at the same moment is handed over at the same moment, or nearly so: a push has two seconds from then on.
func TestFiftyMessagesThatBecomeVisibleAtOnce(t *testing.T) {
	f, _, url := start(t, func(c *eventsource.Config) { c.Concurrency = 20 }, nil)
	const delay = 2
	send(t, url, delay, numbered(50)...)
	var late []time.Duration
	var mu sync.Mutex
	var wait sync.WaitGroup
	for got := 0; got < 50; {
		inv := f.next(t)
		got += len(inv.Records)
		wait.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range inv.Records {
				sent, err := strconv.ParseInt(r.Attributes["SentTimestamp"], 10, 64)
				assert.NoError(t, err)
				late = append(late, inv.at.Sub(time.UnixMilli(sent).Add(delay*time.Second)))
			}
			inv.answer <- answer{}
		})
	}
	wait.Wait()
	slices.Sort(late)
	t.Logf("from visible to invoked: median %v, last %v", late[25], late[49])
	assert.GreaterOrEqual(t, late[0], -time.Millisecond, "SentTimestamp is in whole milliseconds")
	assert.Less(t, late[49], time.Second)
	emptied(t, url)
}

func TestPause(t *testing.T) {
	f, m, url := start(t, func(c *eventsource.Config) { c.Paused = true }, nil)
	send(t, url, 0, "a")
	select {
	case <-f:
		t.Fatal("it is paused")
	case <-time.After(200 * time.Millisecond):
	}
	m.Resume()
	f.next(t).answer <- answer{}
	emptied(t, url)
	m.Pause()
	send(t, url, 0, "b")
	_, err := emulatortest.SQS().PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: aws.String(url)})
	require.NoError(t, err)
	m.Resume()
	send(t, url, 0, "c")
	inv := f.next(t)
	assert.Equal(t, "c", inv.Records[0].Body)
	inv.answer <- answer{}
}

func TestCloseWaitsForNobody(t *testing.T) {
	f, m, url := start(t, nil, nil)
	send(t, url, 0, "a")
	f.next(t) // and no answer
	m.Close()
	m.Close()
	assert.Equal(t, 1, left(t, url), "it comes again some day")
}
