package store_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/fault"
)

const leaseTime = 20 * time.Second

// Of claims whose leases end at the very same time one holds, first or later.
func TestClaimsThatEndAtTheSameTime(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	for range 2 {
		now := p.Clock.Now()
		held := 0
		for range 20 {
			_, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(leaseTime))
			switch {
			case err == nil:
				held++
			default:
				require.True(t, fault.Is(err, fault.Conflict), "%v", err)
			}
		}
		assert.Equal(t, 1, held)
		chunk := p.Meta(t, push).Chunks[0]
		assert.Equal(t, engage.Leased, chunk.Phase)
		assert.Equal(t, now.Add(leaseTime), chunk.Until)
		p.Clock.Advance(leaseTime)
	}
}

// The SDK repeats a claim, a wait and a chunk's end, a new due time and a cancellation, whose answer was lost: each
// finds itself done.
func TestWritesWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	var lose atomic.Bool
	endpoint := emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "UpdateItem" || !lose.CompareAndSwap(true, false) {
				return false
			}
			call.Send(call.Body)
			w.WriteHeader(http.StatusInternalServerError)
			return true
		})
	p := engagetest.New(t, func(o *dynamodb.Options) { o.BaseEndpoint = aws.String(endpoint) })
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	lost := func(what string, err error) {
		t.Helper()
		require.NoError(t, err, what)
		require.False(t, lose.Load(), "no answer was lost: %s", what)
		lose.Store(true)
	}
	lose.Store(true)
	now := p.Clock.Now()
	due := p.Meta(t, push).DueAt
	lost("a new due time", p.Pushes.Postpone(t.Context(), push.RequestID, due, due.Add(time.Minute), now))
	lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(leaseTime))
	lost("the first claim", err)
	state := engage.ChunkState{Until: now, Tries: 2, Last: 503}
	lost("a wait", p.Pushes.Wait(t.Context(), lease, state))
	lease, _, err = p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(leaseTime))
	lost("a later claim", err)
	assert.Equal(t, 2, lease.Before.Tries)
	delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: now.Add(time.Second)}
	meta, err := p.Pushes.Finish(t.Context(), lease, push.NotBefore, engage.Counts{}, delivered, true)
	lost("the end", err)
	assert.True(t, meta.Finished())
	assert.Equal(t, delivered.DeliveredAt, meta.Chunks[0].Rest.DeliveredAt)
	other, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	meta, err = p.Pushes.Cancel(t.Context(), engagetest.Tenant, other.RequestID, now)
	require.NoError(t, err)
	assert.Equal(t, 3, meta.Counts().Cancelled)
}

// Of two who postpone the same push one does.
func TestPostponeOfWhatAnotherHasPostponed(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	seen := p.Meta(t, push).DueAt
	require.NoError(t, p.Pushes.Postpone(t.Context(), push.RequestID, seen, seen.Add(time.Minute), time.Time{}))
	err := p.Pushes.Postpone(t.Context(), push.RequestID, seen, seen.Add(time.Hour), time.Time{})
	assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.NoError(t, p.Pushes.Close(t.Context(), push.RequestID))
	err = p.Pushes.Postpone(t.Context(), push.RequestID, seen.Add(time.Minute), seen.Add(time.Hour), time.Time{})
	assert.True(t, fault.Is(err, fault.Conflict), "a closed push stays closed: %v", err)
	assert.Zero(t, p.Meta(t, push).DueAt)
}

// What is kept of a chunk comes back as it was.
func TestChunkStates(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	for name, state := range map[string]engage.ChunkState{
		"nothing":    {},
		"tries":      {Tries: 7, Last: engage.TimedOut},
		"attempts":   {Attempt: 2, Last: engage.NoResult, Counts: engage.Counts{Delivered: 1, Failed: 1}},
		"all of it":  {Attempt: 4, Tries: 70, Last: 503, Counts: engage.Counts{Delivered: 1, Rejected: 1}},
		"a far wait": {Tries: 1, Last: 429},
	} {
		t.Run(name, func(t *testing.T) {
			push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
			now := p.Clock.Now()
			lease, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now, now.Add(leaseTime))
			require.NoError(t, err)
			state.Until = now.Add(28 * 24 * time.Hour)
			require.NoError(t, p.Pushes.Wait(t.Context(), lease, state))
			state.Phase = engage.Waiting
			state.Counts.Total = 3
			state.Counts.Pending = 3 - state.Counts.Delivered - state.Counts.Rejected - state.Counts.Failed
			assert.Equal(t, state, p.Meta(t, push).Chunks[0])
			_, _, err = p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now.Add(time.Hour), now.Add(2*time.Hour))
			require.True(t, fault.Is(err, fault.Conflict), "a job that is due before the wait ends: %v", err)
			lease, _, err = p.Pushes.Claim(
				t.Context(),
				push.RequestID,
				0,
				state.Until,
				state.Until,
				state.Until.Add(leaseTime),
			)
			require.NoError(t, err)
			assert.Equal(t, state, lease.Before)
			assert.Equal(t, 1, lease.Claims)
			leased := p.Meta(t, push).Chunks[0]
			assert.Equal(t, engage.Leased, leased.Phase)
			assert.Equal(t, []int{state.Attempt, state.Tries, 1}, []int{leased.Attempt, leased.Tries, leased.Claims})
			assert.Equal(t, state.Counts, leased.Counts)
			rest := engage.Result{State: engage.StateFailed, Reason: "the gateway | said 418"}
			_, err = p.Pushes.Finish(t.Context(), lease, push.NotBefore, state.Counts, rest, false)
			require.NoError(t, err)
			final := p.Meta(t, push).Chunks[0]
			assert.Equal(t, engage.Final, final.Phase)
			assert.Equal(t, rest, final.Rest)
			want := state.Counts
			want.Failed, want.Pending = want.Failed+want.Pending, 0
			assert.Equal(t, want, final.Counts)
		})
	}
}
