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

// Of claims whose leases end at the very same time one holds, first or later.
func TestClaimsThatEndAtTheSameTime(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	for range 2 {
		now := p.Clock.Now()
		held := 0
		for range 20 {
			_, _, _, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now.Add(engage.LeaseTime))
			switch {
			case err == nil:
				held++
			default:
				require.True(t, fault.Is(err, fault.Conflict), "%v", err)
			}
		}
		assert.Equal(t, 1, held)
		assert.Equal(t, now.Add(engage.LeaseTime), p.Meta(t, push).Chunks[0].LeasedUntil)
		p.Clock.Advance(engage.LeaseTime)
	}
}

// The SDK repeats a claim, a release and a chunk's end whose answer was lost: each finds itself done.
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
	claim := func(first bool) {
		lose.Store(true)
		now := p.Clock.Now()
		lease, _, isFirst, err := p.Pushes.Claim(t.Context(), push.RequestID, 0, now, now.Add(engage.LeaseTime))
		require.NoError(t, err)
		require.False(t, lose.Load(), "no answer was lost")
		assert.Equal(t, first, isFirst)
		lose.Store(true)
		if first {
			require.NoError(t, p.Pushes.Release(t.Context(), lease, now))
			return
		}
		meta, err := p.Pushes.Finish(t.Context(), lease, engage.Counts{Total: 3, Delivered: 3}, true)
		require.NoError(t, err)
		assert.True(t, meta.Finished())
	}
	claim(true)
	p.Clock.Advance(time.Millisecond)
	lose.Store(false)
	claim(false)
}
