package harness

import (
	"net/http"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
)

// Push is one POST to the device gateway.
type Push struct {
	standin.Push
	Chunk standin.Chunk
}

// PushesOf returns the POSTs of a push, oldest first. The test fails if one is not signed as Standard Webhooks' own
// library has it: the stand-in that took it is ours.
func (b *Bundle) PushesOf(t testing.TB, requestID string) []Push {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(b.Demo.Gateway.Secret)
	require.NoError(t, err)
	var own []Push
	for _, p := range b.Gateway.Pushes() {
		chunk, err := p.Chunk()
		require.NoError(t, err)
		if chunk.RequestID != requestID {
			continue
		}
		header := http.Header{}
		for name, value := range p.Headers {
			header.Set(name, value)
		}
		require.NoError(t, verifier.Verify([]byte(p.Body), header))
		require.Empty(t, p.Refused)
		own = append(own, Push{Push: p, Chunk: chunk})
	}
	return own
}
