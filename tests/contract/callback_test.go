package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock/clocktest"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/stackname"
	"carillon/tests/harness"
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
		Object        string         `json:"object"`
		Channel       string         `json:"channel"`
		EntryTime     any            `json:"entryTime"`
		Destination   string         `json:"destination"`
		ReceivedAt    string         `json:"receivedAt"`
		Index         int            `json:"index"`
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

// entry is one of a page's in a Messenger callback.
func (p property) entry(list string, events ...string) string {
	return `{"id":"` + p.id + `","time":1770739099123,"` + list + `":[` + strings.Join(events, ",") + `]}`
}

// pageCallback is a callback of Messenger's about pages.
func pageCallback(entries ...string) string {
	return `{"object":"page","entry":[` + strings.Join(entries, ",") + `]}`
}

// docs/contract.md §1, callbacks: every verified event goes to the bus before the 200, one entry per event, with
// tenant, platform, property id, the envelope, receivedAt and its place in the call in the detail.
func TestCallbackEventsReachTheBus(t *testing.T) {
	t.Parallel()
	page, channel := registered(t, messengerPage()), registered(t, lineChannel())
	ofPage, ofChannel := subscribe(t, page.id), subscribe(t, channel.id)
	begun := time.Now()
	a := page.tell(t, pageCallback(page.entry("messaging", personWrote), `{"id":"`+page.id+`","time":1770739099,`+
		`"changes":[`+pageChanged+`],"standby":[`+personWrote+`]}`, `{"id":"`+page.id+`","changed_fields":["feed"]}`))
	require.Equal(t, 200, a.Status, "%s", a.Body)
	a = channel.tell(t, `{"destination":"U0","events":[`+userWrote+`,`+userCame+`]}`)
	require.Equal(t, 200, a.Status, "%s", a.Body)

	type told struct {
		index                        int
		object, channel, destination string
		entryTime                    any
		event                        string
	}
	for _, test := range []struct {
		property
		events     []busEvent
		detailType string
		want       []told
	}{
		{page, ofPage(), "Messenger Event", []told{
			{0, "page", "messaging", "", 1770739099123.0, personWrote},
			{1, "page", "changes", "", 1770739099.0, pageChanged},
			{2, "page", "standby", "", 1770739099.0, personWrote},
			{3, "page", "", "", nil, `{"id":"` + page.id + `","changed_fields":["feed"]}`},
		}},
		{channel, ofChannel(), "LINE Event", []told{{0, "", "", "U0", nil, userWrote}, {1, "", "", "U0", nil, userCame}}},
	} {
		var got []told
		for _, event := range test.events {
			assert.Equal(t, "carillon.ott", event.Source)
			assert.Equal(t, test.detailType, event.DetailType)
			d := event.Detail
			assert.Equal(
				t,
				[]string{"demo-brand", test.platform, test.id},
				[]string{d.Tenant, d.Platform, d.OttPropertyID},
			)
			assert.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, d.ReceivedAt)
			received, err := time.Parse(time.RFC3339, d.ReceivedAt)
			require.NoError(t, err)
			assert.WithinRange(t, received, begun.Truncate(time.Millisecond), time.Now())
			got = append(got, told{d.Index, d.Object, d.Channel, d.Destination, d.EntryTime, object(d.Event).text(t)})
		}
		slices.SortFunc(got, func(a, b told) int { return a.index - b.index })
		for i := range test.want {
			var event object
			require.NoError(t, json.Unmarshal([]byte(test.want[i].event), &event))
			test.want[i].event = event.text(t)
		}
		assert.Equal(t, test.want, got)
	}
}

// docs/contract.md §1, callbacks: an entry belongs to the page in entry.id, never to the path, and is published under
// that page's registration and tenant if its applicationSecret signs the body too; other entries are dropped.
func TestCallbackEntriesOfOtherPages(t *testing.T) {
	t.Parallel()
	path, sameApp, otherApp := messengerPage(), messengerPage(), messengerPage()
	appSecret := dig(path, []any{"ottPlatformAttributes", "applicationSecret"})
	sameApp = sameApp.set(appSecret, "ottPlatformAttributes", "applicationSecret")
	page, foreign := registered(t, path), registered(t, otherApp)
	registerAs(t, bundle.Demo.OTTOther, sameApp)
	other := property{"messenger", dig(sameApp, []any{"ottPlatformAttributes", "pageId"}).(string), page.credentials}
	unknown := property{"messenger", unique(), page.credentials}
	ofPage, ofOther := subscribe(t, page.id), subscribe(t, other.id)
	ofForeign, ofUnknown := subscribe(t, foreign.id), subscribe(t, unknown.id)

	a := page.tell(t, pageCallback(
		other.entry("messaging", personWrote),
		foreign.entry("messaging", personWrote),
		unknown.entry(
			"messaging",
			personWrote,
		),
		page.entry("messaging", personWrote),
		`{"messaging":[`+personWrote+`]}`,
	))
	require.Equal(t, 200, a.Status, "%s", a.Body)
	events := ofPage()
	require.Len(t, events, 1)
	assert.Equal(t, "demo-brand", events[0].Detail.Tenant)
	assert.Equal(t, 3, events[0].Detail.Index)
	events = ofOther()
	require.Len(t, events, 1, "another tenant's page of the same app")
	assert.NotEqual(t, "demo-brand", events[0].Detail.Tenant)
	assert.Equal(t, 0, events[0].Detail.Index)
	assert.Empty(t, ofForeign())
	assert.Empty(t, ofUnknown())
	requireDropped(t, page, 3, 0)

	require.Equal(t, 401, property{"messenger", foreign.id, page.credentials}.
		tell(t, pageCallback(page.entry("messaging", personWrote))).Status, "the path's registration did not sign")
	assert.Empty(t, ofPage())
}

// requireDropped holds the log of ott-callback to one line about what a property's callback lost.
func requireDropped(t *testing.T, p property, foreign, bad float64) {
	t.Helper()
	line := harness.Eventually(t, "the line is in the log", func() (map[string]any, bool) {
		for _, text := range bundle.LogOf("OttCallbackFunction") {
			var line map[string]any
			if strings.Contains(text, p.id) && json.Unmarshal([]byte(text), &line) == nil &&
				line["foreignEntries"] != nil {
				return line, true
			}
		}
		return nil, false
	})
	assert.Equal(t, []any{foreign, bad}, []any{line["foreignEntries"], line["badElements"]})
}

// docs/contract.md §1, callbacks: an element that is no object costs only itself.
func TestCallbackElementsThatAreNone(t *testing.T) {
	t.Parallel()
	page, channel := registered(t, messengerPage()), registered(t, lineChannel())
	ofPage, ofChannel := subscribe(t, page.id), subscribe(t, channel.id)
	require.Equal(t, 200, page.tell(t, pageCallback(`1`, page.entry("messaging", `null`, personWrote, `[]`),
		`{"id":"`+page.id+`","standby":{},"messaging":[`+personWrote+`]}`)).Status)
	require.Equal(t, 200, channel.tell(t, `{"destination":"U0","events":["x",`+userWrote+`]}`).Status)
	indexes := func(events []busEvent) []int {
		var all []int
		for _, event := range events {
			all = append(all, event.Detail.Index)
		}
		return all
	}
	assert.ElementsMatch(t, []int{2, 5}, indexes(ofPage()))
	assert.ElementsMatch(t, []int{1}, indexes(ofChannel()))
	requireDropped(t, page, 0, 4)
	requireDropped(t, channel, 0, 1)
}

// docs/contract.md §1, callbacks: only `object` values page and instagram are published.
func TestCallbackOfOtherObjects(t *testing.T) {
	t.Parallel()
	page := registered(t, messengerPage())
	events := subscribe(t, page.id)
	for _, kind := range []string{`"user"`, `null`, `"instagram"`} {
		a := page.tell(t, `{"object":`+kind+`,"entry":[`+page.entry("messaging", personWrote)+`]}`)
		require.Equal(t, 200, a.Status, "%s", a.Body)
	}
	got := events()
	require.Len(t, got, 1)
	assert.Equal(t, "instagram", got[0].Detail.Object)
}

// docs/contract.md §1, callbacks: former secrets of a registration stay right for five minutes after it is overridden.
func TestCallbackSignedWithAFormerSecret(t *testing.T) {
	t.Parallel()
	for since, status := range map[time.Duration]int{4 * time.Minute: 200, 5*time.Minute + time.Second: 401} {
		for _, body := range []object{messengerPage(), lineChannel()} {
			former := registered(t, body)
			platform := ott.Platform(former.platform)
			now := former.credentials
			now.ApplicationSecret, now.ChannelSecret = secret.NewText("new-"+unique()), secret.NewText("new-"+unique())
			now.CustomerConnectSecret = secret.Text{}
			// As ott-register would have done some minutes ago.
			overridden := store.NewRegistrations(bundle.DynamoDB(), bundle.Table(stackname.RegistrationsTable),
				bundle.SecretsManager(), stackname.RegistrationSecretPrefix(bundle.Demo.AWS.Stack),
				clocktest.At(time.Now().Add(-since)), slog.New(slog.DiscardHandler))
			require.NoError(t, overridden.Put(t.Context(), "demo-brand", uuid.NewString(),
				ott.Registration{Platform: platform, PropertyID: former.id, IsActive: true}, now))
			told := map[ott.Platform]string{ott.Messenger: pageCallback(), ott.LINE: `{"events":[]}`}[platform]
			require.Equal(t, status, former.tell(t, told).Status, "%s, %s after", platform, since)
			require.Equal(t, 200, property{former.platform, former.id, now}.tell(t, told).Status)
		}
	}
}

// docs/contract.md §1: GET's handshake takes the verify token of now alone, and a callback the secrets of a registering
// that took place a moment ago.
func TestCallbackAfterAnOverride(t *testing.T) {
	t.Parallel()
	body := messengerPage()
	former := registered(t, body)
	current := registered(t, body.set("another-"+unique(), "ottPlatformAttributes", "callbackVerifyToken").
		set("another-"+unique(), "ottPlatformAttributes", "applicationSecret"))
	for p, status := range map[*property]int{&former: 403, &current: 200} {
		query := url.Values{
			"hub.mode": {"subscribe"}, "hub.challenge": {"1"},
			"hub.verify_token": {p.credentials.CallbackVerifyToken.Reveal()},
		}
		require.Equal(t, status, send(t, handshake.at(p.path()+"?"+query.Encode()), "").Status)
		require.Equal(t, 200, p.tell(t, pageCallback()).Status)
	}
}

// docs/contract.md §1, callbacks: an empty events list is LINE's own check and gets 200; channelSecret or
// customerConnectSecret, either is right.
func TestCallbackOfLINE(t *testing.T) {
	t.Parallel()
	connected := registered(t, lineChannel())
	require.Equal(t, 200, connected.tell(t, `{"destination":"U0","events":[]}`).Status)
	onlyChannel := connected
	onlyChannel.credentials.CustomerConnectSecret = secret.Text{}
	require.Equal(t, 200, onlyChannel.tell(t, `{"destination":"U0","events":[]}`).Status)
	neither := connected
	neither.credentials = ott.Credentials{ChannelSecret: secret.NewText("another")}
	require.Equal(t, 401, neither.tell(t, `{"destination":"U0","events":[]}`).Status)
}

// docs/contract.md §1, callbacks: signature missing or wrong → 401, nothing published.
func TestCallbackSignatureMissingOrWrong(t *testing.T) {
	t.Parallel()
	for _, property := range []property{registered(t, messengerPage()), registered(t, lineChannel())} {
		events := subscribe(t, property.id)
		body := `{"object":"page","entry":[` + property.entry(
			"messaging",
			personWrote,
		) + `],"events":[` + userWrote + `]}`
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
	for _, body := range []string{"", "x", `[]`, `{}`, `{"entry":1,"events":1}`, `{"entry":[],"events":[]}{}`, "{\"entry\":[],\"events\":[],\"\xff\":1}"} {
		for _, property := range []property{page, channel} {
			a := property.tell(t, body)
			require.Equal(t, 400, a.Status, "%s: %s", body, a.Body)
			require.EqualValues(t, "10004", a.Object(t)["errorcode"], body)
		}
	}
	large := pageCallback(page.entry("messaging", `{"text":"`+strings.Repeat("a", 256<<10)+`"}`))
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
	events, told := subscribe(t, page.id), pageCallback(page.entry("messaging", personWrote))
	require.Equal(t, 200, page.tell(t, told).Status)
	require.Equal(t, 204, remove(t, bundle.Demo.OTT, page.platform, page.id).Status)
	require.Equal(t, 404, page.tell(t, told).Status)
	assert.Len(t, events(), 1)

	again := registered(t, body.set("app-secret-"+unique(), "ottPlatformAttributes", "applicationSecret"))
	require.Equal(t, 200, again.tell(t, told).Status)
	require.Equal(t, 401, page.tell(t, told).Status, "the secret of what was deleted")
	assert.Len(t, events(), 1)
}
