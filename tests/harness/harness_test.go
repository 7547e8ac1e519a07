package harness_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/tests/harness"
)

// call makes an AWS call of an operation and returns what came back, 0 if nothing did.
func call(t *testing.T, url, operation string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	require.NoError(t, err)
	request.Header.Set("X-Amz-Target", "Service."+operation)
	reply, err := harness.Do(request)
	if err != nil {
		return 0
	}
	return reply.Status
}

func TestProxy(t *testing.T) {
	var carriedOut atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		carriedOut.Add(1)
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(target.Close)
	p := harness.NewProxy(t, target.URL)
	throttled := harness.AWSError(400, "ThrottlingException")
	type (
		faults   []*harness.Fault
		names    []string
		statuses []int
	)
	tests := map[string]struct {
		faults  faults
		calls   names
		answers statuses
		done    int64 // calls that the target has carried out
	}{
		"no fault":    {nil, names{"A", "B"}, statuses{200, 200}, 2},
		"a nil fault": {faults{nil}, names{"A"}, statuses{200}, 1},
		"once":        {faults{{Operation: "A", Answer: throttled}}, names{"A", "B", "A"}, statuses{400, 200, 200}, 2},
		"twice": {
			faults{{Operation: "A", Times: 2, Answer: throttled}},
			names{"A", "A", "A"},
			statuses{400, 400, 200},
			1,
		},
		"for ever": {
			faults{{Operation: "A", Times: -1, Answer: throttled}},
			names{"A", "A", "A"},
			statuses{400, 400, 400},
			0,
		},
		"later": {
			faults{{Operation: "A", Skip: 1, Answer: throttled}},
			names{"A", "A", "A"},
			statuses{200, 400, 200},
			2,
		},
		"answer lost":  {faults{{Operation: "A", After: harness.AnswerLost}}, names{"A", "A"}, statuses{0, 200}, 2},
		"another path": {faults{{Operation: "A", Path: "/b", Answer: throttled}}, names{"A"}, statuses{200}, 1},
		"one and then another": {faults{
			{Operation: "A", Answer: throttled}, {Operation: "A", After: harness.AnswerLost},
		}, names{"A", "A", "A"}, statuses{400, 0, 200}, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			carriedOut.Store(0)
			for range 2 { // a fault can be injected again
				p.Inject(test.faults...)
				for i, operation := range test.calls {
					assert.Equal(t, test.answers[i], call(t, p.URL+"/a", operation), "call %d", i)
				}
				assert.Equal(t, len(test.calls), p.Count("A")+p.Count("B"))
			}
			assert.Equal(t, 2*test.done, carriedOut.Load())
		})
	}
}

func TestFaultStrikes(t *testing.T) {
	target := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(target.Close)
	p := harness.NewProxy(t, target.URL)
	for name, fault := range map[string]*harness.Fault{
		"answered": {Operation: "A", Times: 2, Answer: harness.AWSError(500, "InternalFailure")},
		"lost":     {Operation: "A", After: harness.AnswerLost},
		"dies": {Operation: "A", Answer: func(http.ResponseWriter, *http.Request) bool {
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			struck := fault.Strikes()
			p.Inject(fault)
			select {
			case <-struck:
				t.Fatal("nothing has happened")
			default:
			}
			for range 2 {
				call(t, p.URL, "A")
			}
			harness.Reached(t, struck)
		})
	}
}

// failing stands for a test that is to fail.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = strings.TrimSpace(strings.ReplaceAll(format, "%v", "…"))
	for _, arg := range args {
		if text, is := arg.(string); is {
			f.said += " | " + text
		}
	}
	panic(f)
}

func TestWithinSaysWhatItLastSaw(t *testing.T) {
	asked := 0
	assert.Equal(t, 3, harness.Eventually(t, "three", func() (int, bool) { asked++; return asked, asked == 3 }))

	f := &failing{TB: t}
	assert.PanicsWithValue(t, f, func() {
		harness.Within(f, time.Millisecond, "the push ends", func() (string, bool) { return "scheduled", false })
	})
	assert.Contains(t, f.said, "the push ends")
	assert.Contains(t, f.said, "scheduled")
}
