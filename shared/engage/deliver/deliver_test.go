package deliver_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/deliver"
	"carillon/shared/engage/engagetest"
)

func TestPostIsAsTheContractHasIt(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	notBefore := p.Clock.Now().Add(4 * time.Second).Truncate(time.Millisecond)
	push, chunks := p.Accept(t, engagetest.Three(), notBefore, 3600)
	require.Empty(t, p.Deliver(t, push, chunks))
	posts := p.Gateway.Received()
	require.Len(t, posts, 1)
	assert.Equal(t, push.RequestID+".0", posts[0].ID)
	assert.False(t, posts[0].At.Before(notBefore), "never before notBefore")
	assert.WithinDuration(t, notBefore, posts[0].At, time.Second)
	const format = "2006-01-02T15:04:05.999Z07:00"
	assert.JSONEq(t, fmt.Sprintf(`{"type":"push","requestId":%q,"chunk":0,
		"program":{"uuid":%q,"name":"Spring","content":{"headline":"Hello"}},
		"aNumbers":["+5014008029","+5013509988"],"ttlSeconds":3600,"keepAfterCall":false,
		"notBefore":%q,"deliverBefore":%q,"destinations":[
		{"bNumber":"+15018902001","personalization":{"MY_VAR":"Hola <Ana> & \"José\""},"customTrackingId":"a"},
		{"bNumber":"+15018902002","personalization":{},"customTrackingId":null},
		{"bNumber":"+15018902003","personalization":{},"customTrackingId":"c"}]}`,
		push.RequestID, push.Program.UUID,
		notBefore.UTC().Format(format), notBefore.Add(time.Hour).UTC().Format(format)), posts[0].Raw)
	assert.Equal(t, engage.PushCompleted, p.Meta(t, push).State())
	assert.Zero(t, p.Meta(t, push).DueAt, "out of the due index")
}

// A POST may take 1 to 20 s: engage-deliver's time holds no longer one.
func TestTheTimeOutOfAPostHasLimits(t *testing.T) {
	t.Parallel()
	for timeout, right := range map[time.Duration]bool{
		0: true, time.Second: true, 20 * time.Second: true, 21 * time.Second: false, time.Millisecond: false, -time.Second: false,
	} {
		_, err := deliver.NewGateway(deliver.GatewayOptions{URL: "https://gateway.example.com", Timeout: timeout})
		assert.Equal(t, right, err == nil, "%v: %v", timeout, err)
	}
}

func TestADuplicateMessageDoesNothing(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	var event events.SQSEvent
	for range 10 {
		event.Records = append(event.Records, engagetest.Message(push, 0))
	}
	for range 2 {
		response, err := p.Deliverer.Handle(t.Context(), event)
		require.NoError(t, err)
		assert.Empty(t, response.BatchItemFailures)
	}
	assert.Len(t, p.Gateway.Received(), 1)
}

func TestMessagesThatAreNone(t *testing.T) {
	t.Parallel()
	p := engagetest.New(t)
	push, _ := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
	response, err := p.Deliverer.Handle(t.Context(), events.SQSEvent{Records: []events.SQSMessage{
		{MessageId: "no JSON", Body: "hello"}, {MessageId: "no push", Body: `{"requestId":"x","chunk":0}`},
		{MessageId: "no such chunk", Body: fmt.Sprintf(`{"requestId":%q,"chunk":7}`, push.RequestID)},
		{MessageId: "negative", Body: fmt.Sprintf(`{"requestId":%q,"chunk":-1}`, push.RequestID)},
		engagetest.Message(push, 0),
	}})
	require.NoError(t, err)
	var failed []string
	for _, failure := range response.BatchItemFailures {
		failed = append(failed, failure.ItemIdentifier)
	}
	assert.Equal(t, []string{"no JSON", "negative"}, failed, "these end among the dead letters")
	unknown := p.Log.Lines(t, "unknown push")
	require.Len(t, unknown, 2)
	assert.ElementsMatch(t, []any{"x", push.RequestID}, []any{unknown[0]["pushId"], unknown[1]["pushId"]})
	assert.Len(t, p.Gateway.Received(), 1)
}
