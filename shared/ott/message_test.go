package ott_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/ott"
)

// The parts of a right request.
const (
	messengerFrom = `"from":{"senderType":"messenger","senderId":"503868699681937"}`
	lineFrom      = `"from":{"senderType":"line","senderId":"2145435435632435"}`
	ottIDTo       = `"to":{"ottId":"U42348yafsd8y3248yfsq8cy9088934d"}`
	textMessage   = `"message":{"contents":[{"type":"text","text":"thanks for purchase"}],` +
		`"customKeys":[{"messagingType":"RESPONSE"}]}`
	validity         = `"validityPeriod":30`
	messageKey       = `"messageKey":"e1c35141-6e5c-4bc2-813b-60f969e52b0d"`
	messengerMessage = "{" + messageKey + "," + messengerFrom + "," + ottIDTo + "," + textMessage + "," + validity + "}"
	lineMessage      = "{" + messageKey + "," + lineFrom + "," + ottIDTo + "," + textMessage + "," + validity + "}"
)

// instead returns a right request with parts replaced, old and new in turn.
func instead(request string, parts ...string) string {
	return strings.NewReplacer(parts...).Replace(request)
}

// withMessage returns a right request with that message object.
func withMessage(request, message string) string {
	return instead(request, textMessage, `"message":`+message)
}

// withContents returns a right request with those contents.
func withContents(request, contents string) string {
	return withMessage(request, `{"contents":[`+contents+`],"customKeys":[{"messagingType":"RESPONSE"}]}`)
}

// withKeys returns a right request with those customKeys.
func withKeys(request, keys string) string {
	return withMessage(request, `{"contents":[{"type":"text","text":"t"}],"customKeys":`+keys+`}`)
}

func TestDecodeSend(t *testing.T) {
	messenger := ott.Message{
		Key: "e1c35141-6e5c-4bc2-813b-60f969e52b0d", Platform: ott.Messenger, SenderID: "503868699681937",
		OttID: "U42348yafsd8y3248yfsq8cy9088934d",
		Parts: []ott.Part{{Type: ott.TextPart, Text: "thanks for purchase"}}, MessagingType: "RESPONSE",
		Validity: 30 * time.Minute,
	}
	line := messenger
	line.Platform, line.SenderID, line.MessagingType = ott.LINE, "2145435435632435", ""
	change := func(m ott.Message, with func(*ott.Message)) ott.Message {
		with(&m)
		return m
	}
	parts := func(parts ...ott.Part) func(*ott.Message) {
		return func(m *ott.Message) { m.Parts = parts }
	}
	tests := map[string]struct {
		body string
		want ott.Message
	}{
		"Messenger": {messengerMessage, messenger},
		"LINE":      {lineMessage, line},
		"member names in any case": {`{"MESSAGEKEY":"e1c35141-6e5c-4bc2-813b-60f969e52b0d",
			"From":{"SENDERTYPE":"messenger","senderid":"503868699681937"},
			"TO":{"OttId":"U42348yafsd8y3248yfsq8cy9088934d"},
			"Message":{"Subject":"s","CONTENTS":[{"Type":"text","TEXT":"thanks for purchase"}],
			"CustomKeys":[{"MessagingType":"RESPONSE"}]},"ValidityPeriod":30}`, messenger},
		"unknown members": {instead(messengerMessage, validity, validity+`,"isLinkPreview":true`), messenger},
		"optional members": {
			instead(messengerMessage, messageKey, messageKey+`,"messageGroupKey":"g"`, `"message":{`,
				`"message":{"subject":"Message Name",`),
			messenger,
		},
		"validity as text": {instead(messengerMessage, validity, `"validityPeriod":"30"`), messenger},
		"least validity": {
			instead(messengerMessage, validity, `"validityPeriod":1`),
			change(messenger, func(m *ott.Message) { m.Validity = time.Minute }),
		},
		"greatest validity": {
			instead(messengerMessage, validity, `"validityPeriod":10080`),
			change(messenger, func(m *ott.Message) { m.Validity = 7 * 24 * time.Hour }),
		},
		"userReference alone to Messenger": {
			instead(messengerMessage, ottIDTo, `"to":{"userReference":"u"}`),
			change(messenger, func(m *ott.Message) { m.OttID, m.UserReference = "", "u" }),
		},
		"both to LINE": {
			instead(lineMessage, `"ottId":`, `"userReference":"u","ottId":`),
			change(line, func(m *ott.Message) { m.UserReference = "u" }),
		},
		"the image sample": {
			withContents(messengerMessage,
				`{"type":"image","url":"https://example.com/original.jpg",`+
					`"alturl":"https://example.com/preview.jpg","isreusable":true,"attachmentid":12345}`),
			change(messenger, parts(ott.Part{
				Type: ott.ImagePart, URL: "https://example.com/original.jpg", AltURL: "https://example.com/preview.jpg",
				IsReusable: true, AttachmentID: "12345",
			})),
		},
		"attachmentId instead of url": {
			withContents(messengerMessage, `{"type":"video","attachmentId":"98765432109876543210"}`),
			change(messenger, parts(ott.Part{Type: ott.VideoPart, AttachmentID: "98765432109876543210"})),
		},
		"the audio sample": {
			withContents(lineMessage, `{"type":"audio","url":"https://example.com/original.m4a","duration":13141}`),
			change(line,
				parts(ott.Part{Type: ott.AudioPart, URL: "https://example.com/original.m4a", Duration: 13141})),
		},
		"native keeps its digits": {
			withContents(lineMessage,
				`{"type":"native","nativePayload":{"type":"sticker","packageId":12345678901234567890,"x":"\u003c"}}`),
			change(line,
				parts(ott.Part{Type: ott.NativePart,
					NativePayload: []byte(`{"type":"sticker","packageId":12345678901234567890,"x":"\u003c"}`)})),
		},
		"native as payload": {
			withContents(lineMessage, `{"type":"native","Payload":{"type":"sticker","packageId":1.0}}`),
			change(line, parts(ott.Part{Type: ott.NativePart,
				NativePayload: []byte(`{"type":"sticker","packageId":1.0}`)})),
		},
		"native by both names, one by value": {
			withContents(lineMessage,
				`{"type":"native","payload":{"b":[1e0],"a":"\u003c"},"nativePayload":{"a":"<","b":[1]}}`),
			change(line, parts(ott.Part{Type: ott.NativePart, NativePayload: []byte(`{"a":"<","b":[1]}`)})),
		},
		"native by both names, one of them null": {
			withContents(lineMessage, `{"type":"native","payload":{"a":1},"nativePayload":null},`+
				`{"type":"native","payload":null,"nativePayload":{"a":1}}`),
			change(line, parts(repeat(ott.Part{Type: ott.NativePart, NativePayload: []byte(`{"a":1}`)}, 2)...)),
		},
		"Messenger's longest text, in characters": {
			withContents(messengerMessage, `{"type":"text","text":"`+strings.Repeat("🍎", 2000)+`"}`),
			change(messenger, parts(ott.Part{Type: ott.TextPart, Text: strings.Repeat("🍎", 2000)})),
		},
		"LINE's longest text, in code units of UTF-16": {
			withContents(lineMessage, `{"type":"text","text":"`+strings.Repeat("🍎", 2499)+`é&"}`),
			change(line, parts(ott.Part{Type: ott.TextPart, Text: strings.Repeat("🍎", 2499) + "é&"})),
		},
		"a text may have control characters": {
			withContents(messengerMessage, `{"type":"text","text":"a\n\tb"}`),
			change(messenger, parts(ott.Part{Type: ott.TextPart, Text: "a\n\tb"})),
		},
		"a video and an audio to Messenger need no more than a URL": {
			withContents(messengerMessage, `{"type":"video","url":"https://example.com/a.mp4"}`),
			change(messenger, parts(ott.Part{Type: ott.VideoPart, URL: "https://example.com/a.mp4"})),
		},
		"what a type has no use for": {
			withContents(messengerMessage,
				`{"type":"text","text":"t","duration":-1,"isReusable":"never","url":1,"nativePayload":[]}`),
			change(messenger, parts(ott.Part{Type: ott.TextPart, Text: "t"})),
		},
		"five contents to LINE": {
			withContents(lineMessage, strings.TrimSuffix(strings.Repeat(`{"type":"text","text":"t"},`, 5), ",")),
			change(line, parts(repeat(ott.Part{Type: ott.TextPart, Text: "t"}, 5)...)),
		},
		"custom keys in several objects, the first of a name counts": {
			withKeys(messengerMessage,
				`[{"messagingType":""},{"messagingType":"MESSAGE_TAG"},null,{"tag":"HUMAN_AGENT",`+
					`"messagingType":"UPDATE"},{"notificationType":"SILENT_PUSH"}]`),
			change(messenger, func(m *ott.Message) {
				m.Parts, m.MessagingType, m.Tag, m.NotificationType = []ott.Part{{Type: ott.TextPart, Text: "t"}},
					"MESSAGE_TAG", "HUMAN_AGENT", ott.NotifySilent
			}),
		},
		"LINE needs no custom keys": {
			withMessage(lineMessage, `{"contents":[{"type":"text","text":"thanks for purchase"}]}`), line,
		},
		"LINE has no use for a messagingType": {
			withMessage(lineMessage,
				`{"contents":[{"type":"text","text":"thanks for purchase"}],"customKeys":[{"messagingType":5,`+
					`"notificationType":"NO_PUSH"}]}`),
			change(line, func(m *ott.Message) { m.NotificationType = ott.NotifyNot }),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m, faults, err := ott.DecodeSend(strings.NewReader(test.body))
			require.NoError(t, err)
			require.Empty(t, faults)
			assert.Equal(t, test.want, m)
		})
	}
}

func repeat(p ott.Part, n int) []ott.Part {
	parts := make([]ott.Part, n)
	for i := range parts {
		parts[i] = p
	}
	return parts
}

// The texts of docs/contract.md §1, "Send and receive", in the order of its list.
const (
	noKey           = "MessageKey must be provided"
	noFrom          = "From object must be provided"
	noSenderID      = "Sender Id must be provided"
	noSenderType    = "Sender Type must be provided"
	noTo            = "To object must be provided"
	noMessage       = "Message object must be provided"
	noContents      = "Message contents must be provided"
	noType          = "Content Type for all message contents must be provided"
	noText          = "Text attribute must be provided for Text type Message Content"
	noURL           = "Url attribute must be provided for Image, File, Audio and Video type Message Content"
	noValidity      = "Validity Period must be provided"
	tooManyToPage   = "Message object cannot contain more than 1 message objects"
	tooManyToLINE   = "Message object cannot contain more than 5 message objects"
	noMessagingType = "MessagingType must be provided as a Custom Key"
	noTag           = "Tag must be provided as a Custom Key when MessagingType is provided as MESSAGE_TAG"
	noRecipient     = "Either OttId or UserReference must be provided in the To object"
	noOttID         = "OttId must be provided in the To object"
	noAltURL        = "AltUrl attribute must be provided for Video type Message Content"
	noDuration      = "Duration attribute must be provided for Audio type Message Content"
)

func missing(texts ...string) fault.Violations {
	var faults fault.Violations
	for _, text := range texts {
		faults.Add(fault.Missing, "%s", text)
	}
	return faults
}

func invalid(code fault.Code, fields ...string) fault.Violations {
	var faults fault.Violations
	for _, field := range fields {
		faults.Add(code, "%s is invalid", field)
	}
	return faults
}

func TestDecodeSendReportsAllThatIsWrongInOrder(t *testing.T) {
	long := strings.Repeat("é", 101)
	tests := map[string]struct {
		body string
		want fault.Violations
	}{
		"nothing": {`{}`, missing(noKey, noFrom, noTo, noMessage, noValidity)},
		"nulls and blanks": {
			`{"messageKey":" ","from":null,"to":null,"message":null,"validityPeriod":""}`,
			missing(noKey, noFrom, noTo, noMessage, noValidity),
		},
		"empty objects": {
			`{"messageKey":"k","from":{},"to":{},"message":{},"validityPeriod":1}`,
			missing(noSenderID, noSenderType, noContents),
		},
		"MessageKey": {instead(messengerMessage, messageKey, `"messageKey":null`), missing(noKey)},
		"From":       {instead(messengerMessage, messengerFrom+",", ""), missing(noFrom)},
		"Sender Id":  {instead(messengerMessage, `"503868699681937"`, `""`), missing(noSenderID)},
		"Sender Type": {
			instead(messengerMessage, `"senderType":"messenger",`, ""), missing(noSenderType),
		},
		"To":      {instead(messengerMessage, ottIDTo+",", ""), missing(noTo)},
		"Message": {instead(messengerMessage, textMessage+",", ""), missing(noMessage)},
		"contents missing": {
			withMessage(messengerMessage, `{"customKeys":[{"messagingType":"UPDATE"}]}`), missing(noContents),
		},
		"contents empty":    {withContents(messengerMessage, ``), missing(noContents)},
		"a content is null": {withContents(messengerMessage, `null`), missing(noContents)},
		"Content Type": {
			withContents(lineMessage, `{"text":"t"},{"type":"","text":"t"},{"type":"text","text":"t"}`),
			missing(noType),
		},
		"Text": {
			withContents(lineMessage, `{"type":"text"},{"type":"text","text":" "}`), missing(noText),
		},
		"Url": {
			withContents(lineMessage, `{"type":"image"},{"type":"audio","url":"","duration":1},`+
				`{"type":"video","url":null,"altUrl":"u"}`),
			missing(noURL),
		},
		"attachmentId is Messenger's": {
			withContents(lineMessage, `{"type":"image","attachmentId":"1"}`), missing(noURL),
		},
		"native without payload": {
			withContents(messengerMessage, `{"type":"native"}`), missing("NativePayload must be provided"),
		},
		"AltUrl and Duration, of LINE": {
			withContents(lineMessage, `{"type":"audio","url":"u"},{"type":"video","url":"u","altUrl":""},`+
				`{"type":"video","url":"u"},{"type":"image","url":"u"}`),
			missing(noAltURL, noDuration),
		},
		"wrong AltUrl and Duration are not missing ones": {
			withContents(lineMessage, `{"type":"audio","url":"u","duration":0},{"type":"video","url":"u","altUrl":1}`),
			append(invalid(fault.BadValue, "Duration"), invalid(fault.WrongType, "AltUrl")...),
		},
		"native by two names that differ": {
			withContents(lineMessage, `{"type":"native","payload":{"a":1},"nativePayload":{"a":2}},`+
				`{"type":"native","payload":1,"nativePayload":{}}`),
			invalid(fault.BadValue, "Payload"),
		},
		"payload of a wrong type": {
			withContents(lineMessage, `{"type":"native","payload":"{}"}`), invalid(fault.WrongType, "Payload"),
		},
		"a text too long for Messenger": {
			withContents(messengerMessage, `{"type":"text","text":"`+strings.Repeat("é", 2001)+`"}`),
			invalid(fault.BadValue, "Text attribute"),
		},
		"texts too long for LINE": {
			withContents(lineMessage, `{"type":"text","text":"`+strings.Repeat("🍎", 2500)+`a"},`+
				`{"type":"text","text":"`+strings.Repeat("a", 5001)+`"}`),
			invalid(fault.BadValue, "Text attribute"),
		},
		"control characters": {
			`{"messageKey":"a\u0000","messageGroupKey":"\n.",
			"from":{"senderType":"messenger","senderId":"1\u007f"},"to":{"ottId":"1\t","userReference":"\u0085u"},
			"message":{"contents":[{"type":"image","attachmentId":"1\r2"}],
			"customKeys":[{"messagingType":"MESSAGE_TAG","tag":"HUMAN\u0000AGENT"}]},"validityPeriod":1}`,
			invalid(fault.BadValue, "MessageKey", "MessageGroupKey", "SenderId", "AttachmentId", "Tag", "OttId",
				"UserReference"),
		},
		"Validity Period": {instead(messengerMessage, ","+validity, ""), missing(noValidity)},
		"two contents to Messenger": {
			withContents(messengerMessage, `{"type":"text","text":"t"},{"type":"text","text":"t"}`),
			fault.Violations{{Code: fault.BadValue, Message: tooManyToPage}},
		},
		"six contents to LINE": {
			withContents(lineMessage, `{"type":"text","text":"t"}`+strings.Repeat(`,{"type":"text","text":"t"}`, 5)),
			fault.Violations{{Code: fault.BadValue, Message: tooManyToLINE}},
		},
		"MessagingType": {withKeys(messengerMessage, `[]`), missing(noMessagingType)},
		"customKeys missing": {
			withMessage(messengerMessage, `{"contents":[{"type":"text","text":"t"}]}`), missing(noMessagingType),
		},
		"Tag": {
			withKeys(messengerMessage, `[{"messagingType":"MESSAGE_TAG"}]`), missing(noTag),
		},
		"recipient of Messenger": {instead(messengerMessage, ottIDTo, `"to":{"ottId":" "}`), missing(noRecipient)},
		"recipient of LINE":      {instead(lineMessage, ottIDTo, `"to":{"userReference":"u"}`), missing(noOttID)},
		"everything at once, Messenger": {
			`{"messageKey":"","from":{"senderType":"messenger"},"to":{},"message":{"contents":[{},{"type":"text"},` +
				`{"type":"image"}],"customKeys":[{"tag":"t"}]}}`,
			append(append(missing(noKey, noSenderID, noType, noText, noURL, noValidity),
				fault.Violation{Code: fault.BadValue, Message: tooManyToPage}), missing(noMessagingType,
				noRecipient)...),
		},
		"everything at once, LINE": {
			`{"from":{"senderType":"line"},"to":{},"message":{"contents":[{},{"type":"text"},{"type":"image"},` +
				`{"type":"video"},{},{"type":"audio"}]}}`,
			append(append(missing(noKey, noSenderID, noType, noText, noURL, noValidity),
				fault.Violation{Code: fault.BadValue, Message: tooManyToLINE}),
				missing(noOttID, noAltURL, noDuration)...),
		},
		"wrong types, each in the place of the text it stands for": {
			`{"messageKey":1,"messageGroupKey":[],"from":"messenger","to":[],"message":true,"validityPeriod":{}}`,
			invalid(fault.WrongType, "MessageKey", "MessageGroupKey", "From", "To", "Message", "ValidityPeriod"),
		},
		"wrong types within, Messenger": {
			`{"messageKey":"k","from":{"senderType":"messenger","senderId":503868699681937},
			"to":{"ottId":1,"userReference":{}},
			"message":{"subject":1,"contents":[{"type":"image","url":1,"altUrl":2,"duration":[],"isReusable":[],
			"attachmentId":{}}],"customKeys":[{"messagingType":1,"tag":2,"notificationType":3}]},
			"validityPeriod":true}`,
			invalid(fault.WrongType, "SenderId", "Subject", "Url", "AltUrl", "Duration", "IsReusable", "AttachmentId",
				"ValidityPeriod", "MessagingType", "Tag", "NotificationType", "OttId", "UserReference"),
		},
		"wrong types within, LINE": {
			`{"messageKey":"k","from":{"senderType":"line","senderId":"1"},"to":{"ottId":1},
			"message":{"contents":[1,{"type":1},{"type":"text","text":{}},{"type":"native","nativePayload":"{}"}],
			"customKeys":[1]},"validityPeriod":1}`,
			invalid(fault.WrongType, "Contents", "Type", "Text", "NativePayload", "CustomKeys", "OttId"),
		},
		"contents and customKeys that are no arrays": {
			withMessage(messengerMessage, `{"contents":{},"customKeys":{}}`),
			invalid(fault.WrongType, "Contents", "CustomKeys"),
		},
		"bad values": {
			`{"messageKey":"` + long + `","messageGroupKey":"` + long + `",
			"from":{"senderType":"Messenger","senderId":"1"},"to":{},
			"message":{"contents":[{"type":"file"},{"type":"audio","url":"u","duration":-1,"isReusable":2,
			"attachmentId":1.5}],"customKeys":[{"messagingType":"NEWS","notificationType":"LOUD"}]},
			"validityPeriod":0}`,
			invalid(fault.BadValue, "MessageKey", "MessageGroupKey", "SenderType", "Type", "Duration", "IsReusable",
				"AttachmentId", "ValidityPeriod", "NotificationType"),
		},
		"bad messagingType": {
			withKeys(messengerMessage, `[{"messagingType":"NEWS"}]`), invalid(fault.BadValue, "MessagingType"),
		},
		"validity too long": {
			instead(messengerMessage, validity, `"validityPeriod":10081`), invalid(fault.BadValue, "ValidityPeriod"),
		},
		"validity a fraction": {
			instead(messengerMessage, validity, `"validityPeriod":1.5`), invalid(fault.BadValue, "ValidityPeriod"),
		},
		"validity no number": {
			instead(messengerMessage, validity, `"validityPeriod":"soon"`), invalid(fault.BadValue, "ValidityPeriod"),
		},
		"validity huge": {
			instead(messengerMessage, validity, `"validityPeriod":1e400`), invalid(fault.BadValue, "ValidityPeriod"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, faults, err := ott.DecodeSend(strings.NewReader(test.body))
			require.NoError(t, err)
			assert.Equal(t, test.want, faults)
		})
	}
}

// What identifies the sender is there for the check of its registration, whatever else is wrong.
func TestDecodeSendKeepsTheSenderOfARefusedMessage(t *testing.T) {
	m, faults, err := ott.DecodeSend(strings.NewReader(`{` + lineFrom + `}`))
	require.NoError(t, err)
	assert.NotEmpty(t, faults)
	assert.Equal(t, ott.LINE, m.Platform)
	assert.Equal(t, "2145435435632435", m.SenderID)
}

func TestDecodeSendMalformed(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "no object": `[]`, "cut off": messengerMessage[:100], "trailing": messengerMessage + "{}",
		"not UTF-8":             `{"messageKey":"` + "\xff" + `"}`,
		"twice":                 `{"messageKey":"a","messageKey":"b"}`,
		"twice in another case": `{"messageKey":"a","MESSAGEKEY":"b"}`,
		"twice within":          withContents(messengerMessage, `{"type":"native","nativePayload":{"a":1,"a":2}}`),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := ott.DecodeSend(strings.NewReader(body))
			assert.True(t, fault.Is(err, fault.Malformed), "%v", err)
		})
	}
}

func TestIsMessageKey(t *testing.T) {
	assert.True(t, ott.IsMessageKey(strings.Repeat("é", 100)))
	assert.False(t, ott.IsMessageKey(strings.Repeat("é", 101)))
	assert.False(t, ott.IsMessageKey("a\nb"))
	assert.False(t, ott.IsMessageKey("\xff"))
}

// Whatever is sent, DecodeSend refuses it or makes a message of it that a platform can be sent.
func FuzzDecodeSend(f *testing.F) {
	for _, seed := range []string{
		messengerMessage, lineMessage, `{}`,
		withContents(lineMessage,
			`{"type":"native","nativePayload":{"type":"sticker"}},{"type":"image","url":"https://example.com"}`),
		withContents(lineMessage, `{"type":"native","payload":{"a":1},"nativePayload":{"a":1.0}},`+
			`{"type":"audio","url":"u","duration":1}`),
		withKeys(messengerMessage, `[{"messagingType":"MESSAGE_TAG"},{"tag":"t"}]`),
		`{"messageKey":1,"from":[],"to":1,"message":{"contents":1}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, faults, err := ott.DecodeSend(bytes.NewReader(body))
		if err != nil {
			assert.True(t, fault.Is(err, fault.Malformed), "%v", err)
			return
		}
		seen := map[fault.Violation]bool{}
		for _, violation := range faults {
			assert.False(t, seen[violation], "%s twice", violation.Message)
			seen[violation] = true
		}
		if len(faults) > 0 {
			return
		}
		assert.Contains(t, []ott.Platform{ott.Messenger, ott.LINE}, m.Platform)
		assert.NotEmpty(t, m.Key)
		assert.NotEmpty(t, m.SenderID)
		assert.NotEmpty(t, m.OttID+m.UserReference)
		assert.GreaterOrEqual(t, m.Validity, time.Minute)
		assert.NotEmpty(t, m.Parts)
		for _, part := range m.Parts {
			assert.NotEmpty(t, part.Text+part.URL+part.AttachmentID+string(part.NativePayload))
		}
		kept, err := ott.EncodeMessage(m)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(kept), len(body)+96, "what ott.MaxBody counts on")
		read, err := ott.DecodeMessage(kept)
		require.NoError(t, err)
		again, err := ott.EncodeMessage(read)
		require.NoError(t, err)
		assert.Equal(t, string(kept), string(again))
	})
}
