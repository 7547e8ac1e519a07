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
	"pgregory.net/rapid"

	"carillon/local/emulator"
	"carillon/local/emulatortest"
	"carillon/local/eventsource"
	"carillon/local/trace"
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
	trace   trace.Header
	Records []record
	answer  chan<- answer
}

type answer struct {
	response string
	err      error
}

// function hands its invocations to the test.
type function chan *invocation

func (f function) Name() string { return "stack-test" }

func (f function) Label() string { return "test" }

func (f function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	answers := make(chan answer, 1)
	inv := &invocation{at: time.Now(), payload: payload, trace: trace.From(ctx), answer: answers}
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

// A mapping begins with five invocations at the same time, has one more for each 200 ms of a backlog, up to its bound,
// and five again when it was idle.
func TestInvocationsScale(t *testing.T) {
	f, m, url := start(t, func(c *eventsource.Config) { c.Concurrency, c.BatchSize = 7, 1 }, nil)
	for range 2 {
		require.Eventually(t, func() bool { return m.Concurrency() == 5 }, 20*time.Second, 20*time.Millisecond)
		sent := time.Now()
		send(t, url, 0, numbered(10)...)
		var open []*invocation
		for len(open) < 7 {
			open = append(open, f.next(t))
		}
		assert.GreaterOrEqual(t, open[5].at.Sub(sent), 200*time.Millisecond)
		assert.GreaterOrEqual(t, open[6].at.Sub(sent), 400*time.Millisecond)
		select {
		case <-f:
			t.Fatal("an eighth invocation")
		case <-time.After(500 * time.Millisecond):
		}
		assert.Equal(t, 7, m.Concurrency())
		for done := 0; done < 10; done++ {
			if len(open) == 0 {
				open = append(open, f.next(t))
			}
			open[0].answer <- answer{}
			open = open[1:]
		}
		emptied(t, url)
	}
}

func TestShares(t *testing.T) {
	for name, c := range map[string]struct {
		wanted, want []int
		most         int
	}{
		"none":                    {nil, nil, 128},
		"enough for all":          {[]int{100, 28}, []int{100, 28}, 128},
		"one too many":            {[]int{100, 29}, []int{99, 28}, 128},
		"one wants far more":      {[]int{1, 1, 1000}, []int{1, 1, 126}, 128},
		"a single one":            {[]int{1000}, []int{128}, 128},
		"fewer than mappings":     {[]int{3, 3}, []int{1, 1}, 1},
		"one for each":            {[]int{3, 3}, []int{1, 1}, 2},
		"each wants one, too few": {[]int{1, 1}, []int{1, 1}, 1},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, eventsource.Shares(c.wanted, c.most)) })
	}
	rapid.Check(t, func(t *rapid.T) {
		wanted := rapid.SliceOfN(rapid.IntRange(1, 1000), 1, 5).Draw(t, "wanted")
		most := rapid.IntRange(len(wanted), 200).Draw(t, "most")
		sum := 0
		for i, n := range eventsource.Shares(wanted, most) {
			assert.Positive(t, n)
			assert.LessOrEqual(t, n, wanted[i])
			sum += n
		}
		assert.LessOrEqual(t, sum, most)
	})
}

// Every nth message comes once more after it was handled, and no message more often than that.
func TestDuplicates(t *testing.T) {
	for _, every := range []int{1, 3} {
		t.Run(strconv.Itoa(every), func(t *testing.T) {
			t.Parallel()
			const messages = 12
			f, _, url := start(t, func(c *eventsource.Config) { c.Duplicates = every }, nil)
			send(t, url, 0, numbered(messages)...)
			deliveries := map[string]int{}
			for total := 0; total < messages+messages/every; {
				inv := f.next(t)
				for _, r := range inv.Records {
					deliveries[r.Body]++
					assert.Equal(t, strconv.Itoa(deliveries[r.Body]), r.Attributes["ApproximateReceiveCount"])
					total++
				}
				inv.answer <- answer{}
			}
			emptied(t, url)
			twice := 0
			for _, n := range deliveries {
				assert.LessOrEqual(t, n, 2)
				twice += n - 1
			}
			assert.Len(t, deliveries, messages)
			assert.Equal(t, messages/every, twice)
		})
	}
}

// What failed comes again anyway, and is no duplicate of anything then.
func TestAFailedMessageIsNoDuplicate(t *testing.T) {
	f, _, url := start(t, func(c *eventsource.Config) { c.Duplicates = 1 }, map[string]string{"VisibilityTimeout": "1"})
	send(t, url, 0, "a")
	f.next(t).answer <- answer{err: errors.New("crashed")}
	f.next(t).answer <- answer{}
	emptied(t, url)
}

// A noisy group does not keep others waiting: of its backlog only what was handed out before they came is ahead of
// them.
func TestFairQueue(t *testing.T) {
	f, m, url := start(t, func(c *eventsource.Config) { c.Concurrency, c.BatchSize = 2, 1 }, nil)
	sendTo := func(group *string, body string) {
		t.Helper()
		_, err := emulatortest.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
			QueueUrl: aws.String(url), MessageBody: aws.String(body), MessageGroupId: group,
		})
		require.NoError(t, err)
	}
	m.Pause()
	for i := range 20 {
		sendTo(aws.String("noisy"), "noisy "+strconv.Itoa(i))
	}
	m.Resume()
	open := []*invocation{f.next(t), f.next(t)}
	sendTo(aws.String("quiet"), "quiet 0")
	sendTo(nil, "alone 0")
	sendTo(aws.String("quiet"), "quiet 1")
	sendTo(nil, "alone 1")
	var order []string
	for range 8 {
		// The first one goes on: so the noisy group always has one in flight when the next message is handed out.
		open[1].answer <- answer{}
		open[1] = f.next(t)
		order = append(order, open[1].Records[0].Body)
	}
	// Each other one has none of its group in flight, or is alone.
	assert.ElementsMatch(t, []string{"quiet 0", "alone 0", "quiet 1", "alone 1"}, order[:4])
	assert.Equal(t, []string{"noisy 2", "noisy 3", "noisy 4", "noisy 5"}, order[4:], "oldest first")
}

// traced is the tracing header of a message that came about by so many invocations of a function.
func traced(function string, invocations int) string {
	var h trace.Header
	for range invocations {
		h = h.Invoked(function)
	}
	return h.String()
}

func sendTraced(t *testing.T, url, header, body string) {
	t.Helper()
	_, err := emulatortest.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(url), MessageBody: aws.String(body),
		MessageGroupId: aws.String("group"),
		MessageAttributes: map[string]types.MessageAttributeValue{
			"kind": {DataType: aws.String("String"), StringValue: aws.String("x")},
		},
		MessageSystemAttributes: map[string]types.MessageSystemAttributeValue{
			"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String(header)},
		},
	})
	require.NoError(t, err)
}

// A message that a function was invoked sixteen times for before it came about ends the loop, and others of the batch
// do not suffer.
func TestRecursiveLoops(t *testing.T) {
	for name, c := range map[string]struct {
		allowed, dead bool
		header        string
		want          bool // that the function is invoked with it
	}{
		"a sixteenth time":                   {header: traced("stack-test", 15), dead: true, want: true},
		"a seventeenth time":                 {header: traced("stack-test", 16), dead: true},
		"many more":                          {header: traced("stack-test", 40), dead: true},
		"without dead letters":               {header: traced("stack-test", 16)},
		"another function's":                 {header: traced("stack-other", 40), dead: true, want: true},
		"allowed":                            {header: traced("stack-test", 40), allowed: true, dead: true, want: true},
		"no header that means anything here": {header: "Root=1-a-b;Lineage=what:is|this", dead: true, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log struct {
				sync.Mutex
				lines []string
			}
			deadURL := ""
			if c.dead {
				out, err := emulatortest.SQS().
					CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(uuid.NewString())})
				require.NoError(t, err)
				deadURL = aws.ToString(out.QueueUrl)
			}
			f, m, url := start(t, func(config *eventsource.Config) {
				config.RecursionAllowed, config.DeadLetterURL = c.allowed, deadURL
				config.Log = func(line string) {
					log.Lock()
					defer log.Unlock()
					log.lines = append(log.lines, line)
				}
			}, nil)
			m.Pause() // so that both are one batch
			sendTraced(t, url, c.header, "looping")
			send(t, url, 0, "other")
			m.Resume()
			inv := f.next(t)
			var bodies []string
			for _, r := range inv.Records {
				bodies = append(bodies, r.Body)
			}
			inv.answer <- answer{}
			emptied(t, url)
			log.Lock()
			defer log.Unlock()
			if c.want {
				assert.ElementsMatch(t, []string{"looping", "other"}, bodies)
				assert.Empty(t, log.lines)
				if c.dead {
					assert.Zero(t, left(t, deadURL))
				}
				return
			}
			assert.Equal(t, []string{"other"}, bodies)
			require.Len(t, log.lines, 1)
			assert.Contains(t, log.lines[0], "test | queue: recursive loop: a message is ")
			if !c.dead {
				assert.Contains(t, log.lines[0], "dropped")
				return
			}
			assert.Contains(t, log.lines[0], "moved to the dead-letter queue")
			out, err := emulatortest.SQS().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
				QueueUrl: aws.String(deadURL), MessageAttributeNames: []string{"All"},
				MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
			})
			require.NoError(t, err)
			require.Len(t, out.Messages, 1)
			assert.Equal(t, "looping", aws.ToString(out.Messages[0].Body))
			assert.Equal(t, "x", aws.ToString(out.Messages[0].MessageAttributes["kind"].StringValue))
			assert.Equal(t, c.header, out.Messages[0].Attributes["AWSTraceHeader"])
			assert.Equal(t, "group", out.Messages[0].Attributes["MessageGroupId"])
		})
	}
}

// The function's own header goes on from that of its messages.
func TestTheTraceGoesOn(t *testing.T) {
	f, _, url := start(t, nil, nil)
	header := traced("stack-test", 3)
	sendTraced(t, url, header, "a")
	inv := f.next(t)
	assert.Equal(t, 3, inv.trace.Invocations("stack-test"))
	assert.Equal(t, header[:len("Root=1-00000000-000000000000000000000000")], inv.trace.String()[:40])
	inv.answer <- answer{}
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
