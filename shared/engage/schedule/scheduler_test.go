package schedule_test

import (
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
)

func TestSweep(t *testing.T) {
	t.Parallel()
	// drain hands what the queue holds to the deliverer.
	drain := func(t *testing.T, p *engagetest.Pipeline) int {
		t.Helper()
		total := 0
		for {
			out, err := p.Messages.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
				QueueUrl: &p.QueueURL, MaxNumberOfMessages: 10, VisibilityTimeout: 600,
			})
			require.NoError(t, err)
			if len(out.Messages) == 0 {
				return total
			}
			var event events.SQSEvent
			for _, m := range out.Messages {
				event.Records = append(event.Records, events.SQSMessage{MessageId: *m.MessageId, Body: *m.Body})
			}
			total += len(out.Messages)
			response, err := p.Deliverer.Handle(t.Context(), event)
			require.NoError(t, err)
			require.Empty(t, response.BatchItemFailures)
		}
	}
	t.Run("brings home what the queue lost", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.RealisticDestinations(1_200), p.Clock.Now(), 3600)
		require.NoError(t, p.Scheduler.Sweep(t.Context()))
		assert.Zero(t, drain(t, p), "it is not due for a second look yet")
		p.Set(t, push.RequestID, "dueAt", p.Clock.Now())
		require.NoError(t, p.Scheduler.Sweep(t.Context()))
		require.NoError(t, p.Scheduler.Sweep(t.Context()))
		assert.Equal(t, 3, drain(t, p), "a message for each chunk, once")
		assert.Equal(t, 1_200, p.Meta(t, push).Counts().Delivered)
		assert.Len(t, p.Gateway.Received(), 3)
	})
	t.Run("leaves alone what is leased, final or cancelled", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.RealisticDestinations(2_000), p.Clock.Now(), 3600)
		now := p.Clock.Now()
		_, _, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now.Add(time.Minute))
		require.NoError(t, err)
		lease, _, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 1, now, now.Add(time.Minute))
		require.NoError(t, err)
		_, err = p.Pushes.Finish(t.Context(), lease, engage.Counts{Delivered: 500}, false)
		require.NoError(t, err)
		_, err = p.Pushes.Cancel(t.Context(), "acme", push.RequestID, p.Clock.Now())
		require.NoError(t, err)
		p.Set(t, push.RequestID, "dueAt", p.Clock.Now())
		require.NoError(t, p.Scheduler.Sweep(t.Context()))
		assert.Zero(t, drain(t, p))
		p.Set(t, push.RequestID, "c0", p.Clock.Now().Add(-time.Second))
		p.Set(t, push.RequestID, "dueAt", p.Clock.Now())
		require.NoError(t, p.Scheduler.Sweep(t.Context()))
		assert.Equal(t, 1, drain(t, p), "a claimed chunk goes on, cancelled or not")
		assert.Equal(t, engage.Counts{Total: 2_000, Delivered: 1_000, Cancelled: 1_000}, p.Meta(t, push).Counts())
	})
	t.Run("closes what is final", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		for i := range chunks {
			now := p.Clock.Now()
			lease, _, _, err := p.Pushes.Claim(t.Context(), push.RequestID, i, now, now.Add(time.Minute))
			require.NoError(t, err)
			_, err = p.Pushes.Finish(t.Context(), lease, engage.Counts{Delivered: 3}, false)
			require.NoError(t, err)
		}
		p.Set(t, push.RequestID, "dueAt", p.Clock.Now())
		require.NoError(t, p.Scheduler.Sweep(t.Context()))
		assert.Zero(t, p.Meta(t, push).DueAt)
	})
	t.Run("works through pages, and delays what is not due", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		for range 120 {
			push, _ := p.Accept(t, engagetest.Three()[:1], p.Clock.Now().Add(2*time.Minute), 3600)
			p.Set(t, push.RequestID, "dueAt", p.Clock.Now().Add(-time.Minute))
		}
		require.NoError(t, p.Scheduler.Sweep(t.Context()))
		visible, delayed := p.Queued(t)
		assert.Equal(t, []string{"0", "120"}, []string{visible, delayed})
	})
}
