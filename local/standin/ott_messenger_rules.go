package standin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The rules are those of https://developers.facebook.com/docs/messenger-platform/reference/send-api, of the pages of
// the templates and quick replies below https://developers.facebook.com/docs/messenger-platform/send-messages, and of
// the message tags there. The words are Graph's own where people report them, as in
// https://github.com/botpress/v12/issues/788 and /270.
const (
	graphTextMax         = 2000 // characters
	graphMetadataMax     = 1000
	graphQuickReplies    = 13
	graphQuickTitleMax   = 20
	graphQuickPayloadMax = 1000
	graphElements        = 10 // of a generic template
	graphTitleMax        = 80
	graphButtonTextMax   = 640 // of a button template
	graphButtons         = 3
)

// The subcodes of code 100.
const (
	graphNoSubcode  = 0
	graphRetiredTag = 1893061 // https://github.com/chatwoot/chatwoot/issues/14669
)

const graphMessageTag = "MESSAGE_TAG"

var (
	// messagingTypes are what messaging_type may be.
	messagingTypes = []string{"RESPONSE", "UPDATE", graphMessageTag}
	// messageTags are the tags that are left. CUSTOMER_FEEDBACK goes with the template of that name.
	messageTags = []string{tagHumanAgent, tagCustomerFeedback}
	// retiredTags are refused since 27 April 2026, with whatever messaging_type.
	retiredTags = []string{"CONFIRMED_EVENT_UPDATE", "ACCOUNT_UPDATE", "POST_PURCHASE_UPDATE"}
	// notificationTypes are what notification_type may be.
	notificationTypes = []string{"REGULAR", "SILENT_PUSH", "NO_PUSH"}
	attachmentTypes   = []string{"audio", "file", "image", "video", attachmentTemplate}
	templateTypes     = []string{
		"generic", "button", "media", "receipt", "product", "coupon", templateFeedback, "customer_information",
		"airline_boardingpass", "airline_checkin", "airline_itinerary", "airline_update",
	}
	quickReplyTypes = []string{"text", "user_phone_number", "user_email"}
)

const (
	tagHumanAgent       = "HUMAN_AGENT"
	tagCustomerFeedback = "CUSTOMER_FEEDBACK"
	attachmentTemplate  = "template"
	templateFeedback    = "customer_feedback"
)

// graphID is a page-scoped id, or an attachment's.
var graphID = regexp.MustCompile(`^[0-9]{1,20}$`)

// wrong says what Graph has against a message, "" if nothing, and under which subcode of code 100.
func (m *graphMessage) wrong() (subcode int, text string) {
	to := m.Recipient
	switch {
	case to.ID == "" && to.UserRef == "":
		return graphNoSubcode, "(#100) The parameter recipient is required"
	case to.UserRef == "" && !graphID.MatchString(to.ID):
		return graphNoSubcode, `(#100) Param recipient[id] must be a valid ID string (e.g., "123")`
	case !slices.Contains(messagingTypes, m.MessagingType):
		return graphNoSubcode, oneOf("messaging_type", messagingTypes)
	case m.MessagingType == graphMessageTag && m.Tag == "":
		return graphNoSubcode, "(#100) The parameter tag is required"
	case slices.Contains(retiredTags, m.Tag):
		return graphRetiredTag, "Invalid parameter"
	case m.Tag != "" && !slices.Contains(messageTags, m.Tag):
		return graphNoSubcode, oneOf("tag", messageTags)
	case m.NotificationType != "" && !slices.Contains(notificationTypes, m.NotificationType):
		return graphNoSubcode, oneOf("notification_type", notificationTypes)
	}
	text, template := wrongGraphMessage(m.Message)
	if text == "" && m.Tag == tagCustomerFeedback && template != templateFeedback {
		return graphNoSubcode, "Invalid parameter"
	}
	return graphNoSubcode, text
}

func oneOf(param string, values []string) string {
	return fmt.Sprintf("(#100) Param %s must be one of {%s}", param, strings.Join(values, ", "))
}

func lengthOf(param string, most int) string {
	return fmt.Sprintf("(#100) Length of param %s must be less than or equal to %d", param, most)
}

// graphObject is a JSON object of which each member is checked as it is asked for.
type graphObject map[string]json.RawMessage

func graphObjectOf(raw json.RawMessage) graphObject {
	var members graphObject
	if json.Unmarshal(raw, &members) != nil {
		return nil
	}
	return members
}

// text is a member that is a text, "" of any other.
func (o graphObject) text(name string) string {
	var text string
	if json.Unmarshal(o[name], &text) != nil {
		return ""
	}
	return text
}

// list is a member that is an array, nil of any other.
func (o graphObject) list(name string) []json.RawMessage {
	var items []json.RawMessage
	if json.Unmarshal(o[name], &items) != nil {
		return nil
	}
	return items
}

// strange says which members nobody knows.
func (o graphObject) strange(param string, known ...string) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(known, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf(`(#100) Invalid keys "%s" were found in param "%s".`, strings.Join(names, ", "), param)
}

// wrongGraphMessage judges the message object, and returns the template that it is, if it is one.
func wrongGraphMessage(raw json.RawMessage) (wrong, template string) {
	message := graphObjectOf(raw)
	if len(message) == 0 {
		return "(#100) Param message must be non-empty.", ""
	}
	wrong = message.strange("message", "text", "attachment", "quick_replies", "metadata", "sticker_id")
	if wrong != "" {
		return wrong, ""
	}
	kinds := 0
	for _, kind := range []string{"text", "attachment", "sticker_id"} {
		if _, has := message[kind]; has {
			kinds++
		}
	}
	text := message.text("text")
	switch {
	case kinds != 1:
		return "(#100) Param message must have one of text, attachment and sticker_id.", ""
	case message["text"] != nil && strings.TrimSpace(text) == "":
		return "(#100) Param message[text] must be a non-empty UTF-8 encoded string.", ""
	case utf8.RuneCountInString(text) > graphTextMax:
		return lengthOf("message[text]", graphTextMax), ""
	case utf8.RuneCountInString(message.text("metadata")) > graphMetadataMax:
		return lengthOf("message[metadata]", graphMetadataMax), ""
	}
	if message["attachment"] != nil {
		if wrong, template = wrongGraphAttachment(graphObjectOf(message["attachment"])); wrong != "" {
			return wrong, ""
		}
	}
	if message["quick_replies"] != nil {
		return wrongQuickReplies(message.list("quick_replies")), template
	}
	return "", template
}

func wrongGraphAttachment(attachment graphObject) (wrong, template string) {
	const param = "message[attachment]"
	kind, payload := attachment.text("type"), graphObjectOf(attachment["payload"])
	if wrong := attachment.strange(param, "type", "payload"); wrong != "" {
		return wrong, ""
	}
	switch {
	case !slices.Contains(attachmentTypes, kind):
		return oneOf(param+"[type]", attachmentTypes), ""
	case len(payload) == 0:
		return "(#100) Param " + param + "[payload] must be non-empty.", ""
	case kind == attachmentTemplate:
		return wrongTemplate(payload), payload.text("template_type")
	}
	if wrong := payload.strange(param+"[payload]", "url", "attachment_id", "is_reusable"); wrong != "" {
		return wrong, ""
	}
	address, id := payload.text("url"), payload.text("attachment_id")
	switch {
	case (address == "") == (id == ""):
		return "(#100) Param " + param + "[payload] must have one of url and attachment_id.", ""
	case id != "" && !graphID.MatchString(id):
		return "(#100) Param " + param + `[payload][attachment_id] must be a valid ID string (e.g., "123")`, ""
	case address != "" && !isGraphURL(address):
		return "(#100) " + address + " should represent a valid URL", ""
	}
	return "", ""
}

// isGraphURL reports whether Graph could fetch a URL. Its own examples are not all https.
func isGraphURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

func wrongTemplate(payload graphObject) string {
	const param = "message[attachment][payload]"
	kind, elements, buttons := payload.text("template_type"), payload.list("elements"), payload.list("buttons")
	switch {
	case !slices.Contains(templateTypes, kind):
		return oneOf(param+"[template_type]", templateTypes)
	case kind == "button" && payload.text("text") == "":
		return "(#100) The parameter " + param + "[text] is required"
	case kind == "button" && utf8.RuneCountInString(payload.text("text")) > graphButtonTextMax:
		return lengthOf(param+"[text]", graphButtonTextMax)
	case kind == "button" && (len(buttons) < 1 || len(buttons) > graphButtons):
		return fmt.Sprintf("(#100) Param %s[buttons] must have 1 to %d elements", param, graphButtons)
	case kind == "generic" && (len(elements) < 1 || len(elements) > graphElements):
		return fmt.Sprintf("(#100) Param %s[elements] must have 1 to %d elements", param, graphElements)
	case kind == "media" && len(elements) != 1:
		return fmt.Sprintf("(#100) Param %s[elements] must have 1 element", param)
	case kind != "generic":
		return ""
	}
	for i, raw := range elements {
		element, at := graphObjectOf(raw), fmt.Sprintf("%s[elements][%d]", param, i)
		switch {
		case element.text("title") == "":
			return "(#100) The parameter " + at + "[title] is required"
		case utf8.RuneCountInString(element.text("title")) > graphTitleMax:
			return lengthOf(at+"[title]", graphTitleMax)
		case utf8.RuneCountInString(element.text("subtitle")) > graphTitleMax:
			return lengthOf(at+"[subtitle]", graphTitleMax)
		case len(element.list("buttons")) > graphButtons:
			return fmt.Sprintf("(#100) Param %s[buttons] must have at most %d elements", at, graphButtons)
		}
	}
	return ""
}

func wrongQuickReplies(replies []json.RawMessage) string {
	if len(replies) < 1 || len(replies) > graphQuickReplies {
		return fmt.Sprintf("(#100) Param message[quick_replies] must have 1 to %d elements", graphQuickReplies)
	}
	for i, raw := range replies {
		reply, at := graphObjectOf(raw), fmt.Sprintf("message[quick_replies][%d]", i)
		kind, title := reply.text("content_type"), reply.text("title")
		if wrong := reply.strange(at, "content_type", "title", "payload", "image_url"); wrong != "" {
			return wrong
		}
		switch {
		case !slices.Contains(quickReplyTypes, kind):
			return oneOf(at+"[content_type]", quickReplyTypes)
		case kind == "text" && title == "":
			return "(#100) The parameter " + at + "[title] is required"
		case kind == "text" && reply["payload"] == nil:
			return "(#100) The parameter " + at + "[payload] is required"
		case utf8.RuneCountInString(title) > graphQuickTitleMax:
			return lengthOf(at+"[title]", graphQuickTitleMax)
		case utf8.RuneCountInString(reply.text("payload")) > graphQuickPayloadMax:
			return lengthOf(at+"[payload]", graphQuickPayloadMax)
		}
	}
	return ""
}
