package delivery_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/tests/harness"
)

// BenchmarkNeighbours prints how late one provider's pushes are, one a second, beside 600 pushes of another provider
// that are due at the same second and whose side of the gateway takes ten seconds for each POST.
func BenchmarkNeighbours(b *testing.B) {
	const noisy, quiet, slow = 600, 20, 10_000
	other := bundle.Demo.EngageOther
	var late []time.Duration
	for b.Loop() {
		bundle.Gateway.Empty()
		bundle.Partners.Hook("gateway", func(r standin.Request) *standin.Answer {
			if slices.Contains(chunkOf(r).ANumbers, other.ANumbers[0]) {
				return &standin.Answer{DelayMS: slow}
			}
			return nil
		})
		notBefore := time.Now().Add(40 * time.Second).Truncate(time.Second)
		bearer := bundle.EngageBearer(b, other.DemoClient)
		var all sync.WaitGroup
		limit := make(chan struct{}, 4)
		for i := range noisy {
			all.Go(func() {
				limit <- struct{}{}
				defer func() { <-limit }()
				body := fmt.Sprintf(`{"aNumbers":[%q],"notBefore":%q,"destinations":[{"bNumber":"+1502%07d"}]}`,
					other.ANumbers[0], notBefore.UTC().Format(time.RFC3339), i)
				reply := bundle.Post(
					b,
					"/federated/outbound/v2/batch?programContentUuid="+other.ProgramContentUUID,
					body,
					bearer,
				)
				require.Equal(b, http.StatusOK, reply.Status, reply.Body)
			})
		}
		all.Wait()
		require.True(b, time.Now().Before(notBefore), "accepted before they are due")
		ours := map[string]int{}
		token := token(b)
		for i := range quiet {
			ours[accept(b, token, batch(i, 1, notBefore.Add(time.Duration(i)*time.Second)))] = 1
		}
		for id := range ours {
			waitFor(b, id)
		}
		late = append(late, arrivals(b, ours)...)
		bundle.Partners.Hook("gateway", nil)
		harness.Within(b, 5*time.Minute, "the noisy ones end", func() (int, bool) {
			ends := map[string]bool{}
			for _, push := range bundle.Gateway.Pushes() {
				if push.Status == http.StatusOK {
					ends[push.WebhookID()] = true
				}
			}
			return len(ends), len(ends) >= noisy+quiet
		})
	}
	slices.Sort(late)
	b.ReportMetric(float64(late[len(late)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(late[len(late)-1].Microseconds())/1000, "max-ms")
}

func chunkOf(r standin.Request) standin.Chunk {
	chunk, err := (standin.Push{Body: string(r.Body)}).Chunk()
	if err != nil {
		return standin.Chunk{}
	}
	return chunk
}
