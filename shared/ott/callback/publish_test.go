package callback_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/clock"
	"carillon/shared/clock/clocktest"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
)

var property = ott.StoredRegistration{Registration: lineChannel, Tenant: "tenant-1"}

// numbered makes n events.
func numbered(n int) []callback.Event {
	events := make([]callback.Event, n)
	for i := range events {
		events[i] = callback.Event{JSON: fmt.Appendf(nil, `{"n":%d}`, i), Index: i}
	}
	return events
}

// of is a publication of events.
func of(events ...callback.Event) []callback.Publication {
	return []callback.Publication{{Registration: property, ReceivedAt: now, Entry: callback.Entry{Events: events}}}
}

// detailOf is what an event is on the bus.
func detailOf(event callback.Event) string {
	return fmt.Sprintf(`{"tenant":"tenant-1","platform":"line","ottPropertyId":"1234567890",`+
		`"receivedAt":"2026-02-10T15:58:20.000Z","index":%d,"event":%s}`, event.Index, event.JSON)
}

func details(entries []entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Detail)
	}
	return all
}

func TestEventsGoInCallsThatEventBridgeTakes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBus(t)
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 2000), rapid.IntRange(20_000, 261_000)), 0,
			40).Draw(rt, "sizes")
		var events []callback.Event
		var want []string
		for i, size := range sizes {
			event := callback.Event{JSON: []byte(`{"` + strings.Repeat("a", size) + fmt.Sprintf(`":%d}`, i))}
			if i%2 == 0 {
				event.Time = time.UnixMilli(1770739100123)
			}
			events, want = append(events, event), append(want, detailOf(event))
		}
		require.NoError(rt,
			callback.NewPublisher(b.client, "bus", clocktest.New()).Publish(t.Context(), of(events...)))
		assert.ElementsMatch(rt, want, details(b.accepted), "each once: the bus refuses what is too large")
	})
}

func TestEventOfTheLargestSize(t *testing.T) {
	b := newBus(t)
	publisher := callback.NewPublisher(b.client, "bus", clocktest.New())
	rest := len(detailOf(callback.Event{JSON: []byte(`{"":1}`)})) + len("carillon.ott") + len("LINE Event") + 14
	largest := callback.Event{
		JSON: []byte(`{"` + strings.Repeat("a", 256*1024-1-rest) + `":1}`), Time: time.UnixMilli(1770739100123),
	}
	require.NoError(t, publisher.Publish(t.Context(), of(largest)))
	assert.Equal(t, 256*1024-1, b.accepted[0].size())

	larger := callback.Event{JSON: []byte(`{"a` + string(largest.JSON[2:])), Time: largest.Time}
	err := publisher.Publish(t.Context(), of(append(numbered(20), larger)...))
	assert.True(t, fault.Is(err, fault.TooLarge), "%v", err)
	assert.Len(t, b.calls, 1, "nothing is published of a callback that cannot be published as a whole")
}

func TestFailedEntriesAreSentAgain(t *testing.T) {
	b, clock := newBus(t), clocktest.New()
	b.answer = func(call int, entries []entry) (int, []string) {
		codes := make([]string, len(entries))
		for i := range codes {
			if call < 3 && i%2 == 1 {
				codes[i] = []string{"ThrottlingException", "InternalFailure", "InternalException"}[call]
			}
		}
		return http.StatusOK, codes
	}
	require.NoError(t, callback.NewPublisher(b.client, "bus", clock).Publish(t.Context(), of(numbered(9)...)))
	var want []string
	for _, event := range numbered(9) {
		want = append(want, detailOf(event))
	}
	assert.ElementsMatch(t, want, details(b.accepted), "all of them, none twice")
	var sent []int
	for _, call := range b.calls {
		sent = append(sent, len(call))
	}
	assert.Equal(t, []int{9, 4, 2, 1}, sent, "what was taken is not sent again")
	require.Len(t, clock.Slept(), 3)
	for i, slept := range clock.Slept() {
		assert.GreaterOrEqual(t, slept, 25*time.Millisecond<<i)
		assert.LessOrEqual(t, slept, 50*time.Millisecond<<i)
	}
}

// A callback that cannot be published answers 5xx, so that the platform sends it again.
func TestContractCallbackThatCannotBePublished(t *testing.T) {
	all := func(code string) func(int, []entry) (int, []string) {
		return func(_ int, entries []entry) (int, []string) {
			codes := make([]string, len(entries))
			codes[0] = code
			return http.StatusOK, codes
		}
	}
	for name, test := range map[string]struct {
		answer func(int, []entry) (int, []string)
		status int
		calls  int
	}{
		"throttled for too long":       {all("ThrottlingException"), http.StatusServiceUnavailable, 6},
		"failing for too long":         {all("InternalFailure"), http.StatusServiceUnavailable, 6},
		"an entry is refused for good": {all("NotAuthorizedForSourceException"), http.StatusInternalServerError, 1},
		"a malformed detail":           {all("MalformedDetail"), http.StatusInternalServerError, 1},
		"the call fails": {
			func(int, []entry) (int, []string) { return http.StatusServiceUnavailable, nil },
			http.StatusServiceUnavailable, 1,
		},
		"the call is refused": {
			func(int, []entry) (int, []string) { return http.StatusBadRequest, nil }, http.StatusInternalServerError, 1,
		},
		"an answer for none of the events": {
			func(int, []entry) (int, []string) { return http.StatusOK, []string{} }, http.StatusInternalServerError, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.register(t, lineChannel, channel)
			o.answer = test.answer
			answer := o.deliver(t, lineChannel, channel, `{"events":[`+lineMessage+`,`+lineFollow+`]}`)
			assert.Equal(t, test.status, answer.StatusCode)
			assert.Contains(t, []string{
				`{"message":"Internal Server Error","errorcode":0,"documentation":""}`,
				`{"message":"Service Unavailable","errorcode":0,"documentation":""}`,
			}, answer.Body)
			assert.Len(t, o.calls, test.calls)
			assert.Contains(t, o.log.String(), `"serverErrors":1`)
			assert.NotContains(t, o.log.String(), "Hello, world")

			o.answer = nil // and then it is sent again
			require.Equal(t, http.StatusOK,
				o.deliver(t, lineChannel, channel, `{"events":[`+lineMessage+`,`+lineFollow+`]}`).StatusCode)
			assert.Subset(t, details(o.accepted), []string{
				o.detail("tenant-1", "line", "1234567890", ``, 0, lineMessage),
				o.detail("tenant-1", "line", "1234567890", ``, 1, lineFollow),
			})
		})
	}
}

// ending is a clock at whose first sleep the request's time is over.
type ending struct {
	*clocktest.Clock
	end context.CancelFunc
}

// Sleep implements clock.Clock.
func (e ending) Sleep(ctx context.Context, d time.Duration) error {
	e.end()
	return e.Clock.Sleep(ctx, d)
}

func TestPublishingEndsWithTheRequestsTime(t *testing.T) {
	b := newBus(t)
	b.answer = func(int, []entry) (int, []string) { return http.StatusOK, []string{"ThrottlingException"} }
	ctx, cancel := context.WithCancel(t.Context())
	err := callback.NewPublisher(b.client, "bus", ending{clocktest.New(), cancel}).Publish(ctx, of(numbered(1)...))
	require.ErrorIs(t, err, context.Canceled)
	assert.Len(t, b.calls, 1)
}

func TestSystemClock(t *testing.T) {
	require.NoError(t, clock.System{}.Sleep(t.Context(), 0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, clock.System{}.Sleep(ctx, time.Hour), context.Canceled)
}
