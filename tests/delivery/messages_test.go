package delivery_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/tests/harness"
)

// ottFunctions are those that a message passes.
var ottFunctions = []string{"OttSendFunction", "OttDeliverFunction"}

// BenchmarkMessages sends 1,000 OTT messages of 500 characters, 20 to each of 50 people, from ott-send to the platform's
// stand-in. It prints messages per second, the functions' CPU seconds per 1,000 messages, and for a message the
// DynamoDB units that they consumed and their calls of SQS; what Lambda does with the queue is not among them.
func BenchmarkMessages(b *testing.B) {
	const people, each = 50, 20
	items, queues := newMeter(b, bundle.Demo.AWS.DynamoDB), newMeter(b, bundle.Demo.AWS.Endpoint)
	for _, function := range ottFunctions {
		bundle.SetVariables(b, function, map[string]string{
			"AWS_ENDPOINT_URL_DYNAMODB": items.url, "AWS_ENDPOINT_URL": queues.url,
		})
	}
	bearer := bundle.OTTBearer(b, bundle.Demo.OTT)
	page := uuid.NewString()
	reply := bundle.Post(b, "/ott/v1/registration", harness.RegistrationBody(page, page), bearer)
	require.Equal(b, http.StatusCreated, reply.Status, reply.Body)
	sent := 0
	round := func(people, each int) {
		bundle.OTT.Empty()
		var all sync.WaitGroup
		for person := range people {
			all.Go(func() {
				for range each {
					body := fmt.Sprintf(`{"messageKey":%q,"from":{"senderType":"messenger","senderId":%q},
						"to":{"ottId":"1%015d"},"message":{"contents":[{"type":"text","text":%q}],
						"customKeys":[{"messagingType":"RESPONSE"}]},"validityPeriod":3600}`,
						uuid.NewString(), page, person, strings.Repeat("x", 500))
					reply, err := bundle.Exchange(b.Context(), http.MethodPost, "/ott/v1/send", body, bearer)
					if err != nil || reply.Status != http.StatusCreated {
						b.Errorf("%d %s %v", reply.Status, reply.Body, err)
						return
					}
				}
			})
		}
		all.Wait()
		harness.Within(b, 10*time.Minute, "every message arrives", func() (int, bool) {
			n := 0
			for _, r := range bundle.OTT.Requests() {
				if r.Status == http.StatusOK && strings.Contains(r.Body, `"recipient"`) {
					n++
				}
			}
			return n, n >= people*each
		})
	}
	round(people, 1) // processes start, and what is read once is read
	items.reset()
	queues.reset()
	cpu, start := cpuOf(b, ottFunctions...), time.Now()
	for b.Loop() {
		round(people, each)
		sent += people * each
	}
	took := time.Since(start)
	b.ReportMetric(float64(sent)/took.Seconds(), "messages/s")
	b.ReportMetric((cpuOf(b, ottFunctions...)-cpu)/float64(sent)*1000, "cpu-s/1000")
	reads, writes, _ := items.totals()
	b.ReportMetric(writes/float64(sent), "write-units/message")
	b.ReportMetric(reads/float64(sent), "read-units/message")
	_, _, calls := queues.totals()
	b.ReportMetric(float64(calls)/float64(sent), "sqs-calls/message")
}

// meter is an AWS endpoint in front of the emulator's that adds up what calls of DynamoDB consume, and counts those of
// SQS.
type meter struct {
	url     string
	forward *httputil.ReverseProxy

	mu            sync.Mutex
	reads, writes float64
	calls         int
}

func newMeter(tb testing.TB, endpoint string) *meter {
	tb.Helper()
	target, err := url.Parse(endpoint)
	require.NoError(tb, err)
	m := &meter{forward: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}}
	m.forward.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	server := httptest.NewServer(m)
	tb.Cleanup(server.Close)
	m.url = server.URL
	return m
}

// ServeHTTP implements http.Handler.
func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	service, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if !strings.HasPrefix(service, "DynamoDB") {
		if service == "AmazonSQS" {
			m.mu.Lock()
			m.calls++
			m.mu.Unlock()
		}
		m.forward.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	body = append([]byte(`{"ReturnConsumedCapacity":"TOTAL",`), bytes.TrimPrefix(body, []byte("{"))...)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	recorder := httptest.NewRecorder()
	m.forward.ServeHTTP(recorder, r)
	m.add(operation, recorder.Body.Bytes())
	for name, values := range recorder.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes())
}

// add adds what an answer says that its call consumed. A write whose condition did not hold says nothing; it is counted
// as one unit, the least that it costs.
func (m *meter) add(operation string, answer []byte) {
	type consumed struct{ CapacityUnits float64 }
	var one struct{ ConsumedCapacity consumed }
	units := 0.0
	if json.Unmarshal(answer, &one) == nil {
		units = one.ConsumedCapacity.CapacityUnits
	} else {
		var many struct{ ConsumedCapacity []consumed }
		if json.Unmarshal(answer, &many) == nil {
			for _, c := range many.ConsumedCapacity {
				units += c.CapacityUnits
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch operation {
	case "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems":
		m.writes += max(units, 1)
	default:
		m.reads += units
	}
}

func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads, m.writes, m.calls = 0, 0, 0
}

func (m *meter) totals() (reads, writes float64, calls int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads, m.writes, m.calls
}

// cpuOf is the CPU time, in seconds, of the processes that functions have now.
func cpuOf(tb testing.TB, functions ...string) float64 {
	tb.Helper()
	const ticks = 100 // a second, of every Linux that Go runs on
	total := 0.0
	for _, function := range functions {
		for _, pid := range bundle.Function(function).Processes() {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			require.NoError(tb, err)
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			for _, field := range fields[11:13] { // utime and stime
				n, err := strconv.Atoi(field)
				require.NoError(tb, err)
				total += float64(n) / ticks
			}
		}
	}
	return total
}
