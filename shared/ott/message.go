package ott

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
)

// Message is a message to one person, as POST /ott/v1/send takes it. The names in its tags are those of EncodeMessage:
// a message that waits must be readable by the next release.
type Message struct {
	Key              string           `json:"key"` // messageKey, the caller's own
	Platform         Platform         `json:"platform"`
	SenderID         string           `json:"senderId"` // the registration it comes from: a page id or channel id
	OttID            string           `json:"ottId,omitzero"`
	UserReference    string           `json:"userReference,omitzero"` // user_ref or reply token; tried before OttID
	Parts            []Part           `json:"parts"`
	MessagingType    string           `json:"messagingType,omitzero"` // Messenger only
	Tag              string           `json:"tag,omitzero"`           // Messenger only
	NotificationType NotificationType `json:"notificationType,omitzero"`
	// Validity is from its creation on, whole minutes. StoredMessage.ValidUntil is what is kept of it.
	Validity time.Duration `json:"-"`
}

// Part is one part of a Message. What a platform has no use for is not sent.
type Part struct {
	Type          PartType       `json:"type"`
	Text          string         `json:"text,omitzero"`
	URL           string         `json:"url,omitzero"`
	AltURL        string         `json:"altUrl,omitzero"`   // LINE: of the preview
	Duration      int64          `json:"duration,omitzero"` // LINE: of an audio, in ms
	NativePayload jsontext.Value `json:"nativePayload,omitzero"`
	IsReusable    bool           `json:"isReusable,omitzero"`   // Messenger: keep what the URL names for later messages
	AttachmentID  string         `json:"attachmentId,omitzero"` // Messenger: what was kept, instead of a URL
}

// PartType is what a Part is.
type PartType string

// The types of parts. A native one is in the platform's own words.
const (
	TextPart   PartType = "text"
	ImagePart  PartType = "image"
	AudioPart  PartType = "audio"
	VideoPart  PartType = "video"
	NativePart PartType = "native"
)

// hasURL reports whether a part is something to be fetched.
func (t PartType) hasURL() bool {
	return t == ImagePart || t == AudioPart || t == VideoPart
}

// NotificationType is how loud a message is, in Messenger's words.
type NotificationType string

// The notification types. The last two are one to LINE: without a notification.
const (
	NotifyRegular NotificationType = "REGULAR"
	NotifySilent  NotificationType = "SILENT_PUSH"
	NotifyNot     NotificationType = "NO_PUSH"
)

// messageTag is the messagingType that needs a tag.
const messageTag = "MESSAGE_TAG"

// Limits of a message. Its payloads, and what its URLs name, are for the platforms to judge.
const (
	maxKey      = 100       // characters
	maxValidity = 10080     // minutes: a week
	maxDuration = 1<<31 - 1 // ms
)

// IsMessageKey reports whether a text can be the messageKey of a message.
func IsMessageKey(text string) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= maxKey && !hasControls(text)
}

// fitsText reports whether a text is within its platform's limit. Messenger has 2,000 characters, and does not say what
// it counts as one: no text is refused here that is within it as Unicode counts
// (https://developers.facebook.com/docs/messenger-platform/reference/send-api). LINE has 5,000 code units of UTF-16
// (https://developers.line.biz/en/docs/messaging-api/text-character-count).
func fitsText(platform Platform, text string) bool {
	switch platform {
	case Messenger:
		return utf8.RuneCountInString(text) <= 2000
	case LINE:
		units := 0
		for _, r := range text {
			units += utf16.RuneLen(r)
		}
		return units <= 5000
	}
	return true
}

// maxContents is how many contents, its parts, a message may have.
var maxContents = map[Platform]int{Messenger: 1, LINE: 5}

type sendBody struct {
	MessageKey      jsonbody.Value                 `json:"messageKey"`
	MessageGroupKey jsonbody.Value                 `json:"messageGroupKey"`
	From            jsonbody.Object[senderBody]    `json:"from"`
	To              jsonbody.Object[recipientBody] `json:"to"`
	Message         jsonbody.Object[messageBody]   `json:"message"`
	ValidityPeriod  jsonbody.Value                 `json:"validityPeriod"`
}

type senderBody struct {
	SenderType jsonbody.Value `json:"senderType"`
	SenderID   jsonbody.Value `json:"senderId"`
}

type recipientBody struct {
	OttID         jsonbody.Value `json:"ottId"`
	UserReference jsonbody.Value `json:"userReference"`
}

type messageBody struct {
	Subject    jsonbody.Value                                  `json:"subject"`
	Contents   jsonbody.Array[jsonbody.Object[contentBody]]    `json:"contents"`
	CustomKeys jsonbody.Array[jsonbody.Object[customKeysBody]] `json:"customKeys"`
}

type contentBody struct {
	Type          jsonbody.Value `json:"type"`
	Text          jsonbody.Value `json:"text"`
	URL           jsonbody.Value `json:"url"`
	AltURL        jsonbody.Value `json:"altUrl"`
	Duration      jsonbody.Value `json:"duration"`
	NativePayload jsontext.Value `json:"nativePayload"`
	Payload       jsontext.Value `json:"payload"` // the same by another name
	IsReusable    jsonbody.Value `json:"isReusable"`
	AttachmentID  jsonbody.Value `json:"attachmentId"`
}

type customKeysBody struct {
	MessagingType    jsonbody.Value `json:"messagingType"`
	Tag              jsonbody.Value `json:"tag"`
	NotificationType jsonbody.Value `json:"notificationType"`
}

// DecodeSend reads the body of POST /ott/v1/send to its end. It returns a fault Malformed or the reader's own, or what
// is wrong with the message in the order of docs/contract.md §1, each text once; Platform and SenderID are set where
// they are usable all the same.
func DecodeSend(body io.Reader) (Message, fault.Violations, error) {
	var b sendBody
	if err := jsonbody.Decode(body, &b, jsonbody.AnyCase); err != nil {
		return Message{}, nil, err
	}
	var c messageChecker
	var m Message
	m.Key = c.name("MessageKey", b.MessageKey, "MessageKey must be provided", maxKey)
	c.name("MessageGroupKey", b.MessageGroupKey, "", maxKey)
	c.sender(&m, b.From)
	to := c.object("To", b.To.Kind, "To object must be provided")
	message := c.object("Message", b.Message.Kind, "Message object must be provided")
	if message {
		c.text("Subject", b.Message.Value.Subject, "", 0)
		c.contents(&m, b.Message.Value.Contents)
	}
	minutes := c.integer("ValidityPeriod", b.ValidityPeriod, "Validity Period must be provided", 1, maxValidity)
	m.Validity = time.Duration(minutes) * time.Minute
	if limit := maxContents[m.Platform]; limit > 0 && b.Message.Value.Contents.Count > limit {
		c.add(fault.BadValue, "Message object cannot contain more than "+strconv.Itoa(limit)+" message objects")
	}
	if message {
		c.customKeys(&m, b.Message.Value.CustomKeys)
	}
	if to {
		c.recipient(&m, b.To.Value)
	}
	c.lineMedia(&m, b.Message.Value.Contents)
	return m, c.faults, nil
}

// messageChecker reads a message's members and collects what is wrong, each text once.
type messageChecker struct{ faults fault.Violations }

func (c *messageChecker) add(code fault.Code, message string) {
	if violation := (fault.Violation{Code: code, Message: message}); !slices.Contains(c.faults, violation) {
		c.faults = append(c.faults, violation)
	}
}

// text reads a string of at most limit characters, if that is not 0. An empty missing is of a member that may be
// absent.
func (c *messageChecker) text(name string, v jsonbody.Value, missing string, limit int) string {
	switch {
	case v.Missing():
		c.missing(missing)
	case !v.IsString():
		c.add(fault.WrongType, name+" is invalid")
	case limit > 0 && utf8.RuneCountInString(v.Text) > limit:
		c.add(fault.BadValue, name+" is invalid")
	default:
		return v.Text
	}
	return ""
}

// name reads an id or a name, which holds no control characters.
func (c *messageChecker) name(name string, v jsonbody.Value, missing string, limit int) string {
	text := c.text(name, v, missing, limit)
	if hasControls(text) {
		c.add(fault.BadValue, name+" is invalid")
		return ""
	}
	return text
}

func (c *messageChecker) missing(message string) {
	if message != "" {
		c.add(fault.Missing, message)
	}
}

// oneOf reads a string that is one of a few.
func (c *messageChecker) oneOf(name string, v jsonbody.Value, missing string, allowed ...string) string {
	text := c.text(name, v, missing, 0)
	if text != "" && !slices.Contains(allowed, text) {
		c.add(fault.BadValue, name+" is invalid")
		return ""
	}
	return text
}

// integer reads a whole number, as a number or as a string of digits.
func (c *messageChecker) integer(name string, v jsonbody.Value, missing string, least, most int64) int64 {
	if v.Missing() {
		c.missing(missing)
		return 0
	}
	if v.Kind != '0' && !v.IsString() {
		c.add(fault.WrongType, name+" is invalid")
		return 0
	}
	n, err := strconv.ParseInt(v.Text, 10, 64)
	if err != nil || n < least || n > most {
		c.add(fault.BadValue, name+" is invalid")
		return 0
	}
	return n
}

// object reports whether a member is an object; what it lacks stands for its own members.
func (c *messageChecker) object(name string, kind jsontext.Kind, missing string) bool {
	switch kind {
	case '{':
		return true
	case 0, 'n':
		c.missing(missing)
	default:
		c.add(fault.WrongType, name+" is invalid")
	}
	return false
}

func (c *messageChecker) sender(m *Message, from jsonbody.Object[senderBody]) {
	if !c.object("From", from.Kind, "From object must be provided") {
		return
	}
	m.SenderID = c.name("SenderId", from.Value.SenderID, "Sender Id must be provided", maxName)
	m.Platform = Platform(c.oneOf("SenderType", from.Value.SenderType, "Sender Type must be provided",
		string(Messenger), string(LINE)))
}

// contents checks one rule for all contents after the other, which is the order of the list of texts.
func (c *messageChecker) contents(m *Message, contents jsonbody.Array[jsonbody.Object[contentBody]]) {
	switch {
	case contents.Missing() || contents.IsArray() && contents.Count == 0:
		c.add(fault.Missing, "Message contents must be provided")
	case !contents.IsArray():
		c.add(fault.WrongType, "Contents is invalid")
	}
	var bodies []contentBody
	for _, item := range contents.Items {
		if c.object("Contents", item.Kind, "Message contents must be provided") {
			bodies = append(bodies, item.Value)
		}
	}
	m.Parts = make([]Part, len(bodies))
	each := func(read func(*Part, contentBody)) {
		for i, body := range bodies {
			read(&m.Parts[i], body)
		}
	}
	each(func(part *Part, b contentBody) {
		part.Type = PartType(c.oneOf("Type", b.Type, "Content Type for all message contents must be provided",
			string(TextPart), string(ImagePart), string(AudioPart), string(VideoPart), string(NativePart)))
	})
	each(func(part *Part, b contentBody) {
		if part.Type == TextPart {
			part.Text = c.text("Text", b.Text, "Text attribute must be provided for Text type Message Content", 0)
			if !fitsText(m.Platform, part.Text) {
				c.add(fault.BadValue, "Text attribute is invalid")
			}
		}
	})
	each(func(part *Part, b contentBody) {
		if part.Type.hasURL() {
			missing := "Url attribute must be provided for Image, File, Audio and Video type Message Content"
			if m.Platform == Messenger && !b.AttachmentID.Missing() {
				missing = ""
			}
			part.URL = c.text("Url", b.URL, missing, maxURL)
		}
	})
	each(func(part *Part, b contentBody) {
		switch {
		case part.Type == NativePart:
			part.NativePayload = c.native(b)
		case part.Type.hasURL():
			part.AltURL = c.text("AltUrl", b.AltURL, "", maxURL)
			least := int64(0)
			if m.Platform == LINE && part.Type == AudioPart {
				least = 1
			}
			part.Duration = c.integer("Duration", b.Duration, "", least, maxDuration)
			part.IsReusable = c.flag("IsReusable", b.IsReusable)
			part.AttachmentID = c.id("AttachmentId", b.AttachmentID)
		}
	})
}

// native reads the object that a native content is. Where it is there by both of its names, both must be one by value.
func (c *messageChecker) native(b contentBody) jsontext.Value {
	name, payload := "NativePayload", b.NativePayload
	if isMissing(payload) && !isMissing(b.Payload) {
		name, payload = "Payload", b.Payload
	}
	if !c.object(name, kindOf(payload), "NativePayload must be provided") {
		return nil
	}
	if !isMissing(b.Payload) && !isSame(payload, b.Payload) {
		c.add(fault.BadValue, "Payload is invalid")
	}
	return payload
}

func isMissing(value jsontext.Value) bool { return kindOf(value) == 0 || kindOf(value) == 'n' }

func kindOf(value jsontext.Value) jsontext.Kind {
	if len(value) == 0 {
		return 0
	}
	return value.Kind()
}

// isSame reports whether two values are one object by value.
func isSame(object, other jsontext.Value) bool {
	if bytes.Equal(object, other) {
		return true
	}
	first, err := jsonbody.Digest(bytes.NewReader(object))
	if err != nil {
		return false
	}
	second, err := jsonbody.Digest(bytes.NewReader(other))
	return err == nil && first == second
}

// flag reads a boolean that may be absent, in the forms that a registration's may have.
func (c *messageChecker) flag(name string, v jsonbody.Value) bool {
	if v.Missing() {
		return false
	}
	var flags checker
	set := flags.flag(name, v)
	for _, violation := range flags.faults {
		c.add(violation.Code, violation.Message)
	}
	return set
}

// id reads an id that may be a number, as Messenger's attachment ids are to their users; its digits are kept.
func (c *messageChecker) id(name string, v jsonbody.Value) string {
	if v.Kind != '0' {
		return c.name(name, v, "", maxName)
	}
	if _, err := strconv.ParseUint(v.Text, 10, 64); err != nil {
		c.add(fault.BadValue, name+" is invalid")
		return ""
	}
	return v.Text
}

// customKeys reads the keys, which may be spread over several objects: the first of a name counts.
func (c *messageChecker) customKeys(m *Message, objects jsonbody.Array[jsonbody.Object[customKeysBody]]) {
	var keys customKeysBody
	readable := objects.Missing() || objects.IsArray()
	for _, object := range objects.Items {
		readable = readable && (object.IsObject() || object.Missing())
		first(&keys.MessagingType, object.Value.MessagingType)
		first(&keys.Tag, object.Value.Tag)
		first(&keys.NotificationType, object.Value.NotificationType)
	}
	if !readable {
		c.add(fault.WrongType, "CustomKeys is invalid")
		return
	}
	if m.Platform == Messenger {
		m.MessagingType = c.oneOf("MessagingType", keys.MessagingType,
			"MessagingType must be provided as a Custom Key", "RESPONSE", "UPDATE", messageTag)
		missing := ""
		if m.MessagingType == messageTag {
			missing = "Tag must be provided as a Custom Key when MessagingType is provided as MESSAGE_TAG"
		}
		m.Tag = c.name("Tag", keys.Tag, missing, maxName)
	}
	m.NotificationType = NotificationType(c.oneOf("NotificationType", keys.NotificationType, "",
		string(NotifyRegular), string(NotifySilent), string(NotifyNot)))
}

func first(kept *jsonbody.Value, v jsonbody.Value) {
	if kept.Missing() {
		*kept = v
	}
}

func (c *messageChecker) recipient(m *Message, to recipientBody) {
	missing := ""
	switch {
	case m.Platform == LINE:
		missing = "OttId must be provided in the To object"
	case m.Platform == Messenger && to.UserReference.Missing():
		missing = "Either OttId or UserReference must be provided in the To object"
	}
	m.OttID = c.name("OttId", to.OttID, missing, maxName)
	m.UserReference = c.name("UserReference", to.UserReference, "", maxName)
}

// lineMedia checks what LINE wants of a video and an audio beside the URL.
func (c *messageChecker) lineMedia(m *Message, contents jsonbody.Array[jsonbody.Object[contentBody]]) {
	if m.Platform != LINE {
		return
	}
	lacks := func(kind PartType, member func(contentBody) jsonbody.Value) bool {
		return slices.ContainsFunc(contents.Items, func(item jsonbody.Object[contentBody]) bool {
			return item.Value.Type.Text == string(kind) && member(item.Value).Missing()
		})
	}
	if lacks(VideoPart, func(b contentBody) jsonbody.Value { return b.AltURL }) {
		c.missing("AltUrl attribute must be provided for Video type Message Content")
	}
	if lacks(AudioPart, func(b contentBody) jsonbody.Value { return b.Duration }) {
		c.missing("Duration attribute must be provided for Audio type Message Content")
	}
}
