package schedule_test

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/schedule"
	"carillon/shared/engage/store"
)

// jobs takes what a queue holds.
func jobs(t *testing.T, p *engagetest.Pipeline, url string) []engage.Job {
	t.Helper()
	var all []engage.Job
	for {
		out, err := p.Messages.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &url, MaxNumberOfMessages: 10, VisibilityTimeout: 600,
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		require.NoError(t, err)
		if len(out.Messages) == 0 {
			return all
		}
		for _, m := range out.Messages {
			var job engage.Job
			require.NoError(t, json.Unmarshal([]byte(*m.Body), &job))
			assert.Equal(t, engagetest.Tenant, m.Attributes["MessageGroupId"], "the queue is fair by tenant")
			_, err := p.Messages.DeleteMessage(
				t.Context(),
				&sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle},
			)
			require.NoError(t, err)
			all = append(all, job)
		}
	}
}

// drain hands what the queues hold to the deliverer, and what comes of that. It returns how many jobs the queues held.
func drain(t *testing.T, p *engagetest.Pipeline) int {
	t.Helper()
	all := append(jobs(t, p, p.URLs.Delivery), jobs(t, p, p.URLs.Retry)...)
	for _, job := range all {
		require.Empty(t, p.Handle(t, engagetest.MessageOf(t, job)))
	}
	require.Empty(t, p.Drain(t))
	return len(all)
}

// due lets a push be looked at now.
func due(t *testing.T, p *engagetest.Pipeline, push *engage.Push) {
	t.Helper()
	p.Set(t, push.RequestID, "dueAt", p.Clock.Now())
}

// claim takes the lease of a chunk, as a process that dies then.
func claim(t *testing.T, p *engagetest.Pipeline, push *engage.Push, chunk int) store.Lease {
	t.Helper()
	now := p.Clock.Now()
	lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, chunk, now, now, now.Add(20*time.Second))
	require.NoError(t, err)
	return lease
}

func sweep(t *testing.T, p *engagetest.Pipeline) {
	t.Helper()
	require.NoError(t, p.Scheduler.Sweep(t.Context()))
}

func TestSweep(t *testing.T) {
	t.Parallel()
	t.Run("brings home what the queue lost", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.RealisticDestinations(1_200), p.Clock.Now(), 3600)
		sweep(t, p)
		assert.Zero(t, drain(t, p), "it is not due for a second look yet")
		p.Clock.Advance(30 * time.Second)
		sweep(t, p)
		sweep(t, p)
		assert.Equal(t, 3, drain(t, p), "a message for each chunk, once")
		assert.Equal(t, 1_200, p.Meta(t, push).Counts().Delivered)
		assert.Len(t, p.Gateway.Received(), 3)
	})
	t.Run("leaves alone what is leased, waits, has ended or was cancelled", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.RealisticDestinations(2_000), p.Clock.Now(), 3600)
		p.Clock.Advance(28 * time.Second)
		claim(t, p, push, 0)
		delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: p.Clock.Now()}
		_, err := p.Pushes.Finish(t.Context(), claim(t, p, push, 1), push.NotBefore, engage.Counts{}, delivered, false)
		require.NoError(t, err)
		wait := engage.ChunkState{Until: p.Clock.Now().Add(time.Minute), Tries: 3}
		require.NoError(t, p.Pushes.Wait(t.Context(), claim(t, p, push, 2), wait))
		p.Clock.Advance(2 * time.Second)
		due(t, p, push)
		sweep(t, p)
		assert.Equal(t, 1, drain(t, p), "the one that nobody is at")

		p.Clock.Advance(50 * time.Second)
		due(t, p, push)
		sweep(t, p)
		assert.Equal(t, 1, drain(t, p), "the one whose process died")
		assert.Equal(t, 1_500, p.Meta(t, push).Counts().Delivered)

		p.Clock.Advance(50 * time.Second)
		due(t, p, push)
		sweep(t, p)
		assert.Equal(t, 1, drain(t, p), "the one that waited")
		assert.Equal(t, 2_000, p.Meta(t, push).Counts().Delivered)

		push, _ = p.Accept(t, engagetest.RealisticDestinations(600), p.Clock.Now(), 3600)
		claim(t, p, push, 0)
		_, err = p.Pushes.Cancel(t.Context(), engagetest.Tenant, push.RequestID, p.Clock.Now())
		require.NoError(t, err)
		p.Clock.Advance(50 * time.Second)
		due(t, p, push)
		sweep(t, p)
		assert.Equal(t, 1, drain(t, p), "what was in a POST when the push was cancelled is ended")
		assert.Equal(t, 600, p.Meta(t, push).Counts().Cancelled)
		assert.Zero(t, p.Meta(t, push).DueAt)
	})
	t.Run("closes what is final", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
		delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: p.Clock.Now()}
		_, err := p.Pushes.Finish(t.Context(), claim(t, p, push, 0), push.NotBefore, engage.Counts{}, delivered, false)
		require.NoError(t, err)
		due(t, p, push)
		sweep(t, p)
		assert.Zero(t, p.Meta(t, push).DueAt)
	})
	t.Run("works through pages, and delays what is not due", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		for range 120 {
			push, _ := p.Accept(t, engagetest.Three()[:1], p.Clock.Now().Add(2*time.Minute), 3600)
			p.Set(t, push.RequestID, "dueAt", p.Clock.Now().Add(-time.Minute))
		}
		sweep(t, p)
		visible, delayed := p.Queued(t, p.URLs.Delivery)
		assert.Equal(t, []string{"0", "120"}, []string{visible, delayed})
	})
}

// A push that is due later is on time in spite of one sweep that fails, is missed, or dies, and its jobs come once.
func TestAPushThatIsDueLater(t *testing.T) {
	t.Parallel()
	t.Run("SQS fails", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(time.Hour), 3600)
		p.Clock.Advance(time.Hour - 100*time.Second)
		delivery := p.Scheduler.Queue
		p.Scheduler.Queue = schedule.NewQueue(
			p.Messages,
			schedule.URLs{Delivery: "http://127.0.0.1:1/none", Retry: p.URLs.Retry},
			p.Clock,
		)
		require.Error(t, p.Scheduler.Sweep(t.Context()))
		p.Scheduler.Queue = delivery
		p.Clock.Advance(time.Minute)
		sweep(t, p)
		_, delayed := p.Queued(t, p.URLs.Delivery)
		assert.Equal(t, "1", delayed)
		assert.True(t, p.Meta(t, push).DueAt.After(push.NotBefore))
		p.Clock.Advance(time.Second)
		sweep(t, p)
		_, delayed = p.Queued(t, p.URLs.Delivery)
		assert.Equal(t, "1", delayed, "once")
	})
	t.Run("a sweep is missed", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(time.Hour), 3600)
		p.Clock.Advance(time.Hour - 151*time.Second)
		sweep(t, p)
		_, delayed := p.Queued(t, p.URLs.Delivery)
		require.Equal(t, "0", delayed, "its time has not come")
		p.Clock.Advance(2 * time.Minute)
		sweep(t, p)
		_, delayed = p.Queued(t, p.URLs.Delivery)
		assert.Equal(t, "1", delayed)
		assert.True(t, p.Clock.Now().Before(push.NotBefore))
	})
}

// A sweep does not double what waits for a function that has time for it, however long that takes.
func TestASweepBesideABacklog(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	p.Accept(t, engagetest.Three(), p.Clock.Now(), 86_400)
	const others = 110
	backlog := make([]engage.Job, others)
	for i := range backlog {
		backlog[i] = engage.NewJob(engagetest.Tenant, uuid.NewString(), 0, p.Clock.Now())
	}
	require.NoError(t, p.Scheduler.Queue.Send(t.Context(), backlog...))
	for range 120 {
		p.Clock.Advance(time.Minute)
		sweep(t, p)
	}
	waiting, _ := p.Queued(t, p.URLs.Delivery)
	n, err := strconv.Atoi(waiting)
	require.NoError(t, err)
	assert.Greater(t, n, others, "it was sent again")
	assert.LessOrEqual(t, n, others+8, "after two hours")
}

// What waits for a moment between two polls is no backlog: a lost job beside it is sent again at once.
func TestASweepBesideAFewJobs(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	require.NoError(
		t,
		p.Scheduler.Queue.Send(t.Context(), engage.NewJob(push.Tenant, uuid.NewString(), 0, p.Clock.Now())),
	)
	p.Clock.Advance(30 * time.Second)
	sweep(t, p)
	assert.Len(t, jobs(t, p, p.URLs.Delivery), 2)
}

// DynamoDB's indexes are eventually consistent: one that still shows a push as due that was looked at a moment ago does
// not make its jobs come twice.
func TestASweepOverAnIndexOfAMomentAgo(t *testing.T) {
	t.Parallel()
	var stale atomic.Bool
	var before sync.Map // a partition's last answer that was not empty
	p := engagetest.New(t, func(o *dynamodb.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
			return s.Initialize.Add(middleware.InitializeMiddlewareFunc("StaleIndex", func(
				ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
			) (middleware.InitializeOutput, middleware.Metadata, error) {
				query, is := in.Parameters.(*dynamodb.QueryInput)
				if !is {
					return next.HandleInitialize(ctx, in)
				}
				partition := query.ExpressionAttributeValues[":partition"].(*ddbtypes.AttributeValueMemberS).Value
				if kept, there := before.Load(partition); there && stale.CompareAndSwap(true, false) {
					return middleware.InitializeOutput{Result: kept}, middleware.Metadata{}, nil
				}
				out, metadata, err := next.HandleInitialize(ctx, in)
				if result, ok := out.Result.(*dynamodb.QueryOutput); ok && len(result.Items) > 0 {
					before.Store(partition, result)
				}
				return out, metadata, err
			}), middleware.Before)
		})
	})
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(time.Hour), 3600)
	p.Clock.Advance(time.Hour - 100*time.Second)
	stale.Store(true)
	sweep(t, p)
	assert.False(t, stale.Load(), "the index was behind")
	_, delayed := p.Queued(t, p.URLs.Delivery)
	assert.Equal(t, "1", delayed)
	assert.True(t, p.Meta(t, push).DueAt.After(push.NotBefore))
}
