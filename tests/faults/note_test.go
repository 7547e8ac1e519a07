package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/shared/dynamo"
	"carillon/shared/ott"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

const (
	ottSend    = "OttSendFunction"
	ottDeliver = "OttDeliverFunction"
	sendPath   = "/ott/v1/send"
	// demoBrand is the tenant of the demo's OTT client.
	demoBrand = "demo-brand"
	// What the platforms are asked for.
	messengerSend = "/me/messages"
	lineGrant     = "/oauth2/v3/token"
	linePush      = "/v2/bot/message/push"
)

// What of the messages table a call is about, by a part of its body.
const (
	ofMessage = "#message#"
	aPermit   = "ADD #now :one"
	aClaim    = "SET lease = :lease"
	aRecord   = "SET sentAt = if_not_exists"
	aState    = "SET credentialsState = :state" // of the registrations table
	aReturn   = "ADD #now :less"
)

// note is an OTT message from a page or channel of its own, to a person of its own, under a key that nothing else has.
type note struct {
	platform    ott.Platform
	sender, key string
	person      string
}

// newNote registers a sender, active and with credentials of its own.
func newNote(t *testing.T, platform ott.Platform) note {
	t.Helper()
	n := note{platform: platform, sender: uuid.NewString()}.another()
	n.register(t)
	return n
}

// another is one more message from the same sender, to somebody else.
func (n note) another() note {
	n = n.next()
	n.person = harness.RecipientID(string(n.platform), n.key)
	return n
}

// next is one more message of the same conversation.
func (n note) next() note {
	n.key = uuid.NewString()
	return n
}

// register registers the sender, again with other credentials if there is one.
func (n note) register(t *testing.T) {
	t.Helper()
	version := uuid.NewString()
	body := harness.RegistrationBody(n.sender, version)
	if n.platform == ott.LINE {
		body = fmt.Sprintf(
			`{"ottPlatformName":"line","ottPlatformAttributes":{"channelId":%q,"channelName":"n","channelSecret":%q,
			"endpointUrl":"https://example.com/","isTransactional":true,"isTestChannel":false,"isActive":true}}`,
			n.sender,
			version,
		)
	}
	answer := bundle.Post(t, "/ott/v1/registration", body, ottBearer(t))
	require.Equal(t, http.StatusCreated, answer.Status, answer.Body)
}

// property is how keys name the sender.
func (n note) property() string { return string(n.platform) + "#" + n.sender }

// secret is the name of the secret that has the sender's credentials.
func (n note) secret(t *testing.T) string {
	t.Helper()
	for _, item := range bundle.Scan(t, stackname.RegistrationsTable) {
		if dynamo.GetString(item, "pk") == n.property() {
			return dynamo.GetString(item, "secretName")
		}
	}
	t.Fatal("there is no registration of " + n.property())
	return ""
}

// credentials is what the registration says of its credentials.
func (n note) credentials(t *testing.T) string {
	t.Helper()
	answer := bundle.Ask(t, http.MethodGet, "/ott/v1/registration/"+string(n.platform)+"/"+n.sender, ottBearer(t))
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	state, is := answer.Object(t)["credentials"].(map[string]any)
	require.True(t, is, answer.Body)
	return state["state"].(string)
}

// told is how often the bus was told of the registration's credentials.
func (n note) told() int {
	times := 0
	for _, event := range bundle.Events.Published() {
		if event.Source == "carillon.ott" && event.DetailType == "Credentials State Change" &&
			strings.Contains(string(event.Detail), n.sender) {
			times++
		}
	}
	return times
}

// send asks for the message.
func (n note) send(t *testing.T) harness.Reply {
	t.Helper()
	return bundle.Post(
		t,
		sendPath,
		fmt.Sprintf(`{"messageKey":%[1]q,"from":{"senderType":%[2]q,"senderId":%[3]q},"to":{"ottId":%[4]q},
		"message":{"contents":[{"type":"text","text":"hello %[1]s"}],"customKeys":[{"messagingType":"RESPONSE"}]},
		"validityPeriod":60}`,
			n.key, n.platform, n.sender, n.person),
		ottBearer(t),
	)
}

// accepted asks for the message, which must be taken, and returns its ottRequestId.
func (n note) accepted(t *testing.T) string {
	t.Helper()
	answer := n.send(t)
	require.Equal(t, http.StatusCreated, answer.Status, answer.Body)
	return answer.Field(t, "ottRequestId")
}

// isDurable reports whether the message is kept.
func (n note) isDurable(t *testing.T) bool {
	t.Helper()
	answer := bundle.Ask(t, http.MethodGet, sendPath+"/"+n.key, ottBearer(t))
	require.Contains(t, []int{http.StatusOK, http.StatusNotFound}, answer.Status, answer.Body)
	return answer.Status == http.StatusOK
}

// status is the message's last event, with its reason if there is one.
func (n note) status(t *testing.T) string {
	t.Helper()
	answer := bundle.Ask(t, http.MethodGet, sendPath+"/"+n.key, ottBearer(t))
	last := shownStatus(t, answer)
	return strings.TrimSpace(last[len(last)-1].Event + " " + last[len(last)-1].Reason)
}

// event is one of a message's status.
type event struct {
	Event, Reason string
	EventDateTime time.Time
}

// createdAt is when the message was accepted, which its job says too.
func (n note) createdAt(t *testing.T) time.Time {
	t.Helper()
	return shownStatus(t, bundle.Ask(t, http.MethodGet, sendPath+"/"+n.key, ottBearer(t)))[0].EventDateTime
}

func shownStatus(t *testing.T, answer harness.Reply) []event {
	t.Helper()
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	var body struct{ Status []event }
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &body))
	return body.Status
}

// final waits until the message is, and returns its status.
func (n note) final(t *testing.T) string {
	t.Helper()
	return harness.Eventually(t, "the message is final", func() (string, bool) {
		status := n.status(t)
		event, _, _ := strings.Cut(status, " ")
		return status, event != "Created" && event != "Queued"
	})
}

// taken is what the platform took of the message: each one is a copy on the person's phone.
func (n note) taken() []standin.PlatformRequest {
	var taken []standin.PlatformRequest
	for _, r := range bundle.OTT.Requests() {
		if r.Status == http.StatusOK && strings.Contains(r.Body, n.key) {
			taken = append(taken, r)
		}
	}
	return taken
}

// requireSent checks that the message is one, and that the platform took it as often as is allowed.
func (n note) requireSent(t *testing.T, id string, copies int) {
	t.Helper()
	require.Equal(t, "Sent", n.final(t))
	assert.Len(t, n.taken(), copies)
	messages := 0
	for _, item := range bundle.Scan(t, stackname.MessagesTable) {
		if key := dynamo.GetString(
			item,
			"id",
		); strings.HasPrefix(key, demoBrand+ofMessage) &&
			strings.Contains(key, id) {
			messages++
		}
	}
	assert.Equal(t, 1, messages)
	for _, r := range bundle.OTT.Requests() {
		if r.Path == linePush && strings.Contains(r.Body, n.key) {
			assert.Equal(t, id, r.Headers["x-line-retry-key"], "LINE knows a repeat by it")
		}
	}
}

// requireInOrder checks that the platform took no message of a conversation before the one before it, nor took anything
// of it again once it had the next.
func requireInOrder(t *testing.T, conversation ...note) {
	t.Helper()
	var took []int
	for _, r := range bundle.OTT.Requests() {
		for i, n := range conversation {
			if r.Status == http.StatusOK && strings.Contains(r.Body, n.key) {
				took = append(took, i)
			}
		}
	}
	assert.IsNonDecreasing(t, took)
}

// set changes an item of the messages table, as if time had passed.
func set(t *testing.T, id, name string, ms int64) {
	t.Helper()
	_, err := bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 aws.String(bundle.Table(stackname.MessagesTable)),
		Key:                       dynamo.Item{"id": dynamo.String(id)},
		UpdateExpression:          aws.String("SET #name = :value"),
		ConditionExpression:       aws.String("attribute_exists(id)"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: dynamo.Item{":value": dynamo.Int(ms)},
	})
	require.NoError(t, err)
}

// leaseEnds lets the time pass in which the message is a killed process's own, if it was claimed, until an epoch time.
func leaseEnds(t *testing.T, id string, ms int64) {
	t.Helper()
	for _, item := range bundle.Scan(t, stackname.MessagesTable) {
		key := dynamo.GetString(item, "id")
		if strings.HasPrefix(key, demoBrand+"#progress#"+id+"#") && item["lease"] != nil {
			set(t, key, "notBefore", ms)
		}
	}
}
