package engage_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/fault"
)

// set writes an attribute of a push's meta, as time would: a lease that ended, a due time that came.
func (p *pipeline) set(t *testing.T, requestID, name string, at time.Time) {
	t.Helper()
	_, err := p.items.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 aws.String(p.table),
		Key:                       dynamo.Item{"requestId": dynamo.String(requestID), "part": dynamo.String("meta")},
		UpdateExpression:          aws.String("SET #name = :at"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: dynamo.Item{":at": dynamo.Int(at.UnixMilli())},
	})
	require.NoError(t, err)
}

func (p *pipeline) meta(t *testing.T, push *engage.Push) *engage.Meta {
	t.Helper()
	meta, err := p.pushes.Meta(t.Context(), "acme", push.RequestID)
	require.NoError(t, err)
	return meta
}

func (p *pipeline) states(t *testing.T, push *engage.Push) []string {
	t.Helper()
	status, err := p.pushes.Status(t.Context(), "acme", push.RequestID, engage.MaxPage, "")
	require.NoError(t, err)
	var states []string
	for _, d := range status.Destinations {
		state := string(d.State)
		if d.Reason != nil {
			state += ": " + *d.Reason
		}
		assert.Equal(t, d.State == engage.StateDelivered, d.DeliveredAt != nil)
		states = append(states, state)
	}
	return states
}

// queued returns the messages that the queue holds, delayed ones too, and how many of them are delayed.
func (p *pipeline) queued(t *testing.T) (visible, delayed string) {
	t.Helper()
	out, err := p.messages.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: &p.queueURL, AttributeNames: []sqstypes.QueueAttributeName{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"},
	})
	require.NoError(t, err)
	return out.Attributes["ApproximateNumberOfMessages"], out.Attributes["ApproximateNumberOfMessagesDelayed"]
}

func three() []engage.Destination {
	return []engage.Destination{
		{BNumber: "+15018902001", CustomTrackingID: "a", Personalization: []engage.Variable{{Name: "MY_VAR", Text: "Hola <Ana> & \"José\""}}},
		{BNumber: "+15018902002"},
		{BNumber: "+15018902003", CustomTrackingID: "c"},
	}
}

func TestPostIsAsTheContractHasIt(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	notBefore := time.Now().Add(4 * time.Second).Truncate(time.Millisecond)
	push, chunks := p.accept(t, three(), notBefore, 3600)
	require.Empty(t, p.deliver(t, push, chunks))
	posts := p.gateway.received()
	require.Len(t, posts, 1)
	assert.Equal(t, push.RequestID+".0", posts[0].id)
	assert.False(t, posts[0].at.Before(notBefore), "never before notBefore")
	assert.WithinDuration(t, notBefore, posts[0].at, time.Second)
	const format = "2006-01-02T15:04:05.999Z07:00"
	assert.JSONEq(t, fmt.Sprintf(`{"type":"push","requestId":%q,"chunk":0,"program":{"uuid":%q,"name":"Spring","content":{"headline":"Hello"}},
		"aNumbers":["+5014008029","+5013509988"],"ttlSeconds":3600,"keepAfterCall":false,"notBefore":%q,"deliverBefore":%q,"destinations":[
		{"bNumber":"+15018902001","personalization":{"MY_VAR":"Hola <Ana> & \"José\""},"customTrackingId":"a"},
		{"bNumber":"+15018902002","personalization":{},"customTrackingId":null},
		{"bNumber":"+15018902003","personalization":{},"customTrackingId":"c"}]}`,
		push.RequestID, push.Program.UUID, notBefore.UTC().Format(format), notBefore.Add(time.Hour).UTC().Format(format)), posts[0].raw)
	assert.Equal(t, engage.PushCompleted, p.meta(t, push).State())
	assert.Zero(t, p.meta(t, push).DueAt, "out of the due index")
}

// Each row of contract.md §2, "The device gateway": what the gateway answers to the POSTs in turn, and what becomes of it.
func TestGatewayAnswers(t *testing.T) {
	t.Parallel()
	type answer = func(p posted, w http.ResponseWriter, r *http.Request)
	status := func(code int) answer {
		return func(_ posted, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	text := func(body string) answer {
		return func(_ posted, w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) }
	}
	each := func(statuses ...string) answer {
		return func(p posted, w http.ResponseWriter, _ *http.Request) {
			results(w, p, func(i int, _ string) string { return statuses[i] })
		}
	}
	const delivered, rejected, retry = `"delivered"`, `"rejected","reason":"no such device"`, `"retry"`
	all := []string{"delivered", "delivered", "delivered"}
	failed := func(code int) []string {
		reason := fmt.Sprintf("failed: the gateway answered %d", code)
		return []string{reason, reason, reason}
	}
	tests := map[string]struct {
		answers []answer
		states  []string
		ids     []string // of the POSTs, behind the request id
		sizes   []int    // destinations of each POST
	}{
		"results recorded per bNumber":      {[]answer{each(delivered, rejected, delivered)}, []string{"delivered", "rejected: no such device", "delivered"}, []string{".0"}, []int{3}},
		"retry is sent again, alone":        {[]answer{each(delivered, retry, rejected), each(delivered)}, []string{"delivered", "delivered", "rejected: no such device"}, []string{".0", ".0.1"}, []int{3, 1}},
		"no result is sent again, alone":    {[]answer{each("", delivered, ""), each(delivered, ""), each(delivered)}, all, []string{".0", ".0.1", ".0.2"}, []int{3, 2, 1}},
		"numbers that were not asked about": {[]answer{text(`{"results":[{"bNumber":"+19999999999","status":"delivered"}]}`), text("")}, all, []string{".0", ".0.1"}, []int{3, 3}},
		"2xx without a body":                {[]answer{status(204)}, all, []string{".0"}, []int{3}},
		"408, 425, 429":                     {[]answer{status(408), status(425), status(429), status(200)}, all, []string{".0", ".0", ".0", ".0"}, []int{3, 3, 3, 3}},
		"5xx":                               {[]answer{status(500), status(503), status(200)}, all, []string{".0", ".0", ".0"}, []int{3, 3, 3}},
		"5xx of an attempt":                 {[]answer{each(delivered, delivered, retry), status(502), each(delivered)}, all, []string{".0", ".0.1", ".0.1"}, []int{3, 1, 1}},
		"broken connection":                 {[]answer{func(posted, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, status(200)}, all, []string{".0", ".0"}, []int{3, 3}},
		"garbage counts as 5xx":             {[]answer{text("hello"), text("[]"), text(`{}`), status(200)}, all, []string{".0", ".0", ".0", ".0"}, []int{3, 3, 3, 3}},
		"another status word is garbage":    {[]answer{each(delivered, `"perhaps"`, delivered), status(200)}, all, []string{".0", ".0"}, []int{3, 3}},
		"too large counts as 5xx":           {[]answer{text(`{"results":[]}` + strings.Repeat(" ", 2<<20)), status(200)}, all, []string{".0", ".0"}, []int{3, 3}},
		"400":                               {[]answer{status(400)}, failed(400), []string{".0"}, []int{3}},
		"401":                               {[]answer{status(401)}, failed(401), []string{".0"}, []int{3}},
		"404 to an attempt":                 {[]answer{each(delivered, retry, delivered), status(404)}, []string{"delivered", "failed: the gateway answered 404", "delivered"}, []string{".0", ".0.1"}, []int{3, 1}},
		"redirects are not followed": {[]answer{func(_ posted, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}},
			failed(307), []string{".0"}, []int{3}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipeline(t)
			p.gateway.answer = func(n int, posted posted, w http.ResponseWriter, r *http.Request) { test.answers[n](posted, w, r) }
			push, chunks := p.accept(t, three(), time.Now(), 3600)
			require.Empty(t, p.deliver(t, push, chunks))
			assert.Equal(t, test.states, p.states(t, push))
			bodies := map[string]string{}
			var ids []string
			var sizes []int
			for _, post := range p.gateway.received() {
				ids, sizes = append(ids, strings.TrimPrefix(post.id, push.RequestID)), append(sizes, len(post.body.Destinations))
				if earlier, repeat := bodies[post.id]; repeat {
					assert.Equal(t, earlier, post.raw, "a webhook-id stands for one body")
				}
				bodies[post.id] = post.raw
			}
			assert.Equal(t, test.ids, ids)
			assert.Equal(t, test.sizes, sizes)
			counts := p.meta(t, push).Counts()
			assert.Equal(t, 3, counts.Delivered+counts.Rejected+counts.Failed)
			assert.Equal(t, engage.PushCompleted, p.meta(t, push).State())
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.gateway.answer = func(n int, _ posted, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			w.Header().Set("Retry-After", "10")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}
	push, chunks := p.accept(t, three(), time.Now(), 3600)
	require.Empty(t, p.deliver(t, push, chunks))
	posts := p.gateway.received()
	require.Len(t, posts, 2)
	assert.GreaterOrEqual(t, posts[1].at.Sub(posts[0].at), 10*time.Second)
}

func TestTheSigningSecretIsRotated(t *testing.T) {
	t.Parallel()
	for name, rotated := range map[string]bool{"a moment ago": true, "not at all": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipeline(t)
			const other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
			p.signing.kept = newSecret("0", other)
			if !rotated {
				p.signing.current = p.signing.kept
			}
			push, chunks := p.accept(t, three(), time.Now(), 3600)
			require.Empty(t, p.deliver(t, push, chunks))
			if rotated {
				assert.Equal(t, 3, p.meta(t, push).Counts().Delivered, "signed again with the secret that is current")
			} else {
				assert.Equal(t, 3, p.meta(t, push).Counts().Failed)
			}
		})
	}
}

func TestALongWaitIsLeftToTheQueue(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.gateway.answer = func(n int, _ posted, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	push, chunks := p.accept(t, three(), time.Now(), 3600)
	require.Empty(t, p.deliver(t, push, chunks))
	assert.WithinDuration(t, p.clock.Now().Add(120*time.Second), p.meta(t, push).Chunks[0].LeasedUntil, 5*time.Second)
	_, delayed := p.queued(t)
	assert.Equal(t, "1", delayed)
	p.set(t, push.RequestID, "c0", time.Now())
	require.Empty(t, p.deliver(t, push, chunks))
	assert.Equal(t, []string{"delivered", "delivered", "delivered"}, p.states(t, push))
}

func TestWhatIsTooLateExpires(t *testing.T) {
	t.Parallel()
	t.Run("before it was sent", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, three(), time.Now().Add(-2*time.Second), 1)
		require.Empty(t, p.deliver(t, push, chunks))
		assert.Empty(t, p.gateway.received())
		assert.Equal(t, 3, p.meta(t, push).Counts().Expired)
		assert.Equal(t, engage.PushCompleted, p.meta(t, push).State())
	})
	t.Run("while the gateway is down", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		p.gateway.answer = func(_ int, _ posted, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
		push, chunks := p.accept(t, three(), time.Now(), 4) // short enough that no wait is left to the queue, whatever its jitter
		require.Empty(t, p.deliver(t, push, chunks))
		assert.Greater(t, len(p.gateway.received()), 3)
		for _, post := range p.gateway.received() {
			assert.False(t, post.at.After(push.NotBefore.Add(4*time.Second)), "nothing is sent after notBefore + ttlSeconds")
		}
		assert.Equal(t, 3, p.meta(t, push).Counts().Expired)
	})
}

func TestADuplicateMessageDoesNothing(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	push, _ := p.accept(t, three(), time.Now(), 3600)
	var event events.SQSEvent
	for range 10 {
		event.Records = append(event.Records, message(push, 0))
	}
	for range 2 {
		response, err := p.deliverer.Handle(t.Context(), event)
		require.NoError(t, err)
		assert.Empty(t, response.BatchItemFailures)
	}
	assert.Len(t, p.gateway.received(), 1)
}

func TestMessagesThatAreNone(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	push, _ := p.accept(t, three(), time.Now(), 3600)
	response, err := p.deliverer.Handle(t.Context(), events.SQSEvent{Records: []events.SQSMessage{
		{MessageId: "no JSON", Body: "hello"}, {MessageId: "no push", Body: `{"requestId":"x","chunk":0}`},
		{MessageId: "no such chunk", Body: fmt.Sprintf(`{"requestId":%q,"chunk":7}`, push.RequestID)},
		{MessageId: "negative", Body: fmt.Sprintf(`{"requestId":%q,"chunk":-1}`, push.RequestID)}, message(push, 0),
	}})
	require.NoError(t, err)
	var failed []string
	for _, failure := range response.BatchItemFailures {
		failed = append(failed, failure.ItemIdentifier)
	}
	assert.Equal(t, []string{"no JSON", "negative"}, failed, "these end among the dead letters")
	assert.Len(t, p.gateway.received(), 1)
}

func TestAProcessThatDied(t *testing.T) {
	t.Parallel()
	past := func() time.Time { return time.Now().Add(-time.Second) }
	t.Run("after the claim", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, three(), time.Now(), 3600)
		_, _, _, err := p.pushes.Claim(t.Context(), push.RequestID, 0, time.Now(), time.Now().Add(time.Minute))
		require.NoError(t, err)
		require.Empty(t, p.deliver(t, push, chunks))
		assert.Empty(t, p.gateway.received(), "the lease holds")
		p.set(t, push.RequestID, "c0", past())
		require.Empty(t, p.deliver(t, push, chunks))
		require.Len(t, p.gateway.received(), 1)
		assert.Equal(t, push.RequestID+".0", p.gateway.received()[0].id)
	})
	t.Run("before the next attempt", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, three(), time.Now(), 3600)
		lease, _, _, err := p.pushes.Claim(t.Context(), push.RequestID, 0, time.Now().Add(-time.Minute), past())
		require.NoError(t, err)
		delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: time.Now()}
		progress := engage.Progress{Attempt: 1, Results: []engage.Result{delivered, {}, delivered}}
		require.NoError(t, p.pushes.SaveProgress(t.Context(), lease, progress, time.Now().Add(time.Hour)))
		require.Empty(t, p.deliver(t, push, chunks))
		posts := p.gateway.received()
		require.Len(t, posts, 1)
		assert.Equal(t, push.RequestID+".0.1", posts[0].id, "the next attempt, and only what it is about")
		require.Len(t, posts[0].body.Destinations, 1)
		assert.Equal(t, "+15018902002", posts[0].body.Destinations[0].BNumber)
		assert.Equal(t, []string{"delivered", "delivered", "delivered"}, p.states(t, push))
		// Should it live after all, its lease is none any more.
		assert.True(t, fault.Is(p.pushes.SaveProgress(t.Context(), lease, progress, time.Now()), fault.Conflict))
		assert.True(t, fault.Is(p.pushes.Park(t.Context(), lease, time.Now()), fault.Conflict))
		_, err = p.pushes.Finish(t.Context(), lease, engage.Counts{}, false)
		assert.True(t, fault.Is(err, fault.Conflict))
	})
	t.Run("after a long lease was parked", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, three(), time.Now(), 3600)
		lease, _, _, err := p.pushes.Claim(t.Context(), push.RequestID, 0, time.Now(), time.Now().Add(time.Hour))
		require.NoError(t, err)
		delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: time.Now()}
		require.NoError(t, p.pushes.SaveProgress(t.Context(), lease, engage.Progress{Attempt: 1, Results: []engage.Result{delivered, delivered, {}}}, time.Now().Add(time.Hour)))
		require.NoError(t, p.pushes.Park(t.Context(), lease, time.Now()))
		p.clock.ahead.Add(int64(time.Second)) // on the deliverer's clock
		require.Empty(t, p.deliver(t, push, chunks))
		assert.Equal(t, 3, p.meta(t, push).Counts().Delivered, "the next lease is the later one, though it ends before the parked one would have")
	})
	t.Run("between results and counts", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		push, chunks := p.accept(t, three(), time.Now(), 3600)
		lease, _, _, err := p.pushes.Claim(t.Context(), push.RequestID, 0, time.Now().Add(-time.Minute), past())
		require.NoError(t, err)
		delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: time.Now()}
		require.NoError(t, p.pushes.SaveProgress(t.Context(), lease, engage.Progress{Results: []engage.Result{delivered, delivered, delivered}}, time.Now().Add(time.Hour)))
		require.Empty(t, p.deliver(t, push, chunks))
		assert.Empty(t, p.gateway.received(), "nothing is sent twice")
		assert.Equal(t, 3, p.meta(t, push).Counts().Delivered)
		assert.Zero(t, p.meta(t, push).DueAt)
	})
}
