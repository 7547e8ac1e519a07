package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"carillon/shared/ott"
)

// single and aggregated refusals to the letter, each row of docs/contract.md §1.
func TestSendIsRefused(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	s.register("tenant-1", ott.Registration{
		Platform: ott.Messenger, PropertyID: "asleep", EndpointURL: "https://graph.facebook.com/",
	})
	s.register("tenant-2", ott.Registration{
		Platform: ott.Messenger, PropertyID: "foreign", EndpointURL: "https://graph.facebook.com/", IsActive: true,
	})
	const notSendable = `{"message":"Sender Id provided is either unregistered or inactive","errorcode":10005,` +
		`"documentation":""}`
	aggregate := func(errors ...string) string {
		return `{"message":"Please fix the following errors","errorcode":10006,"documentation":"",` +
			`"validationErrors":[` +
			strings.Join(errors, ",") + `]}`
	}
	lacks := func(text string) string { return `{"message":"` + text + `","errorcode":10002,"documentation":""}` }
	from := func(id string) string { return instead(messengerMessage, "503868699681937", id) }
	for name, test := range map[string]struct {
		body, want string
		status     int
	}{
		"unregistered":         {from("nobody"), aggregate(notSendable), 400},
		"inactive":             {from("asleep"), aggregate(notSendable), 400},
		"another tenant's":     {from("foreign"), aggregate(notSendable), 400},
		"of the other network": {from("2145435435632435"), aggregate(notSendable), 400},
		"the seed's example": {
			withMessage(messengerMessage, `{"customKeys":[{"messagingType":"RESPONSE"}]}`),
			aggregate(lacks("Message contents must be provided")), 400,
		},
		"with others, last": {
			instead(from("nobody"), messageKey+",", "", ottIDTo, `"to":{}`),
			aggregate(lacks(noKey), lacks(noRecipient), notSendable), 400,
		},
		"a wrong type": {
			instead(messengerMessage, messageKey, `"messageKey":5`),
			aggregate(`{"message":"MessageKey is invalid","errorcode":10001,"documentation":""}`), 400,
		},
		"no JSON": {
			`{"messageKey"`, `{"message":"the body is not valid JSON at byte 13","errorcode":10004,"documentation":""}`,
			400,
		},
		"too large": {
			withContents(messengerMessage, `{"type":"text","text":"`+strings.Repeat("x", 256<<10)+`"}`),
			`{"message":"the message is larger than 256 KiB","errorcode":10004,"documentation":""}`, 413,
		},
	} {
		answer := s.post(test.body)
		assert.Equal(t, test.status, answer.StatusCode, name)
		assert.Equal(t, test.want, answer.Body, name)
	}
	for name, test := range map[string]struct {
		authorization, mediaType, want string
		status                         int
	}{
		"no token":   {"", "application/json", `{"message":"Not Authorized","errorcode":0,"documentation":""}`, 401},
		"no scope":   {bearer(t, readScope, writeScope), "application/json", insufficient, 403},
		"media type": {bearer(t, sendScope), "text/plain", "", 415},
	} {
		answer := s.send.post(t, messengerMessage, map[string]string{
			"authorization": test.authorization, "content-type": test.mediaType,
		})
		assert.Equal(t, test.status, answer.StatusCode, name)
		assert.Equal(t, test.want, answer.Body, name)
	}
	assert.Empty(t, s.outbox.queued)
}
