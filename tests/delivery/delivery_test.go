// Package delivery_test pushes to tens of thousands of handsets through the real binaries, on a real clock, and counts
// what arrives at the device gateway: each destination once, none early. Its benchmark measures how late they are.
package delivery_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/local/standin"
	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/engage/api"
	"carillon/shared/engage/store"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

var bundle *harness.Bundle

func TestMain(m *testing.M) { harness.Main(m, local.Options{Stack: "carillon-delivery"}, &bundle) }

func TestPushTo25000Handsets(t *testing.T) {
	bundle.Gateway.Empty()
	notBefore := time.Now().Add(5 * time.Second)
	id := accept(t, token(t), batch(0, engage.MaxDestinations, notBefore))
	waitFor(t, id)
	arrivals(t, map[string]int{id: engage.MaxDestinations})
}

func TestFiftyPushesAtTheSameTime(t *testing.T) {
	bundle.Gateway.Empty()
	arrivals(t, fifty(t, 5*time.Second))
}

// A gateway that hangs, breaks the connection, answers for half of the numbers, or fails: every destination ends
// delivered.
func TestAGatewayThatMisbehaves(t *testing.T) {
	for name, answers := range map[string][]standin.Answer{
		"hangs":                  {{Hang: true}},
		"breaks the connection":  {{Cut: true}},
		"answers half":           {{Half: true}},
		"is down, then too busy": {{Status: 502}, {Status: 429, Headers: map[string]string{"Retry-After": "1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			bundle.Gateway.Empty()
			require.NoError(t, bundle.Partners.Script("gateway", answers...))
			id := accept(t, token(t), batch(0, 10, time.Now()))
			waitFor(t, id)
			numbers := map[string]bool{}
			for _, push := range bundle.Gateway.Pushes() {
				chunk, err := push.Chunk()
				require.NoError(t, err)
				for _, d := range chunk.Destinations {
					numbers[d.BNumber] = true
				}
			}
			assert.Len(t, numbers, 10)
			assert.Greater(t, len(bundle.Gateway.Pushes()), len(answers)-1)
			assert.Equal(t, api.Counts{Total: 10, Delivered: 10}, get(t, id).Counts)
		})
	}
}

// BenchmarkLateness prints how long after its notBefore a POST reaches the gateway: 50 pushes of 500 destinations that
// are due at the same second. A negative one fails it.
func BenchmarkLateness(b *testing.B) {
	var late []time.Duration
	for b.Loop() {
		bundle.Gateway.Empty()
		late = append(late, arrivals(b, fifty(b, 12*time.Second))...)
	}
	slices.Sort(late)
	at := func(share float64) float64 {
		return float64(late[min(int(share*float64(len(late))), len(late)-1)].Microseconds()) / 1000
	}
	b.ReportMetric(at(0), "min-ms")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(1), "max-ms")
}

// fifty accepts 50 pushes of 500 destinations for the same second, so long ahead, and returns when all are final. It
// gives a busy machine more time until all were accepted before they were due.
func fifty(tb testing.TB, ahead time.Duration) map[string]int {
	tb.Helper()
	const longest = 100 * time.Second
	for ; ; ahead *= 2 {
		require.LessOrEqual(tb, ahead, longest, "accepted before they are due")
		notBefore := time.Now().Add(ahead).Truncate(time.Second)
		sent := acceptFifty(tb, notBefore)
		inTime := time.Now().Before(notBefore)
		for id := range sent {
			waitFor(tb, id)
		}
		if inTime {
			return sent
		}
	}
}

// acceptFifty accepts 50 pushes of 500 destinations, four at a time.
func acceptFifty(tb testing.TB, notBefore time.Time) map[string]int {
	tb.Helper()
	bearer := token(tb)
	sent := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	limit := make(chan struct{}, 4)
	for i := range 50 {
		all.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			id := accept(tb, bearer, batch(i*500, 500, notBefore))
			mu.Lock()
			defer mu.Unlock()
			sent[id] = 500
		})
	}
	all.Wait()
	require.Len(tb, sent, 50)
	return sent
}

// arrivals checks what the gateway got of pushes: every destination once, none early. It returns how late each POST
// was.
func arrivals(tb testing.TB, sent map[string]int) []time.Duration {
	tb.Helper()
	var late []time.Duration
	ids := map[string]bool{}
	numbers := map[string]map[string]bool{}
	for _, push := range bundle.Gateway.Pushes() {
		chunk, err := push.Chunk()
		require.NoError(tb, err)
		if _, ours := sent[chunk.RequestID]; !ours {
			continue
		}
		require.False(tb, ids[push.WebhookID()], "each webhook-id once")
		ids[push.WebhookID()] = true
		lateness := push.At.Sub(chunk.NotBefore)
		require.GreaterOrEqual(tb, lateness, time.Duration(0), "never before notBefore")
		late = append(late, lateness)
		if numbers[chunk.RequestID] == nil {
			numbers[chunk.RequestID] = map[string]bool{}
		}
		for _, d := range chunk.Destinations {
			require.False(tb, numbers[chunk.RequestID][d.BNumber], "each destination once")
			numbers[chunk.RequestID][d.BNumber] = true
		}
	}
	for id, n := range sent {
		require.Len(tb, numbers[id], n, "nothing is lost")
		status := get(tb, id)
		assert.Equal(tb, api.Counts{Total: n, Delivered: n}, status.Counts)
		assert.Equal(tb, engage.PushCompleted, status.State)
	}
	return late
}

// waitFor returns when a push is final.
func waitFor(tb testing.TB, id string) {
	tb.Helper()
	pushes := store.NewPushes(bundle.DynamoDB(), bundle.Table(stackname.PushesTable), clock.System{})
	harness.Eventually(tb, "the push is final", func() (*engage.Meta, bool) {
		meta, err := pushes.Meta(tb.Context(), "", id)
		return meta, err == nil && meta.Finished() && meta.DueAt.IsZero()
	})
}

// batch is a gzip'd batch of n destinations from a number on.
func batch(from, n int, notBefore time.Time) []byte {
	var b strings.Builder
	fmt.Fprintf(
		&b,
		`{"aNumbers":[%q],"notBefore":%q,"destinations":[`,
		bundle.Demo.Engage.ANumbers[0],
		notBefore.UTC().Format(time.RFC3339Nano),
	)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(
			&b,
			`{"bNumber":"+1501%07d","personalization":{%q:"call %d"},"customTrackingId":"id-%d"}`,
			from+i,
			bundle.Demo.Engage.Variables[0],
			i,
			i,
		)
	}
	b.WriteString("]}")
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(w, b.String())
	_ = w.Close()
	return zipped.Bytes()
}

// token returns the headers that show a token of the demo's client.
func token(tb testing.TB) map[string]string {
	tb.Helper()
	return bundle.EngageBearer(tb, bundle.Demo.Engage.DemoClient)
}

// accept sends a gzip'd batch, which must be accepted, and returns the push's id.
func accept(tb testing.TB, bearer map[string]string, body []byte) string {
	tb.Helper()
	return acceptFor(tb, bearer, bundle.Demo.Engage.ProgramContentUUID, body)
}

// acceptFor is accept for a program.
func acceptFor(tb testing.TB, bearer map[string]string, program string, body []byte) string {
	tb.Helper()
	headers := maps.Clone(bearer)
	headers["Content-Encoding"] = "gzip"
	reply := bundle.Post(
		tb,
		"/federated/outbound/v2/batch?programContentUuid="+program,
		string(body),
		headers,
	)
	require.Equal(tb, http.StatusOK, reply.Status, reply.Body)
	assert.Equal(tb, "success", reply.Field(tb, "response"))
	return reply.Field(tb, "requestId")
}

func get(tb testing.TB, id string) api.Status {
	tb.Helper()
	reply := bundle.Ask(tb, http.MethodGet, "/federated/outbound/v2/batch/"+id+"?limit=1", token(tb))
	require.Equal(tb, http.StatusOK, reply.Status, reply.Body)
	var status api.Status
	require.NoError(tb, json.Unmarshal([]byte(reply.Body), &status))
	return status
}
