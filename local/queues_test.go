package local_test

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
)

// runLog keeps what a run logs.
type runLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *runLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// count returns how many lines begin with one text and hold the other.
func (l *runLog) count(begin, text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.HasPrefix(line, begin) && strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (l *runLog) has(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.lines, line)
}

// Functions of the fixture send with our own sender, as those of the bundle do.
func TestFunctionsOfQueues(t *testing.T) {
	var log runLog
	bundle, err := start(t, local.Options{
		Root: filepath.Join("testdata", "queues"), BuildDir: t.TempDir(), Log: log.add,
	})
	require.NoError(t, err)
	send := func(queue, body string) {
		t.Helper()
		_, err := bundle.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
			QueueUrl: aws.String(bundle.QueueURL(queue)), MessageBody: aws.String(body),
		})
		require.NoError(t, err)
	}
	eventually := func(what string, done func() bool) {
		t.Helper()
		require.Eventually(t, done, 60*time.Second, 20*time.Millisecond, what)
	}

	t.Run("a loop ends after sixteen rounds", func(t *testing.T) {
		send("LoopQueue", `{"Round":1,"Last":100}`)
		var dead []string
		eventually("the next message is a dead letter", func() bool {
			out, err := bundle.SQS().ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
				QueueUrl: aws.String(bundle.QueueURL("LoopDeadLetterQueue")),
			})
			require.NoError(t, err)
			for _, message := range out.Messages {
				dead = append(dead, aws.ToString(message.Body))
			}
			return len(dead) > 0
		})
		require.Len(t, dead, 1)
		assert.JSONEq(t, `{"Round":17,"Last":100,"Hold":false}`, dead[0])
		assert.True(t, log.has("loop | round 16"))
		assert.Equal(t, 16, log.count("loop | round ", ""))
		eventually("the log says why", func() bool {
			return log.count("loop | queue: recursive loop: ", "moved to the dead-letter queue") == 1
		})
	})

	t.Run("and goes on where the template allows it", func(t *testing.T) {
		send("AllowedQueue", `{"Round":1,"Last":40}`)
		eventually("the last round", func() bool { return log.has("allowed | round 40") })
		assert.Equal(t, 40, log.count("allowed | round ", ""))
	})

	t.Run("two queues of a function do not keep each other waiting", func(t *testing.T) {
		bundle.PauseQueues("SlowQueue", "QuickQueue")
		for range 2 * 16 {
			send("SlowQueue", `{"Hold":true}`)
		}
		for range 3 {
			send("QuickQueue", `{"Round":1}`)
		}
		bundle.ResumeQueues("SlowQueue")
		eventually("the slow queue has all that it may have",
			func() bool { return log.count("two | 2 of ", "-slow") == 16 })
		assert.Zero(t, log.count("two | ", "-quick"), "it is paused")
		bundle.ResumeQueues("QuickQueue")
		eventually("the other queue's messages, each in a batch of its own",
			func() bool { return log.count("two | 1 of ", "-quick") == 3 })
		assert.Equal(t, 16, log.count("two | ", "-slow"), "the slow queue's are still held")
	})
}
