package store_test

import (
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
)

// docs/contract.md §2, status: counts and rows are of one source, on each page. (Found by the simulation, seed 403451.)
func TestStatusPagesOfAPushThatAProcessLeft(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	destinations := engagetest.RealisticDestinations(600)
	push, _ := p.Accept(t, destinations, p.Clock.Now(), 3600)
	now := p.Clock.Now()
	lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(time.Minute))
	require.NoError(t, err)
	results := make([]engage.Result, 500)
	for i := range 300 {
		results[i] = engage.Result{State: engage.StateDelivered, DeliveredAt: now}
	}
	require.NoError(
		t,
		p.Pushes.SaveProgress(t.Context(), lease, store.Progress{Results: results}, push.DeliverBefore()),
	)
	p.Clock.Advance(2 * time.Minute) // it died, and its lease is over
	_, err = p.Pushes.Cancel(t.Context(), engagetest.Tenant, push.RequestID, p.Clock.Now())
	require.NoError(t, err)
	want := engage.Counts{Total: 600, Delivered: 300, Cancelled: 300}
	for next, pages := "", 1; ; pages++ {
		page, err := p.Pushes.Page(t.Context(), engagetest.Tenant, push.RequestID, 500, next)
		require.NoError(t, err)
		assert.Equal(t, want, page.Meta.Counts(), "page %d", pages)
		if next = page.Next; next == "" {
			assert.Equal(t, 2, pages)
			break
		}
	}
}

func TestStatusPages(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	destinations := engagetest.RealisticDestinations(1_100)
	push, _ := p.Accept(t, destinations, p.Clock.Now(), 3600)
	second := events.SQSEvent{Records: []events.SQSMessage{engagetest.Message(push, 1)}}
	response, err := p.Deliverer.Handle(t.Context(), second)
	require.NoError(t, err)
	require.Empty(t, response.BatchItemFailures)
	var seen []string
	next := ""
	for pages := 1; ; pages++ {
		page, err := p.Pushes.Page(t.Context(), "acme", push.RequestID, 300, next)
		require.NoError(t, err)
		assert.Equal(t, engage.Counts{Total: 1_100, Pending: 600, Delivered: 500}, page.Meta.Counts())
		assert.Equal(t, engage.PushDelivering, page.Meta.State())
		for _, d := range page.Rows {
			want := engage.StatePending
			if len(seen) >= 500 && len(seen) < 1_000 {
				want = engage.StateDelivered
			}
			assert.Equal(t, want, d.State, len(seen))
			seen = append(seen, d.BNumber)
		}
		if page.Next == "" {
			assert.Equal(t, 4, pages)
			break
		}
		next = page.Next
	}
	for i, d := range destinations {
		require.Equal(t, d.BNumber, seen[i], "in the order sent")
	}
	for _, bad := range []string{"x", "!", "AAAA", "/////w"} {
		_, err := p.Pushes.Page(t.Context(), "acme", push.RequestID, 300, bad)
		assert.True(t, fault.Is(err, fault.Invalid), bad)
	}
}
