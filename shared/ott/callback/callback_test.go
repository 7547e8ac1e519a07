package callback_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/secret"
)

// The seeds' own page and channel.
var (
	messengerPage = ott.Registration{
		Platform: ott.Messenger, PropertyID: "1732555047025799", Name: "SFMC Engineers", IsActive: true,
	}
	pageSecrets = ott.Credentials{
		ApplicationSecret: page.ApplicationSecret, PageAccessToken: secret.NewText("someaccesstoken4fasdcruib"),
		CallbackVerifyToken: secret.NewText("this_is_the_verify_token; & + ü"),
	}
	lineChannel = ott.Registration{Platform: ott.LINE, PropertyID: "1234567890", Name: "Channel", IsActive: true}
)

func TestContractHandshake(t *testing.T) {
	o := newOffice(t)
	o.register(t, messengerPage, pageSecrets)
	o.register(t, lineChannel, channel)
	const (
		forbidden = `{"message":"Insufficient Privileges","errorcode":20002,"documentation":""}`
		unknown   = `{"message":"The registration does not exist","errorcode":30003,"documentation":""}`
	)
	token := url.QueryEscape(pageSecrets.CallbackVerifyToken.Reveal())
	for name, test := range map[string]struct {
		platform, id, query string
		status              int
		body                string
	}{
		"hub.mode subscribe and the verify token": {
			"messenger", "1732555047025799", "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=" + token,
			200, "1158201444",
		},
		"a challenge is answered as it came": {
			"messenger", "1732555047025799",
			"hub.verify_token=" + token + "&hub.challenge=%3Cscript%3E%C3%A9&hub.mode=subscribe", 200, "<script>é",
		},
		"another verify token": {
			"messenger", "1732555047025799", "hub.mode=subscribe&hub.challenge=1&hub.verify_token=x", 403, forbidden,
		},
		"part of the verify token": {
			"messenger", "1732555047025799",
			"hub.mode=subscribe&hub.challenge=1&hub.verify_token=this_is_the_verify_token", 403, forbidden,
		},
		"no verify token": {
			"messenger", "1732555047025799", "hub.mode=subscribe&hub.challenge=1", 403, forbidden,
		},
		"another mode": {
			"messenger", "1732555047025799", "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=" + token, 403,
			forbidden,
		},
		"no mode": {
			"messenger", "1732555047025799", "hub.challenge=1&hub.verify_token=" + token, 403, forbidden,
		},
		"no query":             {"messenger", "1732555047025799", "", 403, forbidden},
		"a query that is none": {"messenger", "1732555047025799", "hub.mode=%zz", 403, forbidden},
		"an unknown page": {
			"messenger", "1", "hub.mode=subscribe&hub.challenge=1&hub.verify_token=" + token, 404, unknown,
		},
		"a channel's id with Messenger's path": {
			"messenger", "1234567890", "hub.mode=subscribe&hub.challenge=1&hub.verify_token=", 404, unknown,
		},
		"LINE shakes no hands": {
			"line", "1234567890", "hub.mode=subscribe&hub.challenge=1&hub.verify_token=", 404,
			`{"message":"LINE sends its callbacks by POST","errorcode":30003,"documentation":""}`,
		},
		"a platform that is none": {
			"telegram", "1732555047025799", "hub.mode=subscribe", 400,
			`{"message":"Please fix the following errors","errorcode":10006,"documentation":"",` +
				`"validationErrors":[{"message":"OttPlatformName is invalid","errorcode":10005,"documentation":""}]}`,
		},
		"a platform with part of a property's key": {
			"messenger#1732555047025799", "", "hub.mode=subscribe", 400,
			`{"message":"Please fix the following errors","errorcode":10006,"documentation":"",` +
				`"validationErrors":[{"message":"OttPlatformName is invalid","errorcode":10005,"documentation":""}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			answer := o.call(t, http.MethodGet, test.platform, test.id, func(event *events.APIGatewayV2HTTPRequest) {
				event.RawQueryString = test.query
			})
			assert.Equal(t, test.status, answer.StatusCode)
			assert.Equal(t, test.body, answer.Body)
			if test.status == http.StatusOK {
				assert.Equal(t, "text/plain; charset=utf-8", answer.Headers["content-type"])
				assert.Equal(t, "nosniff", answer.Headers["x-content-type-options"])
			}
			assert.NotEmpty(t, answer.Headers["x-request-id"])
		})
	}
	assert.NotContains(t, o.log.String(), "refusedSignatures", "a handshake carries no signature")
	assert.NotContains(t, o.log.String(), "this_is_the_verify_token")
}

func TestContractSignedEventsAreOnTheBusBeforeThe200(t *testing.T) {
	o := newOffice(t)
	o.register(t, messengerPage, pageSecrets)
	o.register(t, lineChannel, channel)
	answer := o.deliver(t, messengerPage, pageSecrets, `{"object":"page","entry":[{"id":"1732555047025799",`+
		`"time":1770739100,`+
		`"messaging":[`+messengerMessage+`,`+messengerPostback+`]},{"id":1732555047025799,"time":1770739000,`+
		`"changes":[`+messengerChange+`]}]}`)
	assert.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
	assert.Empty(t, answer.Body)
	answer = o.deliver(t, lineChannel, channel, `{"destination":"U1","events":[`+lineMessage+`,`+lineFollow+`]}`)
	assert.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
	assert.Empty(t, answer.Body)

	const id = "1732555047025799"
	in := func(channel, entryTime string) string {
		return `"object":"page","channel":"` + channel + `","entryTime":` + entryTime + `,`
	}
	assert.Equal(t, []entry{
		{
			"events-of-ott", "carillon.ott", "Messenger Event",
			o.detail("tenant-1", "messenger", id, in("messaging", "1770739100"), 0, messengerMessage), "1770739100.123",
		},
		{
			"events-of-ott", "carillon.ott", "Messenger Event",
			o.detail("tenant-1", "messenger", id, in("messaging", "1770739100"), 1,
				strings.ReplaceAll(messengerPostback, ", ", ",")),
			"1770739100.124",
		},
		{
			"events-of-ott", "carillon.ott", "Messenger Event",
			o.detail("tenant-1", "messenger", id, in("changes", "1770739000"), 2, messengerChange), "1770739000",
		},
		{
			"events-of-ott", "carillon.ott", "LINE Event",
			o.detail("tenant-1", "line", "1234567890", `"destination":"U1",`, 0, lineMessage), "1770739100.125",
		},
		{
			"events-of-ott", "carillon.ott", "LINE Event",
			o.detail("tenant-1", "line", "1234567890", `"destination":"U1",`, 1, lineFollow), "",
		},
	}, o.accepted, "numbers and texts are as the platform wrote them")
	assert.Contains(t, o.log.String(), `"client":"tenant-1"`)
}

func TestContractEmptyListIsLINEsOwnCheck(t *testing.T) {
	o := newOffice(t)
	o.register(t, lineChannel, channel)
	answer := o.deliver(t, lineChannel, channel, `{"destination":"U1","events":[]}`)
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	assert.Empty(t, o.calls)
}

func TestContractSignatureMissingOrWrong(t *testing.T) {
	body := `{"entry":[{"messaging":[` + messengerMessage + `]}],"events":[` + lineMessage + `]}`
	rotated := ott.Credentials{ApplicationSecret: secret.NewText("former"), ChannelSecret: secret.NewText("former")}
	for name, test := range map[string]struct {
		registration ott.Registration
		kept, signed ott.Credentials
		change       func(*events.APIGatewayV2HTTPRequest)
	}{
		"Messenger: missing": {
			messengerPage, pageSecrets, pageSecrets,
			func(event *events.APIGatewayV2HTTPRequest) { event.Headers = nil },
		},
		"Messenger: another secret": {messengerPage, pageSecrets, rotated, nil},
		"Messenger: another body": {
			messengerPage, pageSecrets, pageSecrets, func(event *events.APIGatewayV2HTTPRequest) { event.Body += " " },
		},
		"Messenger: no body": {
			messengerPage, pageSecrets, pageSecrets, func(event *events.APIGatewayV2HTTPRequest) { event.Body = "" },
		},
		"LINE: missing": {
			lineChannel, channel, channel, func(event *events.APIGatewayV2HTTPRequest) { event.Headers = nil },
		},
		"LINE: another secret": {lineChannel, channel, rotated, nil},
		"LINE: Messenger's signature": {lineChannel, channel, channel, func(event *events.APIGatewayV2HTTPRequest) {
			event.Headers = map[string]string{"x-hub-signature-256": pageSignature}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.register(t, test.registration, test.kept)
			platform, id := string(test.registration.Platform), test.registration.PropertyID
			answer := o.call(t, http.MethodPost, platform, id, func(event *events.APIGatewayV2HTTPRequest) {
				name, value := callback.Sign(test.registration.Platform, test.signed, []byte(body))
				event.Headers[name], event.Body = value, body
				if test.change != nil {
					test.change(event)
				}
			})
			assert.Equal(t, http.StatusUnauthorized, answer.StatusCode)
			assert.Equal(t, `{"message":"Not Authorized","errorcode":0,"documentation":""}`, answer.Body)
			assert.Empty(t, o.calls, "nothing is published")
			log := o.log.String()
			o.log.Metric(t, "refusedSignatures", 1)
			assert.Contains(t, log, `"tenant":"tenant-1","platform":"`+platform+`","ottPropertyId":"`+id+`"`)
			for _, s := range []secret.Text{
				test.kept.ApplicationSecret, test.kept.ChannelSecret, test.kept.CustomerConnectSecret,
				test.kept.CallbackVerifyToken, test.kept.PageAccessToken,
			} {
				if !s.IsZero() {
					assert.NotContains(t, log, s.Reveal())
				}
			}
			assert.NotContains(t, log, "Hello, world", "nor what somebody wrote")
		})
	}
}

func TestContractUnknownRegistration(t *testing.T) {
	o := newOffice(t)
	o.register(t, messengerPage, pageSecrets)
	for _, r := range []ott.Registration{
		{Platform: ott.Messenger, PropertyID: "1"}, {Platform: ott.LINE, PropertyID: messengerPage.PropertyID},
		{Platform: ott.LINE, PropertyID: strings.Repeat("1", 5000)},
	} {
		answer := o.deliver(t, r, pageSecrets, pageBody)
		assert.Equal(t, http.StatusNotFound, answer.StatusCode)
		assert.Equal(t, `{"message":"The registration does not exist","errorcode":30003,"documentation":""}`,
			answer.Body)
	}
}

func TestContractBodyThatIsNotThePlatforms(t *testing.T) {
	o := newOffice(t)
	o.register(t, messengerPage, pageSecrets)
	o.register(t, lineChannel, channel)
	for _, body := range []string{"", "no JSON", `{"a":1}`, `[]`} {
		answer := o.deliver(t, messengerPage, pageSecrets, body)
		assert.Equal(t, http.StatusBadRequest, answer.StatusCode, body)
		assert.Contains(t, answer.Body, `"errorcode":10004`)
		answer = o.deliver(t, lineChannel, channel, body)
		assert.Equal(t, http.StatusBadRequest, answer.StatusCode, body)
		assert.Contains(t, answer.Body, `"errorcode":10004`)
	}
	assert.Empty(t, o.calls)
}

// What is signed is what travelled: base64 is API Gateway's, a Content-Encoding the sender's own.
func TestContractRawBody(t *testing.T) {
	const text = `{"destination":"U1","events":[` + lineMessage + `]}`
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	signature := func(body string) string {
		_, value := callback.Sign(ott.LINE, channel, []byte(body))
		return value
	}
	base64ed := base64.StdEncoding.EncodeToString
	for name, test := range map[string]struct {
		event  events.APIGatewayV2HTTPRequest
		status int
	}{
		"as it is": {
			events.APIGatewayV2HTTPRequest{Body: text, Headers: map[string]string{"x-line-signature": signature(text)}},
			200,
		},
		"the header in other case": {
			events.APIGatewayV2HTTPRequest{Body: text, Headers: map[string]string{"X-Line-Signature": signature(text)}},
			200,
		},
		"base64": {
			events.APIGatewayV2HTTPRequest{
				Body: base64ed([]byte(text)), IsBase64Encoded: true,
				Headers: map[string]string{"x-line-signature": signature(text)},
			},
			200,
		},
		"gzip, signed as it travelled": {
			events.APIGatewayV2HTTPRequest{
				Body: base64ed(zipped.Bytes()), IsBase64Encoded: true,
				Headers: map[string]string{"content-encoding": "gzip", "x-line-signature": signature(zipped.String())},
			},
			200,
		},
		"gzip, signed as it was before": {
			events.APIGatewayV2HTTPRequest{
				Body: base64ed(zipped.Bytes()), IsBase64Encoded: true,
				Headers: map[string]string{"content-encoding": "gzip", "x-line-signature": signature(text)},
			},
			401,
		},
		"base64, and the signature is of it": {
			events.APIGatewayV2HTTPRequest{
				Body: base64ed([]byte(text)), IsBase64Encoded: true,
				Headers: map[string]string{"x-line-signature": signature(base64ed([]byte(text)))},
			},
			401,
		},
		"broken base64": {
			events.APIGatewayV2HTTPRequest{
				Body: "*", IsBase64Encoded: true, Headers: map[string]string{"x-line-signature": signature("*")},
			},
			400,
		},
		"an encoding that we do not know": {
			events.APIGatewayV2HTTPRequest{
				Body: text, Headers: map[string]string{"content-encoding": "br", "x-line-signature": signature(text)},
			},
			415,
		},
		"it says gzip and is none": {
			events.APIGatewayV2HTTPRequest{
				Body: text, Headers: map[string]string{"content-encoding": "gzip", "x-line-signature": signature(text)},
			},
			400,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.register(t, lineChannel, channel)
			id := lineChannel.PropertyID
			answer := o.call(t, http.MethodPost, "line", id, func(event *events.APIGatewayV2HTTPRequest) {
				event.Body, event.IsBase64Encoded, event.Headers = test.event.Body, test.event.IsBase64Encoded,
					test.event.Headers
			})
			assert.Equal(t, test.status, answer.StatusCode, answer.Body)
			if test.status == http.StatusOK {
				require.Len(t, o.accepted, 1)
				assert.Contains(t, o.accepted[0].Detail, lineMessage)
			} else {
				assert.Empty(t, o.calls)
			}
		})
	}
}

func TestInactiveRegistrationReceives(t *testing.T) {
	o := newOffice(t)
	inactive := lineChannel
	inactive.IsActive = false
	o.register(t, inactive, channel)
	assert.Equal(t, http.StatusOK, o.deliver(t, inactive, channel, `{"events":[`+lineFollow+`]}`).StatusCode)
	assert.Len(t, o.accepted, 1)
}

// An override takes a new secret, and callbacks signed with the old one are right for five minutes more.
func TestOverrideChangesTheSecret(t *testing.T) {
	for name, test := range map[string]struct {
		r        ott.Registration
		old, new ott.Credentials
		body     string
	}{
		"LINE": {lineChannel, connect, ott.Credentials{ChannelSecret: secret.NewText("new")}, `{"events":[{}]}`},
		"Messenger": {
			messengerPage, pageSecrets, ott.Credentials{ApplicationSecret: secret.NewText("new")},
			`{"object":"page","entry":[{"id":"1732555047025799","messaging":[{}]}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			status := func(c ott.Credentials) int { return o.deliver(t, test.r, c, test.body).StatusCode }
			o.register(t, test.r, test.old)
			assert.Equal(t, http.StatusOK, status(test.old))
			assert.Equal(t, http.StatusUnauthorized, status(test.new))
			o.register(t, test.r, test.new)
			assert.Equal(t, http.StatusOK, status(test.new))
			assert.Equal(t, http.StatusOK, status(test.old))
			o.clock.Advance(5*time.Minute - time.Millisecond)
			assert.Equal(t, http.StatusOK, status(test.old))
			o.clock.Advance(time.Millisecond)
			assert.Equal(t, http.StatusUnauthorized, status(test.old))
			assert.Equal(t, http.StatusOK, status(test.new))
			assert.Len(t, o.accepted, 5)
		})
	}
}

// docs/contract.md §1, callbacks: a verify token is right as long as the registration has it, and no longer.
func TestHandshakeAfterAnOverride(t *testing.T) {
	o := newOffice(t)
	o.register(t, messengerPage, pageSecrets)
	after := pageSecrets
	after.CallbackVerifyToken = secret.NewText("new")
	o.register(t, messengerPage, after)
	for token, status := range map[string]int{
		"new": http.StatusOK, pageSecrets.CallbackVerifyToken.Reveal(): http.StatusForbidden,
	} {
		query := url.Values{"hub.mode": {"subscribe"}, "hub.challenge": {"1"}, "hub.verify_token": {token}}
		answer := o.call(t, http.MethodGet, "messenger", messengerPage.PropertyID,
			func(event *events.APIGatewayV2HTTPRequest) { event.RawQueryString = query.Encode() })
		assert.Equal(t, status, answer.StatusCode, token)
	}
}
