// Package delivery_test pushes to tens of thousands of handsets through the real binaries, on a real clock, and counts
// what arrives at the device gateway: each destination once, none early. Its benchmark measures how late they are.
package delivery_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
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
)

var bundle *local.Bundle

func TestMain(m *testing.M) {
	var err error
	bundle, err = local.Start(context.Background(), local.Options{Root: "../..", Stack: "carillon-delivery"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "the bundle does not start:", err)
		os.Exit(1)
	}
	code := m.Run()
	bundle.Close()
	os.Exit(code)
}

func TestPushTo25000Handsets(t *testing.T) {
	bundle.Gateway.Empty()
	notBefore := time.Now().Add(5 * time.Second)
	id := accept(t, token(t), batch(0, engage.MaxDestinations, notBefore))
	waitFor(t, id)
	arrivals(t, map[string]int{id: engage.MaxDestinations})
}

func TestFiftyPushesAtTheSameTime(t *testing.T) {
	bundle.Gateway.Empty()
	arrivals(t, fifty(t))
}

// A gateway that hangs, breaks the connection, answers for half of the numbers, or fails: every destination ends delivered.
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

// BenchmarkLateness prints how long after its notBefore a POST reaches the gateway: 50 pushes of 500 destinations that are
// due at the same second. A negative one fails it.
func BenchmarkLateness(b *testing.B) {
	var late []time.Duration
	for b.Loop() {
		bundle.Gateway.Empty()
		late = append(late, arrivals(b, fifty(b))...)
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

// fifty accepts 50 pushes of 500 destinations for the same second, and returns when all are final.
func fifty(tb testing.TB) map[string]int {
	tb.Helper()
	notBefore := time.Now().Add(12 * time.Second).Truncate(time.Second)
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
	require.True(tb, time.Now().Before(notBefore), "accepted before they are due")
	for id := range sent {
		waitFor(tb, id)
	}
	return sent
}

// arrivals checks what the gateway got of pushes: every destination once, none early. It returns how late each POST was.
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
	pushes := store.NewPushes(bundle.DynamoDB(), stackname.PushesTable(bundle.Demo.AWS.Stack), clock.System{})
	require.Eventually(tb, func() bool {
		meta, err := pushes.Meta(tb.Context(), "", id)
		return err == nil && meta.Finished() && meta.DueAt.IsZero()
	}, time.Minute, 100*time.Millisecond)
}

// batch is a gzip'd batch of n destinations from a number on.
func batch(from, n int, notBefore time.Time) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `{"aNumbers":[%q],"notBefore":%q,"destinations":[`, bundle.Demo.Engage.ANumbers[0], notBefore.UTC().Format(time.RFC3339Nano))
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"bNumber":"+1501%07d","personalization":{%q:"call %d"},"customTrackingId":"id-%d"}`, from+i, bundle.Demo.Engage.Variables[0], i, i)
	}
	b.WriteString("]}")
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(w, b.String())
	_ = w.Close()
	return zipped.Bytes()
}

func token(tb testing.TB) string {
	tb.Helper()
	c := bundle.Demo.Engage
	body := fmt.Sprintf(`{"clientId":%q,"clientSecret":%q}`, c.ClientID, c.ClientSecret)
	var answer struct{ AccessToken string }
	call(tb, http.MethodPost, "/federated/content/v2/token", strings.NewReader(body), map[string]string{"X-Federated-Purpose": "inform"}, &answer)
	return answer.AccessToken
}

func accept(tb testing.TB, bearer string, body []byte) string {
	tb.Helper()
	var answer struct{ Response, RequestID string }
	call(tb, http.MethodPost, "/federated/outbound/v2/batch?programContentUuid="+bundle.Demo.Engage.ProgramContentUUID, bytes.NewReader(body),
		map[string]string{"Authorization": "Bearer " + bearer, "Content-Encoding": "gzip"}, &answer)
	assert.Equal(tb, "success", answer.Response)
	return answer.RequestID
}

func get(tb testing.TB, id string) api.Status {
	tb.Helper()
	var status api.Status
	call(tb, http.MethodGet, "/federated/outbound/v2/batch/"+id+"?limit=1", nil, map[string]string{"Authorization": "Bearer " + token(tb)}, &status)
	return status
}

func call(tb testing.TB, method, path string, body io.Reader, headers map[string]string, answer any) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), method, bundle.BaseURL+path, body)
	require.NoError(tb, err)
	request.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(tb, err)
	defer func() { assert.NoError(tb, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(tb, err)
	require.Equal(tb, http.StatusOK, response.StatusCode, "%s", text)
	require.NoError(tb, json.Unmarshal(text, answer))
}
