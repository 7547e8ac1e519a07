package deliver_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
)

func TestTheSigningSecretIsRotated(t *testing.T) {
	t.Parallel()
	for name, rotated := range map[string]bool{"a moment ago": true, "not at all": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := engagetest.New(t)
			const other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
			p.Signing.Kept = engagetest.NewSecret("0", other)
			if !rotated {
				p.Signing.Current = p.Signing.Kept
			}
			push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
			require.Empty(t, p.Deliver(t, push, chunks))
			if rotated {
				assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered, "signed again with the secret that is current")
			} else {
				assert.Equal(t, 3, p.Meta(t, push).Counts().Failed)
			}
		})
	}
}

// What cannot be signed or read ends in a state that says so.
func TestWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	t.Run("for want of a signing secret", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		p.Signing.Kept = engagetest.NewSecret("1", "not a secret")
		p.Signing.Current = p.Signing.Kept
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 60)
		require.Empty(t, p.Deliver(t, push, chunks))
		assert.Equal(t, []string{
			"expired: not delivered before notBefore + ttlSeconds; " +
				"the gateway's last answer: none, for the signing secret is unusable",
		}, slices.Compact(p.States(t, push)))
		assert.NotEmpty(t, p.Log.Lines(t, "a push cannot be signed"))
		assert.Less(t, len(p.Log.Lines(t, "a push cannot be signed")), 30)
	})
	t.Run("and not before its time once it can", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		good := p.Signing.Current
		p.Signing.Kept = engagetest.NewSecret("0", "not a secret")
		for range 10 { // whatever the jitter of the wait
			p.Signing.Kept = engagetest.NewSecret("0", "not a secret")
			push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now().Add(3*time.Second), 60)
			handle(t, p, push, chunks)
			assert.True(t, p.Clock.Now().Before(push.NotBefore), "it is still early")
			p.Signing.Kept = good
			require.Empty(t, p.Drain(t))
			posts := p.Gateway.Received()
			assert.False(t, posts[len(posts)-1].At.Before(push.NotBefore))
			assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
		}
	})
	t.Run("until the secret is mended", func(t *testing.T) {
		t.Parallel()
		p := engagetest.New(t)
		good := p.Signing.Current
		p.Signing.Kept = engagetest.NewSecret("0", "not a secret")
		push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 60)
		handle(t, p, push, chunks)
		p.Signing.Kept = good
		require.Empty(t, p.Drain(t))
		assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
	})
	t.Run("for want of content that is JSON", func(t *testing.T) {
		t.Parallel()
		for _, again := range []bool{false, true} {
			p := engagetest.New(t)
			push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
			p.SetText(t, push.RequestID, "content", "content", `{"headline":`)
			if again {
				job := engage.NewJob(push.Tenant, push.RequestID, 0, p.Clock.Now())
				job.Again = true
				require.Empty(t, p.Handle(t, engagetest.MessageOf(t, job)))
			}
			require.Empty(t, p.Deliver(t, push, chunks))
			assert.Equal(
				t,
				[]string{"failed: what is kept of the chunk cannot be read"},
				slices.Compact(p.States(t, push)),
			)
			assert.Empty(t, p.Log.Lines(t, "a push cannot be signed"))
		}
	})
	for _, part := range []string{"chunk#00000", "content"} {
		for _, missing := range []bool{true, false} {
			t.Run(fmt.Sprint("for want of its ", part, ", missing ", missing), func(t *testing.T) {
				t.Parallel()
				p := engagetest.New(t)
				push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
				p.Spoil(t, push.RequestID, part, missing)
				require.Empty(t, p.Deliver(t, push, chunks))
				assert.Equal(
					t,
					[]string{"failed: what is kept of the chunk cannot be read"},
					slices.Compact(p.States(t, push)),
				)
				assert.Equal(t, engage.PushCompleted, p.Meta(t, push).State())
				assert.Zero(t, p.Meta(t, push).DueAt)
			})
		}
	}
}

// AWS's faults cost a wait, and no more; in the end they are dead letters, which have an alarm.
func TestFaultsOfAWS(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	p.FailReads(3)
	require.Empty(t, p.Deliver(t, push, chunks))
	assert.Equal(t, 3, p.Meta(t, push).Counts().Delivered)
	assert.Len(t, p.Log.Lines(t, "a chunk comes back"), 3)

	push, chunks = p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	p.FailReads(1000)
	assert.Len(t, p.Deliver(t, push, chunks), 1, "it fails at last")
	p.FailReads(0)
	p.Jobs.Err = errors.New("SQS is down")
	p.FailReads(1)
	assert.Len(t, p.Handle(t, engagetest.Message(push, 0)), 1, "SQS brings it back")
}
