package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/secret"
)

var (
	handshake     = endpoint{operation: http.MethodGet, path: "/ott/v1/callback/{platform}/{ottPropertyId}"}
	callbackEvent = endpoint{operation: http.MethodPost, path: "/ott/v1/callback/{platform}/{ottPropertyId}"}
)

// property is a registration with what its platform knows of it.
type property struct {
	platform, id string
	credentials  ott.Credentials
}

// registered registers a page or channel of the demo brand.
func registered(t *testing.T, body object) property {
	t.Helper()
	a := register(t, body.text(t))
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	attributes := body["ottPlatformAttributes"].(object)
	text := func(name string) string {
		value, _ := attributes[name].(string)
		return value
	}
	return property{
		body["ottPlatformName"].(string),
		text("pageId") + text("channelId"),
		ott.Credentials{
			ApplicationSecret: secret.NewText(
				text("applicationSecret"),
			),
			CallbackVerifyToken: secret.NewText(text("callbackVerifyToken")),
			ChannelSecret: secret.NewText(
				text("channelSecret"),
			),
			CustomerConnectSecret: secret.NewText(text("customerConnectSecret")),
		},
	}
}

func (p property) path() string { return "/ott/v1/callback/" + p.platform + "/" + url.PathEscape(p.id) }

// tell sends a callback signed as the platform signs it.
func (p property) tell(t *testing.T, body string, headers ...string) answer {
	t.Helper()
	name, value := callback.Sign(ott.Platform(p.platform), p.credentials, []byte(body))
	return send(t, callbackEvent.at(p.path()), body, append([]string{name, value}, headers...)...)
}

// busEvent is an event as a subscriber gets it.
type busEvent struct {
	Source     string `json:"source"`
	DetailType string `json:"detail-type"`
	Detail     struct {
		Tenant        string         `json:"tenant"`
		Platform      string         `json:"platform"`
		OttPropertyID string         `json:"ottPropertyId"`
		State         string         `json:"state"` // of the detail type Credentials State Change
		Event         map[string]any `json:"event"`
	} `json:"detail"`
}

// subscribe makes a rule on the bundle's bus for a property's events, as a subscriber in the account would, and returns
// what reads those that have come since.
func subscribe(t *testing.T, propertyID string) (events func() []busEvent) {
	t.Helper()
	ctx := t.Context()
	bus, rules, queues := bundle.Demo.AWS.Stack+"-ott", eventbridge.NewFromConfig(bundle.AWSConfig()), bundle.SQS()
	queue, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("subscriber-" + unique())})
	require.NoError(t, err)
	attributes, err := queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: queue.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameQueueArn},
	})
	require.NoError(t, err)
	pattern := object{
		"source": []string{"carillon.ott"},
		"detail": object{"ottPropertyId": []string{propertyID}},
	}.text(
		t,
	)
	name := aws.String("subscriber-" + unique())
	_, err = rules.PutRule(ctx, &eventbridge.PutRuleInput{Name: name, EventBusName: &bus, EventPattern: &pattern})
	require.NoError(t, err)
	_, err = rules.PutTargets(ctx, &eventbridge.PutTargetsInput{
		Rule: name, EventBusName: &bus,
		Targets: []eventtypes.Target{{Id: aws.String("queue"), Arn: aws.String(attributes.Attributes["QueueArn"])}},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		_, rerr := rules.RemoveTargets(
			ctx,
			&eventbridge.RemoveTargetsInput{Rule: name, EventBusName: &bus, Ids: []string{"queue"}},
		)
		_, derr := rules.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: name, EventBusName: &bus})
		_, qerr := queues.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: queue.QueueUrl})
		assert.NoError(t, errors.Join(rerr, derr, qerr))
	})
	return func() []busEvent {
		t.Helper()
		var events []busEvent
		for {
			out, err := queues.ReceiveMessage(
				ctx,
				&sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, MaxNumberOfMessages: 10, VisibilityTimeout: 600},
			)
			require.NoError(t, err)
			if len(out.Messages) == 0 {
				return events
			}
			for _, message := range out.Messages {
				var event busEvent
				require.NoError(t, json.Unmarshal([]byte(aws.ToString(message.Body)), &event))
				events = append(events, event)
			}
		}
	}
}

// docs/contract.md §1, callbacks: hub.challenge if hub.mode is subscribe and hub.verify_token matches, else 403.
func TestCallbackHandshake(t *testing.T) {
	t.Parallel()
	page := registered(t, messengerPage())
	token := page.credentials.CallbackVerifyToken.Reveal()
	ask := func(query url.Values) answer { return send(t, handshake.at(page.path()+"?"+query.Encode()), "") }
	a := ask(url.Values{"hub.mode": {"subscribe"}, "hub.challenge": {"1158201444"}, "hub.verify_token": {token}})
	require.Equal(t, 200, a.Status)
	assert.Equal(t, "1158201444", a.Body)
	assert.Equal(t, "text/plain; charset=utf-8", a.Header.Get("Content-Type"))
	for name, query := range map[string]url.Values{
		"another token": {"hub.mode": {"subscribe"}, "hub.challenge": {"1"}, "hub.verify_token": {token + "x"}},
		"no token":      {"hub.mode": {"subscribe"}, "hub.challenge": {"1"}},
		"another mode":  {"hub.mode": {"unsubscribe"}, "hub.challenge": {"1"}, "hub.verify_token": {token}},
		"nothing":       {},
	} {
		requireOttError(t, ask(query), 403, 20002, "Insufficient Privileges", name)
	}
	unknown := property{platform: "messenger", id: unique()}
	a = send(t, handshake.at(unknown.path()+"?hub.mode=subscribe"), "")
	requireOttError(t, a, 404, 30003, "The registration does not exist", "unknown page")
	channel := registered(t, lineChannel())
	assert.Equal(
		t,
		404,
		send(t, handshake.at(channel.path()+"?hub.mode=subscribe"), "").Status,
		"LINE has no handshake",
	)
	requireFaults(
		t,
		send(t, handshake.at("/ott/v1/callback/telegram/"+page.id), ""),
		[]fault{{Message: "OttPlatformName is invalid", ErrorCode: badValue}},
	)
}

func requireOttError(t *testing.T, a answer, status, code int, message, name string) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s: %s", name, a.Body)
	var body fault
	require.NoError(t, json.Unmarshal([]byte(a.Body), &body), name)
	require.Equal(t, fault{Message: message, ErrorCode: code}, body, name)
}

const (
	personWrote = `{"sender":{"id":"6"},"timestamp":1770739099873,"message":{"mid":"m_1","text":"Where is my order?"}}`
	pageChanged = `{"field":"feed","value":{"item":"post"}}`
	userWrote   = `{"type":"message","timestamp":1770739099874,"replyToken":"r","message":{"type":"text","text":"Hola"}}`
	userCame    = `{"type":"follow","timestamp":1770739099875}`
)

// docs/contract.md §1, callbacks: every verified event goes to the bus before the 200, one entry per event, with
// tenant, platform and property id in the detail.
func TestCallbackEventsReachTheBus(t *testing.T) {
	t.Parallel()
	page, channel := registered(t, messengerPage()), registered(t, lineChannel())
	ofPage, ofChannel := subscribe(t, page.id), subscribe(t, channel.id)
	a := page.tell(
		t,
		`{"object":"page","entry":[{"id":"1","time":1770739099,"messaging":[`+personWrote+`]},{"changes":[`+pageChanged+`],"standby":[`+personWrote+`]}]}`,
	)
	require.Equal(t, 200, a.Status, "%s", a.Body)
	a = channel.tell(t, `{"destination":"U0","events":[`+userWrote+`,`+userCame+`]}`)
	require.Equal(t, 200, a.Status, "%s", a.Body)

	for _, test := range []struct {
		property
		events     []busEvent
		detailType string
		want       []string
	}{
		{page, ofPage(), "Messenger Event", []string{personWrote, personWrote, pageChanged}},
		{channel, ofChannel(), "LINE Event", []string{userWrote, userCame}},
	} {
		var got []string
		for _, event := range test.events {
			assert.Equal(t, "carillon.ott", event.Source)
			assert.Equal(t, test.detailType, event.DetailType)
			assert.Equal(
				t,
				[]string{"demo-brand", test.platform, test.id},
				[]string{event.Detail.Tenant, event.Detail.Platform, event.Detail.OttPropertyID},
			)
			got = append(got, object(event.Detail.Event).text(t))
		}
		var want []string
		for _, text := range test.want {
			var event object
			require.NoError(t, json.Unmarshal([]byte(text), &event))
			want = append(want, event.text(t))
		}
		assert.ElementsMatch(t, want, got)
	}
}

// docs/contract.md §1, callbacks: an empty events list is LINE's own check and gets 200; channelSecret, or
// customerConnectSecret where there is one.
func TestCallbackOfLINE(t *testing.T) {
	t.Parallel()
	body := lineChannel()
	connected := registered(t, body)
	require.Equal(t, 200, connected.tell(t, `{"destination":"U0","events":[]}`).Status)
	onlyChannel := connected
	onlyChannel.credentials.CustomerConnectSecret = secret.Text{}
	require.Equal(
		t,
		401,
		onlyChannel.tell(t, `{"destination":"U0","events":[]}`).Status,
		"its customer connect secret is the one that signs",
	)

	registered(t, body.without("ottPlatformAttributes", "customerConnectSecret"))
	require.Equal(t, 200, onlyChannel.tell(t, `{"destination":"U0","events":[]}`).Status)
	require.Equal(t, 401, connected.tell(t, `{"destination":"U0","events":[]}`).Status, "it has none any more")
}

// docs/contract.md §1, callbacks: signature missing or wrong → 401, nothing published.
func TestCallbackSignatureMissingOrWrong(t *testing.T) {
	t.Parallel()
	for _, property := range []property{registered(t, messengerPage()), registered(t, lineChannel())} {
		events := subscribe(t, property.id)
		body := `{"entry":[{"messaging":[` + personWrote + `]}],"events":[` + userWrote + `]}`
		name, value := callback.Sign(ott.Platform(property.platform), property.credentials, []byte(body))
		other := property
		other.credentials = ott.Credentials{ApplicationSecret: secret.NewText("x"), ChannelSecret: secret.NewText("x")}
		for what, a := range map[string]answer{
			"missing":        send(t, callbackEvent.at(property.path()), body),
			"empty":          send(t, callbackEvent.at(property.path()), body, name, ""),
			"another body":   send(t, callbackEvent.at(property.path()), body+" ", name, value),
			"cut":            send(t, callbackEvent.at(property.path()), body, name, value[:len(value)-1]),
			"another secret": other.tell(t, body),
		} {
			requireOttError(t, a, 401, 0, "Not Authorized", what)
		}
		require.Equal(t, 200, property.tell(t, body).Status)
		assert.Len(t, events(), 1, "the one that is signed")
	}
}

// docs/contract.md, Common: bodies can be base64, gzip is accepted; the signature is over the bytes that travelled.
func TestCallbackBodyInOtherEncodings(t *testing.T) {
	t.Parallel()
	channel := registered(t, lineChannel())
	events := subscribe(t, channel.id)
	body := `{"events":[` + userWrote + `]}`
	require.Equal(
		t,
		200,
		channel.tell(t, body, "Content-Type", "application/octet-stream").Status,
		"API Gateway hands it on as base64",
	)
	require.Equal(t, 200, channel.tell(t, zipped(body), "Content-Encoding", "gzip").Status)
	assert.Len(t, events(), 2)

	_, value := callback.Sign(ott.LINE, channel.credentials, []byte(body))
	require.Equal(
		t,
		401,
		send(
			t,
			callbackEvent.at(channel.path()),
			zipped(body),
			"Content-Encoding",
			"gzip",
			"X-Line-Signature",
			value,
		).Status,
	)
	require.Equal(t, 415, channel.tell(t, body, "Content-Encoding", "br").Status)
}

// docs/contract.md §1: body not JSON → 400, 10004; unknown registration → 404, 30003.
func TestCallbackThatIsNone(t *testing.T) {
	t.Parallel()
	page, channel := registered(t, messengerPage()), registered(t, lineChannel())
	for _, body := range []string{"", "x", `[]`, `{}`, `{"entry":1,"events":1}`, `{"entry":[1],"events":[1]}`, `{"entry":[],"events":[]}{}`, "{\"entry\":[],\"events\":[],\"\xff\":1}"} {
		for _, property := range []property{page, channel} {
			a := property.tell(t, body)
			require.Equal(t, 400, a.Status, "%s: %s", body, a.Body)
			require.EqualValues(t, "10004", a.Object(t)["errorcode"], body)
		}
	}
	large := `{"entry":[{"messaging":[{"text":"` + strings.Repeat("a", 256<<10) + `"}]}]}`
	require.Equal(t, 413, page.tell(t, large).Status, "an event that no bus takes")
	for _, unknown := range []property{{"messenger", unique(), page.credentials}, {"messenger", channel.id, page.credentials}, {"line", page.id, channel.credentials}} {
		requireOttError(
			t,
			unknown.tell(t, `{"entry":[],"events":[]}`),
			404,
			30003,
			"The registration does not exist",
			unknown.platform,
		)
	}
}

// A registration that is not active sends nothing, and receives all the same; one that is deleted receives no more.
func TestCallbackFollowsTheRegistration(t *testing.T) {
	t.Parallel()
	body := messengerPage()
	page := registered(t, body.set(false, "ottPlatformAttributes", "isActive"))
	events := subscribe(t, page.id)
	require.Equal(t, 200, page.tell(t, `{"entry":[{"messaging":[`+personWrote+`]}]}`).Status)
	require.Equal(t, 204, remove(t, bundle.Demo.OTT, page.platform, page.id).Status)
	require.Equal(t, 404, page.tell(t, `{"entry":[{"messaging":[`+personWrote+`]}]}`).Status)
	assert.Len(t, events(), 1)

	again := registered(t, body.set("app-secret-"+unique(), "ottPlatformAttributes", "applicationSecret"))
	require.Equal(t, 200, again.tell(t, `{"entry":[{"messaging":[`+personWrote+`]}]}`).Status)
	require.Equal(t, 401, page.tell(t, `{"entry":[{"messaging":[`+personWrote+`]}]}`).Status, "the former secret")
	assert.Len(t, events(), 1)
}
