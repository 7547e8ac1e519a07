package engage_test

import (
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
)

func TestSweep(t *testing.T) {
	t.Parallel()
	// drain hands what the queue holds to the deliverer.
	drain := func(t *testing.T, p *pipeline) int {
		t.Helper()
		total := 0
		for {
			out, err := p.messages.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &p.queueURL, MaxNumberOfMessages: 10, VisibilityTimeout: 600})
			require.NoError(t, err)
			if len(out.Messages) == 0 {
				return total
			}
			var event events.SQSEvent
			for _, m := range out.Messages {
				event.Records = append(event.Records, events.SQSMessage{MessageId: *m.MessageId, Body: *m.Body})
			}
			total += len(out.Messages)
			response, err := p.deliverer.Handle(t.Context(), event)
			require.NoError(t, err)
			require.Empty(t, response.BatchItemFailures)
		}
	}
	t.Run("brings home what the queue lost", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, _ := p.accept(t, realisticDestinations(1_200), time.Now(), 3600)
		require.NoError(t, p.scheduler.Sweep(t.Context()))
		assert.Zero(t, drain(t, p), "it is not due for a second look yet")
		p.set(t, push.RequestID, "dueAt", time.Now())
		require.NoError(t, p.scheduler.Sweep(t.Context()))
		require.NoError(t, p.scheduler.Sweep(t.Context()))
		assert.Equal(t, 3, drain(t, p), "a message for each chunk, once")
		assert.Equal(t, 1_200, p.meta(t, push).Counts().Delivered)
		assert.Len(t, p.gateway.received(), 3)
	})
	t.Run("leaves alone what is leased, final or cancelled", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, _ := p.accept(t, realisticDestinations(2_000), time.Now(), 3600)
		_, _, _, err := p.pushes.Claim(t.Context(), push.RequestID, 0, time.Now(), time.Now().Add(time.Minute))
		require.NoError(t, err)
		lease, _, _, err := p.pushes.Claim(t.Context(), push.RequestID, 1, time.Now(), time.Now().Add(time.Minute))
		require.NoError(t, err)
		_, err = p.pushes.Finish(t.Context(), lease, engage.Counts{Delivered: 500}, false)
		require.NoError(t, err)
		_, err = p.pushes.Cancel(t.Context(), "acme", push.RequestID, time.Now())
		require.NoError(t, err)
		p.set(t, push.RequestID, "dueAt", time.Now())
		require.NoError(t, p.scheduler.Sweep(t.Context()))
		assert.Zero(t, drain(t, p))
		p.set(t, push.RequestID, "c0", time.Now().Add(-time.Second))
		p.set(t, push.RequestID, "dueAt", time.Now())
		require.NoError(t, p.scheduler.Sweep(t.Context()))
		assert.Equal(t, 1, drain(t, p), "a claimed chunk goes on, cancelled or not")
		assert.Equal(t, engage.Counts{Total: 2_000, Delivered: 1_000, Cancelled: 1_000}, p.meta(t, push).Counts())
	})
	t.Run("closes what is final", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, three(), time.Now(), 3600)
		for i := range chunks {
			lease, _, _, err := p.pushes.Claim(t.Context(), push.RequestID, i, time.Now(), time.Now().Add(time.Minute))
			require.NoError(t, err)
			_, err = p.pushes.Finish(t.Context(), lease, engage.Counts{Delivered: 3}, false)
			require.NoError(t, err)
		}
		p.set(t, push.RequestID, "dueAt", time.Now())
		require.NoError(t, p.scheduler.Sweep(t.Context()))
		assert.Zero(t, p.meta(t, push).DueAt)
	})
	t.Run("works through pages, and delays what is not due", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		for range 120 {
			push, _ := p.accept(t, three()[:1], time.Now().Add(2*time.Minute), 3600)
			p.set(t, push.RequestID, "dueAt", time.Now().Add(-time.Minute))
		}
		require.NoError(t, p.scheduler.Sweep(t.Context()))
		visible, delayed := p.queued(t)
		assert.Equal(t, []string{"0", "120"}, []string{visible, delayed})
	})
}

func TestFirstDue(t *testing.T) {
	for name, test := range map[string]struct {
		ahead, due time.Duration
		enqueue    bool
	}{
		"now":                     {0, 30 * time.Second, true},
		"past":                    {-time.Hour, 30 * time.Second, true},
		"as far as SQS delays":    {15 * time.Minute, 15*time.Minute + 30*time.Second, true},
		"farther than SQS delays": {15*time.Minute + time.Second, 15*time.Minute + time.Second - 150*time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			due, enqueue := engage.FirstDue(now, now.Add(test.ahead))
			assert.Equal(t, now.Add(test.due), due)
			assert.Equal(t, test.enqueue, enqueue)
		})
	}
}
