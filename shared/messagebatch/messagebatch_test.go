package messagebatch_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"

	"carillon/shared/messagebatch"
)

func batch(bodies ...string) events.SQSEvent {
	var event events.SQSEvent
	for _, body := range bodies {
		event.Records = append(event.Records, events.SQSMessage{MessageId: "id-" + body, Body: body})
	}
	return event
}

func failures(response events.SQSEventResponse) []string {
	var ids []string
	for _, failure := range response.BatchItemFailures {
		ids = append(ids, failure.ItemIdentifier)
	}
	return ids
}

// Partial batch response: a message that fails, or panics, comes back; the others are done.
func TestEachReportsTheMessagesThatFailed(t *testing.T) {
	handle := func(_ context.Context, body string) error {
		switch body {
		case "error":
			return errors.New("it failed")
		case "panic":
			panic("it broke")
		}
		return nil
	}
	assert.Equal(t, []string{"id-error", "id-panic"}, failures(messagebatch.Each(t.Context(), batch("a", "error", "b", "panic"), handle)))
	assert.Empty(t, messagebatch.Each(t.Context(), batch("a", "b"), handle).BatchItemFailures)
	assert.Empty(t, messagebatch.Each(t.Context(), batch(), handle).BatchItemFailures)
}

// One that takes long holds up no other: each of these waits for all of them.
func TestEachHandlesMessagesAtTheSameTime(t *testing.T) {
	var together sync.WaitGroup
	together.Add(3)
	response := messagebatch.Each(t.Context(), batch("a", "b", "c"), func(context.Context, string) error {
		together.Done()
		together.Wait()
		return nil
	})
	assert.Empty(t, response.BatchItemFailures)
}
