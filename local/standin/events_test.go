package standin_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/local/standin"
)

func TestEventsKeepsWhatEventBridgeAccepts(t *testing.T) {
	events := standin.NewEvents()
	server, err := standin.Start(events)
	require.NoError(t, err)
	control := httptest.NewServer(server.Control())
	t.Cleanup(func() { control.Close(); server.Close() })
	p := partners{Server: server, control: control.URL + "/_local/"}
	client := emulatortest.EventBridgeAt(server.URL("events"))
	put := func(entries ...types.PutEventsRequestEntry) (*eventbridge.PutEventsOutput, error) {
		return client.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: entries})
	}
	good := types.PutEventsRequestEntry{
		Source:     aws.String("carillon.ott"),
		DetailType: aws.String("message"),
		Detail:     aws.String(`{"a":1.10}`),
	}
	_, err = put(good)
	require.Error(t, err, "there is no emulator yet")
	require.NoError(t, events.Connect(emulatortest.AWSEndpoint()))

	name := emulatortest.StackName()
	bus, err := client.CreateEventBus(t.Context(), &eventbridge.CreateEventBusInput{Name: aws.String(name)})
	require.NoError(t, err)
	byName, byARN, bad := good, good, good
	byName.EventBusName, byARN.EventBusName, bad.Detail = aws.String(name), bus.EventBusArn, aws.String("no JSON")
	out, err := put(good, bad, byName, byARN)
	require.NoError(t, err)
	assert.EqualValues(t, 1, out.FailedEntryCount)

	require.NoError(t, server.Script("events", standin.Answer{Status: 503}))
	_, err = put(good)
	require.Error(t, err)

	got := p.received(t, "events")
	var buses []any
	for _, event := range got {
		buses = append(buses, event["bus"])
		assert.NotEmpty(t, event["at"])
		assert.Equal(t, "carillon.ott", event["source"])
		assert.Equal(t, "message", event["detailType"])
		assert.Equal(t, map[string]any{"a": 1.1}, event["detail"])
	}
	assert.Equal(t, []any{"default", name, name}, buses)
	do(t, http.MethodDelete, p.control+"events", "", nil)
	assert.Empty(t, p.received(t, "events"))
}
