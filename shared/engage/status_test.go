package engage_test

import (
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/fault"
)

func TestStatusPages(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	destinations := realisticDestinations(1_100)
	push, _ := p.accept(t, destinations, time.Now(), 3600)
	response, err := p.deliverer.Handle(t.Context(), events.SQSEvent{Records: []events.SQSMessage{message(push, 1)}})
	require.NoError(t, err)
	require.Empty(t, response.BatchItemFailures)
	var seen []string
	next := ""
	for pages := 1; ; pages++ {
		status, err := p.pushes.Status(t.Context(), "acme", push.RequestID, 300, next)
		require.NoError(t, err)
		assert.Equal(t, engage.Counts{Total: 1_100, Pending: 600, Delivered: 500}, status.Counts)
		assert.Equal(t, engage.PushDelivering, status.State)
		for _, d := range status.Destinations {
			want := engage.StatePending
			if len(seen) >= 500 && len(seen) < 1_000 {
				want = engage.StateDelivered
			}
			assert.Equal(t, want, d.State, len(seen))
			seen = append(seen, d.BNumber)
		}
		if status.Next == nil {
			assert.Equal(t, 4, pages)
			break
		}
		next = *status.Next
	}
	for i, d := range destinations {
		require.Equal(t, d.BNumber, seen[i], "in the order sent")
	}
	for _, bad := range []string{"x", "!", "AAAA", "/////w"} {
		_, err := p.pushes.Status(t.Context(), "acme", push.RequestID, 300, bad)
		assert.True(t, fault.Is(err, fault.Invalid), bad)
	}
}
