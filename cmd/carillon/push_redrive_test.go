package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/stackname"
)

// deadLetters is the delivery queue of a stack with a dead-letter queue behind it.
type deadLetters struct {
	*sqs.Client
	stack      string
	live, dead *string // URLs
	liveARN    string
	deadARN    string
}

// newDeadLetters makes both queues, so that a message is dead after one receive, and lets messages with these bodies
// die.
func newDeadLetters(t *testing.T, bodies ...string) deadLetters {
	t.Helper()
	q := deadLetters{stack: emulatortest.StackName(), Client: emulatortest.SQS()}
	dead, err := q.CreateQueue(t.Context(), &sqs.CreateQueueInput{
		QueueName: aws.String(stackname.DeliveryDeadLetterQueue(q.stack)),
	})
	require.NoError(t, err)
	q.dead, q.deadARN = dead.QueueUrl, q.arn(t, dead.QueueUrl)
	live, err := q.CreateQueue(t.Context(), &sqs.CreateQueueInput{
		QueueName: aws.String(stackname.DeliveryQueue(q.stack)),
		Attributes: map[string]string{
			"VisibilityTimeout": "0",
			"RedrivePolicy":     fmt.Sprintf(`{"deadLetterTargetArn":"%s","maxReceiveCount":"1"}`, q.deadARN),
		},
	})
	require.NoError(t, err)
	q.live, q.liveARN = live.QueueUrl, q.arn(t, live.QueueUrl)
	for part := range slices.Chunk(bodies, 10) {
		entries := make([]types.SendMessageBatchRequestEntry, len(part))
		for i, body := range part {
			entries[i] = types.SendMessageBatchRequestEntry{
				Id:          aws.String(strconv.Itoa(i)),
				MessageBody: aws.String(body),
			}
		}
		_, err := q.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: q.live, Entries: entries})
		require.NoError(t, err)
	}
	for q.count(t, q.dead) < len(bodies) {
		_, err := q.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: q.live, MaxNumberOfMessages: 10})
		require.NoError(t, err)
	}
	return q
}

func (q deadLetters) arn(t *testing.T, queue *string) string {
	t.Helper()
	out, err := q.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: queue, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameQueueArn},
	})
	require.NoError(t, err)
	return out.Attributes["QueueArn"]
}

// count is how many messages are in sight.
func (q deadLetters) count(t *testing.T, queue *string) int {
	t.Helper()
	out, err := q.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl:       queue,
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages},
	})
	require.NoError(t, err)
	n, err := strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"])
	require.NoError(t, err)
	return n
}

// drain takes every message out of a queue and returns the bodies, sorted.
func (q deadLetters) drain(t *testing.T, queue *string) []string {
	t.Helper()
	bodies := []string{}
	for {
		out, err := q.ReceiveMessage(
			t.Context(),
			&sqs.ReceiveMessageInput{QueueUrl: queue, MaxNumberOfMessages: 10, VisibilityTimeout: 60},
		)
		require.NoError(t, err)
		if len(out.Messages) == 0 {
			slices.Sort(bodies)
			return bodies
		}
		for _, m := range out.Messages {
			bodies = append(bodies, aws.ToString(m.Body))
		}
	}
}

func deliveries(n int) []string {
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = fmt.Sprintf(`{"requestId":%q,"chunk":%d,"notBefore":1771430400000}`, somePush, 100+i)
	}
	return bodies
}

func TestRedriveByHand(t *testing.T) {
	bodies := deliveries(23)
	queues := newDeadLetters(t, bodies...)
	redrive := []string{"push", "redrive", "--stack", queues.stack}

	r := run(t, append(redrive, "--dry-run")...)
	assert.Contains(t, r.stdout, "23 dead letters in stack "+queues.stack+" in us-east-1, of which 10:\n")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Len(t, lines, 12)
	assert.Equal(t, []string{"REQUEST", "CHUNK", "NOT", "BEFORE", "QUEUED", "RECEIVED"}, strings.Fields(lines[1]))
	assert.Regexp(t, `^`+somePush+` +1\d\d +2026-02-18 16:00:00Z +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ +\d$`, lines[2])

	// Looking has taken nothing away and hidden nothing, so another look sees all of them at once.
	var report struct {
		Queue                       string
		DeadLetters, Moved, Refused int
		DryRun                      bool
		Sample                      []struct {
			MessageID, RequestID string
			Chunk, Received      int
			NotBefore, QueuedAt  time.Time
		}
	}
	require.NoError(
		t,
		json.Unmarshal(
			[]byte(run(t, append(redrive, "--dry-run", "--sample", "100", "-o", "json")...).stdout),
			&report,
		),
	)
	assert.Equal(t, stackname.DeliveryDeadLetterQueue(queues.stack), report.Queue)
	assert.Equal(t, 23, report.DeadLetters)
	assert.True(t, report.DryRun)
	assert.Zero(t, report.Moved)
	chunks := map[int]bool{}
	for _, m := range report.Sample {
		chunks[m.Chunk] = true
		assert.Equal(t, somePush, m.RequestID)
		assert.True(t, m.NotBefore.Equal(time.UnixMilli(1771430400000)))
		assert.WithinDuration(t, time.Now(), m.QueuedAt, time.Minute)
	}
	assert.Len(t, chunks, 23, "each of them once")
	assert.Equal(t, 23, queues.count(t, queues.dead))
	assert.Zero(t, queues.count(t, queues.live))

	r = run(t, redrive...)
	assert.Contains(t, r.stdout, "redriving: 10 of 23 dead letters moved\n")
	assert.Contains(t, r.stdout, "redriving: 23 of 23 dead letters moved\n"+
		"Moved 23 messages back to "+stackname.DeliveryQueue(queues.stack)+".\n")
	assert.Empty(t, queues.drain(t, queues.dead))
	assert.Equal(t, bodies, queues.drain(t, queues.live), "as they were")

	r = run(t, redrive...)
	assert.Equal(t, "No dead letters in stack "+queues.stack+" in us-east-1.\n", r.stdout)
}

func TestRedriveShowsWhatIsNoDelivery(t *testing.T) {
	queues := newDeadLetters(t, "\x09not ours")

	r := run(t, "push", "redrive", "--dry-run", "--stack", queues.stack)

	assert.Contains(t, r.stdout, "1 dead letter in ")
	assert.Contains(t, r.stdout, `not a delivery: \tnot ours`)
}

func TestRedriveOfTheLocalRun(t *testing.T) {
	queues := newDeadLetters(t, deliveries(1)...)

	r := call{
		dir:         localProject(t, queues.stack),
		environment: []string{"AWS_REGION=", "AWS_ACCESS_KEY_ID=", "AWS_ENDPOINT_URL=http://127.0.0.1:1"},
	}.
		run(
			t,
			"push",
			"redrive",
			"--local",
		)

	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stdout, "1 dead letter in the local run\n")
	assert.Equal(t, deliveries(1), queues.drain(t, queues.live))
}

// sqsProxy passes calls of SQS on to the emulator, but for those that answers has: they get the next of these bodies,
// the last one again and again.
type sqsProxy struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[string][]string // bodies by operation
}

func newSQSProxy(t *testing.T, answers map[string][]string) *sqsProxy {
	t.Helper()
	emulator, err := url.Parse(emulatortest.AWSEndpoint())
	require.NoError(t, err)
	p := &sqsProxy{requests: map[string][]string{}}
	forward := httputil.NewSingleHostReverseProxy(emulator)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if !assert.NoError(t, err) {
			return
		}
		operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		p.mu.Lock()
		n := len(p.requests[operation])
		p.requests[operation] = append(p.requests[operation], string(raw))
		p.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(raw))
		ours, found := answers[operation]
		if !found || ours[min(n, len(ours)-1)] == "" {
			forward.ServeHTTP(w, r)
			return
		}
		answer := ours[min(n, len(ours)-1)]
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		if strings.Contains(answer, "__type") {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *sqsProxy) seen(operation string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[operation]
}

// AWS moves the messages itself; the emulator has no tasks, so their answers are as AWS documents them.
func TestRedriveByTask(t *testing.T) {
	const (
		none    = `{"Results":[]}`
		older   = `{"Results":[{"Status":"COMPLETED","ApproximateNumberOfMessagesMoved":7,"ApproximateNumberOfMessagesToMove":7,"StartedTimestamp":1000}]}`
		running = `{"Results":[
			{"Status":"COMPLETED","ApproximateNumberOfMessagesMoved":7,"ApproximateNumberOfMessagesToMove":7,"StartedTimestamp":1000},
			{"TaskHandle":"h","Status":"RUNNING","ApproximateNumberOfMessagesMoved":1,"ApproximateNumberOfMessagesToMove":3,"StartedTimestamp":2000}]}`
		completed = `{"Results":[{"Status":"COMPLETED","ApproximateNumberOfMessagesMoved":3,"ApproximateNumberOfMessagesToMove":3,"StartedTimestamp":2000}]}`
		failed    = `{"Results":[{"Status":"FAILED","FailureReason":"AccessDenied","ApproximateNumberOfMessagesMoved":1,"ApproximateNumberOfMessagesToMove":3,"StartedTimestamp":2000}]}`
		cancelled = `{"Results":[{"Status":"CANCELLED","ApproximateNumberOfMessagesMoved":1,"ApproximateNumberOfMessagesToMove":3,"StartedTimestamp":2000}]}`
	)
	tests := map[string]struct {
		lists  []string
		empty  bool // there are no dead letters
		start  string
		starts int
		status int
		stdout []string
		stderr string
	}{
		"started": {
			lists:  []string{older, older, running, completed},
			start:  `{"TaskHandle":"h"}`,
			starts: 1,
			stdout: []string{
				"redriving: 1 of 3 dead letters moved\n",
				"redriving: 3 of 3 dead letters moved\nMoved 3 messages back to ",
			},
		},
		"begun before": {
			lists:  []string{running, completed},
			stdout: []string{"redriving: 3 of 3 dead letters moved\nMoved 3 messages back to "},
		},
		"nothing to move": {
			lists: []string{older}, empty: true,
			stdout: []string{"No dead letters in "},
		},
		"nothing left, begun before": {
			lists: []string{running, completed}, empty: true,
			stdout: []string{"No dead letters in ", "redriving: 3 of 3 dead letters moved\nMoved 3 messages back to "},
		},
		"failed": {
			lists: []string{none, failed}, start: `{"TaskHandle":"h"}`, starts: 1,
			status: 1, stderr: "1 message moved, then: SQS says FAILED: AccessDenied",
		},
		"cancelled": {
			lists: []string{none, cancelled}, start: `{"TaskHandle":"h"}`, starts: 1,
			status: 1, stderr: "somebody has cancelled the move; `carillon push redrive` again moves the rest",
		},
		"not allowed": {
			lists: []string{
				none,
			},
			start:  `{"__type":"com.amazonaws.sqs#AccessDenied","message":"as AWS has it"}`,
			starts: 1,
			status: 1,
			stderr: "these credentials lack sqs:StartMessageMoveTask",
		},
		"not allowed to list": {
			lists:  []string{`{"__type":"com.amazonaws.sqs#AccessDenied","message":"as AWS has it"}`},
			status: 1, stderr: "these credentials lack sqs:ListMessageMoveTasks",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bodies := deliveries(3)
			if test.empty {
				bodies = nil
			}
			queues := newDeadLetters(t, bodies...)
			proxy := newSQSProxy(
				t,
				map[string][]string{"ListMessageMoveTasks": test.lists, "StartMessageMoveTask": {test.start}},
			)

			r := call{
				environment: []string{"AWS_ENDPOINT_URL=" + proxy.URL},
			}.run(
				t,
				"push",
				"redrive",
				"--stack",
				queues.stack,
			)

			assert.Equal(t, test.status, r.status, r.stderr)
			for _, text := range test.stdout {
				assert.Contains(t, r.stdout, text)
			}
			assert.Contains(t, r.stderr, test.stderr)
			require.Len(t, proxy.seen("StartMessageMoveTask"), test.starts)
			for _, body := range proxy.seen("StartMessageMoveTask") {
				assert.JSONEq(
					t,
					fmt.Sprintf(`{"SourceArn":%q,"DestinationArn":%q}`, queues.deadARN, queues.liveARN),
					body,
				)
			}
			assert.Equal(t, len(bodies), queues.count(t, queues.dead), "nothing but SQS moves them")
		})
	}
}

// By hand, a message is sent before it is deleted: whatever is refused, it is in one of the queues at least.
func TestRedriveLosesNothing(t *testing.T) {
	const refused = `{"Successful":[],"Failed":[{"Id":"0","Code":"InternalError","SenderFault":false,"Message":"m"}]}`
	tests := map[string]struct {
		answers map[string][]string
		want    string
		live    []string // what is in the delivery queue then
	}{
		"no message is taken": {
			answers: map[string][]string{"SendMessageBatch": {refused}},
			want:    "1 message not moved and still there as dead letters",
			live:    []string{},
		},
		"the delete is refused": {
			answers: map[string][]string{"DeleteMessageBatch": {refused}},
			want:    "1 message not moved and still there as dead letters",
			live:    deliveries(1),
		},
		"the send is refused": {
			answers: map[string][]string{
				"SendMessageBatch": {`{"__type":"com.amazonaws.sqs#AccessDenied","message":"as AWS has it"}`},
			},
			want: "these credentials lack sqs:SendMessageBatch",
			live: []string{},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queues := newDeadLetters(t, deliveries(1)...)
			proxy := newSQSProxy(t, test.answers)

			r := call{
				environment: []string{"AWS_ENDPOINT_URL=" + proxy.URL},
			}.run(
				t,
				"push",
				"redrive",
				"--stack",
				queues.stack,
			)

			assert.Equal(t, 1, r.status)
			assert.Contains(t, r.stderr, test.want)
			assert.Equal(t, test.live, queues.drain(t, queues.live))
			out, err := queues.GetQueueAttributes(
				t.Context(),
				&sqs.GetQueueAttributesInput{QueueUrl: queues.dead, AttributeNames: []types.QueueAttributeName{"All"}},
			)
			require.NoError(t, err)
			assert.Equal(
				t,
				"1",
				out.Attributes["ApproximateNumberOfMessagesNotVisible"],
				"it comes back in sight by itself",
			)
		})
	}
}
