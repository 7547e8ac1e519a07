package contract_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/shared/ott"
	"carillon/shared/secret"
	"carillon/tests/harness"
)

var ottGet = endpoint{operation: http.MethodGet, path: "/ott/v1/registration/{platform}/{ottPropertyId}"}

// fate is what GET of a message says of it, but for its body.
type fate struct {
	Status             []event
	PlatformMessageIDs []string `json:"platformMessageIds"`
}

func fateOf(t *testing.T, id string) fate {
	t.Helper()
	var f fate
	require.NoError(t, json.Unmarshal([]byte(statusOf(t, bundle.Demo.OTT, id).Body), &f))
	return f
}

func (f fate) events() []string {
	names := make([]string, len(f.Status))
	for i, e := range f.Status {
		names[i] = e.Event
	}
	return names
}

// sentTo sends a message to a person, waits until it is sent, and returns its id and Messenger's.
func (s sender) sentTo(t *testing.T, person string) (id, mid string) {
	t.Helper()
	message := s.hello()
	message["to"] = object{"ottId": person}
	id = accepted(t, message.text(t))
	require.Equal(t, "Sent", finished(t, id)[2].Event)
	ids := fateOf(t, id).PlatformMessageIDs
	require.Len(t, ids, 1)
	return id, ids[0]
}

// receipts is the property as its app, which sends a receipt of a person's about what was sent until now.
func (s sender) receipts(t *testing.T, person, receipt string) {
	t.Helper()
	page := property{s.platform, s.id, ott.Credentials{
		ApplicationSecret: secret.NewText(s.attributes["applicationSecret"].(string)),
	}}
	body := fmt.Sprintf(`{"object":"page","entry":[{"id":%q,"time":%d,"messaging":[{"sender":{"id":%q},
		"recipient":{"id":%q},"timestamp":%d,%s}]}]}`,
		s.id, time.Now().UnixMilli(), person, s.id, time.Now().UnixMilli(), receipt)
	require.Equal(t, http.StatusOK, page.tell(t, body).Status)
}

// docs/contract.md §1: Delivered and Read come from the platform's receipts, by watermark or by the message's own id.
func TestContractReceipts(t *testing.T) {
	t.Parallel()
	page := newPage(t)
	person, other := page.recipient(), harness.RecipientID(page.platform, unique())
	first, _ := page.sentTo(t, person)
	second, secondMID := page.sentTo(t, person)
	elsewhere, _ := page.sentTo(t, other)
	assert.Equal(t, []string{"Created", "Queued", "Sent"}, fateOf(t, first).events())

	// Of long ago, but for the id that it names.
	page.receipts(t, person, fmt.Sprintf(`"delivery":{"mids":[%q],"watermark":1458668856253}`, secondMID))
	assert.Equal(t, []string{"Created", "Queued", "Sent"}, fateOf(t, first).events())
	assert.Equal(t, []string{"Created", "Queued", "Sent", "Delivered"}, fateOf(t, second).events())

	now := fmt.Sprint(time.Now().UnixMilli())
	page.receipts(t, person, `"read":{"watermark":`+now+`}`)
	page.receipts(t, person, `"delivery":{"watermark":`+now+`}`) // the later one comes first
	for _, id := range []string{first, second} {
		assert.Equal(t, []string{"Created", "Queued", "Sent", "Delivered", "Read"}, fateOf(t, id).events())
	}
	assert.Equal(t, []string{"Created", "Queued", "Sent"}, fateOf(t, elsewhere).events(), "another person's")

	last, _ := page.sentTo(t, person)
	assert.Equal(t, []string{"Created", "Queued", "Sent"}, fateOf(t, last).events(), "sent after it was read")
	// What is no receipt of a person's changes nothing, and costs nothing else.
	for _, odd := range []string{
		`"delivery":{}`, `"read":{"watermark":"soon"}`, `"read":7`, `"delivery":{"mids":[7,null,{}],"watermark":null}`,
	} {
		page.receipts(t, person, odd)
	}
	assert.Equal(t, []string{"Created", "Queued", "Sent"}, fateOf(t, last).events())
}

// docs/contract.md §1: LINE's ids are kept, one for each content.
func TestContractPlatformMessageIds(t *testing.T) {
	t.Parallel()
	channel := newChannel(t)
	message := channel.hello()
	message["message"].(object)["contents"] = []any{
		object{"type": "text", "text": "one"}, object{"type": "text", "text": "two"},
	}
	id := accepted(t, message.text(t))
	assert.Empty(t, fateOf(t, id).PlatformMessageIDs[:0])
	require.Equal(t, "Sent", finished(t, id)[2].Event)
	ids := fateOf(t, id).PlatformMessageIDs
	require.Len(t, ids, 2)
	assert.NotEqual(t, ids[0], ids[1])
}

// docs/contract.md §1: credentials tells what the platform last said of them, and an event tells when it changes.
func TestContractCredentialsState(t *testing.T) {
	t.Parallel()
	page := newPage(t)
	events := subscribe(t, page.id)
	credentials := func() object {
		a := send(t, ottGet.at("/ott/v1/registration/messenger/"+page.id), "", "Authorization",
			ottBearer(t, bundle.Demo.OTT, ""))
		require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
		return object(a.Object(t)["credentials"].(map[string]any))
	}
	becomes := func(state string) object {
		return harness.Eventually(t, "the credentials are "+state, func() (object, bool) {
			c := credentials()
			return c, c["state"] == state
		})
	}
	assert.Equal(t, object{"state": "unknown"}, credentials(), "nothing is known yet")

	require.Equal(t, "Sent", finished(t, accepted(t, page.hello().text(t)))[2].Event)
	all := becomes("accepted")
	assert.Contains(t, all, "since")
	assert.NotContains(t, all, "reason")

	failsOnce(t, "ott", url.QueryEscape(page.attributes["pageAccessToken"].(string)), standin.Answer{
		Status: http.StatusBadRequest, Body: `{"error":{"message":"The session has been invalidated","code":190}}`,
	})
	require.Equal(t, "Error", finished(t, accepted(t, page.hello().text(t)))[2].Event)
	all = becomes("refused")
	assert.Equal(t, "Messenger answered 400: The session has been invalidated (code 190)", all["reason"])

	require.Equal(t, "Sent", finished(t, accepted(t, page.hello().text(t)))[2].Event)
	becomes("accepted")
	var states []string
	harness.Eventually(t, "each change is an event", func() ([]string, bool) {
		for _, event := range events() {
			if event.DetailType == "Credentials State Change" {
				assert.Equal(t, page.id, event.Detail.OttPropertyID)
				states = append(states, event.Detail.State)
			}
		}
		return states, len(states) >= 3
	})
	assert.Equal(t, []string{"accepted", "refused", "accepted"}, states)
	require.Equal(t, 201, register(t, object{
		"ottPlatformName": "messenger", "ottPlatformAttributes": page.attributes,
	}.text(t)).Status)
	assert.Equal(t, object{"state": "unknown"}, credentials(), "registered again")
}
