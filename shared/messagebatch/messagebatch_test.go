package messagebatch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/messagebatch"
)

func batch(bodies ...string) events.SQSEvent {
	var event events.SQSEvent
	for _, body := range bodies {
		event.Records = append(event.Records, events.SQSMessage{MessageId: "id-" + body, Body: body})
	}
	return event
}

func failures(t *testing.T, handler messagebatch.Handler, bodies ...string) []string {
	t.Helper()
	response, err := handler(t.Context(), batch(bodies...))
	require.NoError(t, err)
	var ids []string
	for _, failure := range response.BatchItemFailures {
		ids = append(ids, failure.ItemIdentifier)
	}
	return ids
}

var discard = slog.New(slog.DiscardHandler)

// Partial batch response: a message that fails, or panics, comes back; the others are done.
func TestEachReportsTheMessagesThatFailed(t *testing.T) {
	var log bytes.Buffer
	handler := messagebatch.Each(slog.New(slog.NewJSONHandler(&log, nil)), func(_ context.Context, body string) error {
		switch body {
		case "error":
			return errors.New("it failed")
		case "panic":
			panic("it broke")
		}
		return nil
	})
	assert.Equal(t, []string{"id-error", "id-panic"}, failures(t, handler, "a", "error", "b", "panic"))
	assert.Contains(t, log.String(), `"messageId":"id-error","error":"it failed"`)
	assert.Contains(t, log.String(), `"messageId":"id-panic","error":"panic: it broke"`)
	assert.Empty(t, failures(t, handler, "a", "b"))
	assert.Empty(t, failures(t, handler))
}

// One that takes long holds up no other: each of these waits for all of them.
func TestEachHandlesMessagesAtTheSameTime(t *testing.T) {
	var together sync.WaitGroup
	together.Add(3)
	handler := messagebatch.Each(discard, func(context.Context, string) error {
		together.Done()
		together.Wait()
		return nil
	})
	assert.Empty(t, failures(t, handler, "a", "b", "c"))
}

type job struct {
	ID string `json:"id"`
}

func (j job) Complete() bool { return j.ID != "" }

func TestJobs(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	handled := map[string]bool{}
	handler := messagebatch.Jobs(slog.New(slog.NewJSONHandler(&log, nil)), func(_ context.Context, j job) error {
		mu.Lock()
		defer mu.Unlock()
		handled[j.ID] = true
		return nil
	})
	bad := []string{`{}`, `{"id":1}`, `{"id":"`, `null`, ``, `hunter2`}
	assert.ElementsMatch(
		t,
		[]string{"id-" + bad[0], "id-" + bad[1], "id-" + bad[2], "id-" + bad[3], "id-" + bad[4], "id-" + bad[5]},
		failures(t, handler, append(bad, `{"id":"a","unknown":1}`)...),
	)
	assert.Equal(t, map[string]bool{"a": true}, handled)
	assert.NotContains(t, log.String(), `"error":"hunter2`)
}

// What a handler is told of a job: how the queue names this receipt, and how often the job came.
func TestReceived(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	var received []messagebatch.Receipt[job]
	handler := messagebatch.Received(slog.New(slog.NewJSONHandler(&log, nil)),
		func(_ context.Context, r messagebatch.Receipt[job]) error {
			mu.Lock()
			defer mu.Unlock()
			received = append(received, r)
			return nil
		})
	message := func(id, body, count string) events.SQSMessage {
		m := events.SQSMessage{MessageId: id, ReceiptHandle: "handle of " + id, Body: body}
		if count != "" {
			m.Attributes = map[string]string{"ApproximateReceiveCount": count}
		}
		return m
	}
	response, err := handler(t.Context(), events.SQSEvent{Records: []events.SQSMessage{
		message("first", `{"id":"a"}`, "1"), message("often", `{"id":"b"}`, "217"), message("unsaid", `{"id":"c"}`, ""),
		message("odd", `{"id":"d"}`, "many"), message("none", `hunter2`, "1"),
	}})
	require.NoError(t, err)
	assert.Equal(t, []events.SQSBatchItemFailure{{ItemIdentifier: "none"}}, response.BatchItemFailures)
	assert.ElementsMatch(t, []messagebatch.Receipt[job]{
		{Job: job{"a"}, Handle: "handle of first", Count: 1}, {Job: job{"b"}, Handle: "handle of often", Count: 217},
		{Job: job{"c"}, Handle: "handle of unsaid"}, {Job: job{"d"}, Handle: "handle of odd"},
	}, received)
	assert.NotContains(t, log.String(), "hunter2")
}

// A message that is held back comes again, and has not failed: nothing of it is logged.
func TestWhatIsHeldBackIsReportedAndNotLogged(t *testing.T) {
	var log bytes.Buffer
	handler := messagebatch.Received(slog.New(slog.NewJSONHandler(&log, nil)),
		func(_ context.Context, r messagebatch.Receipt[job]) error {
			switch r.Job.ID {
			case "held":
				return messagebatch.ErrHeld
			case "wrapped":
				return fmt.Errorf("for a while: %w", messagebatch.ErrHeld)
			case "failed":
				return errors.New("it failed")
			}
			return nil
		})
	held, wrapped, failed := `{"id":"held"}`, `{"id":"wrapped"}`, `{"id":"failed"}`
	assert.Equal(t, []string{"id-" + held, "id-" + wrapped}, failures(t, handler, held, `{"id":"well"}`, wrapped))
	assert.Empty(t, log.String())
	assert.Equal(t, []string{"id-" + failed}, failures(t, handler, failed))
	assert.Contains(t, log.String(), "it failed")
}
