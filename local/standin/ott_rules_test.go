package standin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMessengerTakesWhatGraphTakes has a message for each rule, on either side of it. No answer is a message taken.
func TestMessengerTakesWhatGraphTakes(t *testing.T) {
	p := startPlatforms(t)
	query := "?access_token=page-token&appsecret_proof=" + proofOf("page-token", "application-secret")
	post := func(t *testing.T, body string) (int, string) {
		t.Helper()
		response, answer := p.call(t, "POST", "https://graph.facebook.com/me/messages"+query, body, nil)
		return response.StatusCode, answer
	}
	long := func(n int) string { return strings.Repeat("é", n) }
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	attachment := func(kind, payload string) string {
		return fmt.Sprintf(`{"attachment":{"type":%q,"payload":%s}}`, kind, payload)
	}
	const reply = `{"content_type":"text","title":"Yes","payload":"y"}`
	for name, c := range map[string]struct{ message, refused string }{
		"the longest text":               {`{"text":"` + long(2000) + `"}`, ""},
		"a text too long":                {`{"text":"` + long(2001) + `"}`, "(#100) Length of param message[text] must be less than or equal to 2000"},
		"a blank text":                   {`{"text":" "}`, "message[text]"},
		"a text that is none":            {`{"text":5}`, "message[text]"},
		"an empty message":               {`{}`, "(#100) Param message must be non-empty."},
		"a message that is a text":       {`"hello"`, "(#100) Param message must be non-empty."},
		"a text and an attachment":       {`{"text":"a","attachment":{"type":"image","payload":{"attachment_id":"1"}}}`, "must have one of"},
		"neither":                        {`{"metadata":"a"}`, "must have one of"},
		"an unknown member":              {`{"text":"a","preview":"a"}`, `(#100) Invalid keys \"preview\" were found in param \"message\".`},
		"a sticker":                      {`{"sticker_id":767226160478561}`, ""},
		"the longest metadata":           {`{"text":"a","metadata":"` + long(1000) + `"}`, ""},
		"metadata too long":              {`{"text":"a","metadata":"` + long(1001) + `"}`, "message[metadata]"},
		"an image":                       {attachment("image", `{"url":"https://example.com/a.png","is_reusable":true}`), ""},
		"a file of another host":         {attachment("file", `{"url":"http://example.com/a.pdf"}`), ""},
		"an audio that was kept":         {attachment("audio", `{"attachment_id":"1745504518999123"}`), ""},
		"an unknown type":                {attachment("gif", `{"url":"https://example.com/a"}`), "(#100) Param message[attachment][type] must be one of {audio, file, image, video, template}"},
		"no payload":                     {`{"attachment":{"type":"image"}}`, "message[attachment][payload] must be non-empty"},
		"no URL":                         {attachment("image", `{"is_reusable":true}`), "url and attachment_id"},
		"a URL and an id":                {attachment("image", `{"url":"https://example.com/a","attachment_id":"1"}`), "url and attachment_id"},
		"a URL that is none":             {attachment("image", `{"url":"example"}`), "example should represent a valid URL"},
		"a URL of another scheme":        {attachment("image", `{"url":"ftp://example.com/a.png"}`), "should represent a valid URL"},
		"an attachment's id of letters":  {attachment("image", `{"attachment_id":"abc"}`), "must be a valid ID string"},
		"an unknown member of a payload": {attachment("image", `{"url":"https://example.com/a","name":"a"}`), `Invalid keys \"name\"`},
		"a button template":              {attachment("template", `{"template_type":"button","text":"`+long(640)+`","buttons":[{},{},{}]}`), ""},
		"a button template's long text":  {attachment("template", `{"template_type":"button","text":"`+long(641)+`","buttons":[{}]}`), "equal to 640"},
		"a button template, no buttons":  {attachment("template", `{"template_type":"button","text":"a"}`), "must have 1 to 3 elements"},
		"four buttons":                   {attachment("template", `{"template_type":"button","text":"a","buttons":[{},{},{},{}]}`), "must have 1 to 3 elements"},
		"a button template, no text":     {attachment("template", `{"template_type":"button","buttons":[{}]}`), "[text] is required"},
		"ten cards":                      {attachment("template", `{"template_type":"generic","elements":`+list(10, `{"title":"`+long(80)+`"}`)+`}`), ""},
		"eleven cards":                   {attachment("template", `{"template_type":"generic","elements":`+list(11, `{"title":"a"}`)+`}`), "must have 1 to 10 elements"},
		"a card without a title":         {attachment("template", `{"template_type":"generic","elements":[{"subtitle":"a"}]}`), "[elements][0][title] is required"},
		"a card's long title":            {attachment("template", `{"template_type":"generic","elements":[{"title":"`+long(81)+`"}]}`), "equal to 80"},
		"a card's long subtitle":         {attachment("template", `{"template_type":"generic","elements":[{"title":"a","subtitle":"`+long(81)+`"}]}`), "[subtitle]"},
		"a card of four buttons":         {attachment("template", `{"template_type":"generic","elements":[{"title":"a","buttons":[{},{},{},{}]}]}`), "at most 3"},
		"a media template":               {attachment("template", `{"template_type":"media","elements":[{}]}`), ""},
		"two media in a template":        {attachment("template", `{"template_type":"media","elements":[{},{}]}`), "must have 1 element"},
		"a retired template":             {attachment("template", `{"template_type":"list","elements":[{},{}]}`), "[template_type] must be one of"},
		"13 quick replies":               {`{"text":"a","quick_replies":` + list(13, reply) + `}`, ""},
		"14 quick replies":               {`{"text":"a","quick_replies":` + list(14, reply) + `}`, "must have 1 to 13 elements"},
		"quick replies that are none":    {`{"text":"a","quick_replies":{}}`, "must have 1 to 13 elements"},
		"a quick reply for an address":   {`{"text":"a","quick_replies":[{"content_type":"user_email"}]}`, ""},
		"a quick reply of no type":       {`{"text":"a","quick_replies":[{"content_type":"location"}]}`, "[content_type] must be one of"},
		"a quick reply without a title":  {`{"text":"a","quick_replies":[{"content_type":"text","payload":"a"}]}`, "[title] is required"},
		"a quick reply, no payload":      {`{"text":"a","quick_replies":[{"content_type":"text","title":"a"}]}`, "[payload] is required"},
		"a quick reply's long title":     {`{"text":"a","quick_replies":[{"content_type":"text","title":"` + long(21) + `","payload":"a"}]}`, "equal to 20"},
		"a quick reply's long payload":   {`{"text":"a","quick_replies":[{"content_type":"text","title":"a","payload":"` + long(1001) + `"}]}`, "equal to 1000"},
		"a quick reply's unknown member": {`{"text":"a","quick_replies":[{"content_type":"text","title":"a","playload":"a"}]}`, `Invalid keys \"playload\" were found in param \"message[quick_replies][0]\".`},
	} {
		t.Run(name, func(t *testing.T) {
			const to = `{"recipient":{"id":"1254477777772919"},"messaging_type":"UPDATE","message":`
			status, answer := post(t, to+c.message+`}`)
			requireVerdict(t, c.refused, status, answer)
		})
	}
	feedback := attachment("template", `{"template_type":"customer_feedback"}`)
	for name, c := range map[string]struct{ with, message, refused string }{
		"a human agent":                      {`"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT"`, `{"text":"a"}`, ""},
		"an unknown tag":                     {`"messaging_type":"MESSAGE_TAG","tag":"NEWS"`, `{"text":"a"}`, "(#100) Param tag must be one of {HUMAN_AGENT, CUSTOMER_FEEDBACK}"},
		"a retired tag":                      {`"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE"`, `{"text":"a"}`, `"message":"Invalid parameter","type":"OAuthException","code":100,"error_subcode":1893061`},
		"a retired tag of a response":        {`"messaging_type":"RESPONSE","tag":"POST_PURCHASE_UPDATE"`, `{"text":"a"}`, "Invalid parameter"},
		"a survey":                           {`"messaging_type":"MESSAGE_TAG","tag":"CUSTOMER_FEEDBACK"`, feedback, ""},
		"a survey's tag on another message":  {`"messaging_type":"MESSAGE_TAG","tag":"CUSTOMER_FEEDBACK"`, `{"text":"a"}`, "Invalid parameter"},
		"without a sound":                    {`"messaging_type":"UPDATE","notification_type":"SILENT_PUSH"`, `{"text":"a"}`, ""},
		"an unknown notification_type":       {`"messaging_type":"UPDATE","notification_type":"LOUD"`, `{"text":"a"}`, "notification_type must be one of {REGULAR, SILENT_PUSH, NO_PUSH}"},
		"a page-scoped id of letters":        {`"messaging_type":"UPDATE","recipient":{"id":"U123"}`, `{"text":"a"}`, `(#100) Param recipient[id] must be a valid ID string (e.g., \"123\")`},
		"a user_ref may be of any character": {`"messaging_type":"UPDATE","recipient":{"user_ref":"a-1"}`, `{"text":"a"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(c.with, "recipient") {
				c.with += `,"recipient":{"id":"1"}`
			}
			status, answer := post(t, `{`+c.with+`,"message":`+c.message+`}`)
			requireVerdict(t, c.refused, status, answer)
		})
	}
}

// requireVerdict checks that a message was taken, or refused in words that hold some.
func requireVerdict(t *testing.T, refused string, status int, answer string) {
	t.Helper()
	if refused == "" {
		require.Equal(t, http.StatusOK, status, answer)
		return
	}
	require.Equal(t, http.StatusBadRequest, status, answer)
	assert.Contains(t, answer, refused)
}

// TestLINETakesWhatLINETakes has a message for each rule, on either side of it. No detail is a message taken.
func TestLINETakesWhatLINETakes(t *testing.T) {
	p := startPlatforms(t)
	_, granted := p.mint(t, credentials)
	header := http.Header{
		"Authorization": {"Bearer " + granted["access_token"].(string)}, "Content-Type": {"application/json"},
	}
	push := func(t *testing.T, body string) (int, string) {
		t.Helper()
		response, answer := p.call(t, "POST", "https://api.line.me/v2/bot/message/push", body, header)
		return response.StatusCode, answer
	}
	type detail struct{ Message, Property string }
	said := func(message, member string) []detail { return []detail{{message, "messages[0]." + member}} }
	long := func(n int) string { return strings.Repeat("🍎", n/2) + strings.Repeat("a", n%2) } // in code units of UTF-16
	address := func(n int) string { return "https://example.com/" + strings.Repeat("a", n-len("https://example.com/")) }
	image := func(original, preview string) string {
		return fmt.Sprintf(`{"type":"image","originalContentUrl":%q,"previewImageUrl":%q}`, original, preview)
	}
	items := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("{},", n), ",") + "]" }
	const notHTTPS, notPicture, empty = "Must be a valid HTTPS URL", "Must be JPEG or PNG", "May not be empty"
	for name, c := range map[string]struct {
		message string
		details []detail
	}{
		"the longest text":         {`{"type":"text","text":"` + long(5000) + `"}`, nil},
		"a text too long":          {`{"type":"text","text":"` + long(5001) + `"}`, said("Length must be between 0 and 5000", "text")},
		"a text that is none":      {`{"type":"text","text":5}`, said("Must be a string", "text")},
		"21 emojis":                {`{"type":"text","text":"$","emojis":` + items(21) + `}`, said("Size must be between 0 and 20", "emojis")},
		"a second version's text":  {`{"type":"textV2","text":"{a}","substitution":{"a":{"type":"emoji"}}}`, nil},
		"a substitution of a list": {`{"type":"textV2","text":"{a}","substitution":[]}`, said("Must be an object", "substitution")},
		"an unknown type": {`{"type":"file"}`,
			said("Must be one of the following values: [text, textV2, sticker, image, video, audio, location, imagemap, template, flex, coupon]", "type")},
		"no type":                       {`{"text":"a"}`, said(empty, "type")},
		"a sticker":                     {`{"type":"sticker","packageId":"446","stickerId":"1988"}`, nil},
		"a sticker without its id":      {`{"type":"sticker","packageId":"446"}`, said(empty, "stickerId")},
		"a sticker of a number":         {`{"type":"sticker","packageId":446,"stickerId":"1"}`, said("Must be a string", "packageId")},
		"an image":                      {image("https://example.com/a.JPG", "https://example.com/b"), nil},
		"an image without a preview":    {`{"type":"image","originalContentUrl":"https://example.com/a.png"}`, said(empty, "previewImageUrl")},
		"an image of http":              {image("http://example.com/a.png", "https://example.com/b.png"), said(notHTTPS, "originalContentUrl")},
		"an image of no host":           {image("https:///a.png", "https://example.com/b.png"), said(notHTTPS, "originalContentUrl")},
		"the longest URL":               {image(address(2000), address(2000)), nil},
		"a URL too long":                {image(address(2001), address(1999)), said("Length must be between 0 and 2000", "originalContentUrl")},
		"an image that is another file": {image("https://example.com/a.gif", "https://example.com/b.png"), said(notPicture, "originalContentUrl")},
		"a video":                       {`{"type":"video","originalContentUrl":"https://example.com/a.mp4","previewImageUrl":"https://example.com/a.jpeg?v=1"}`, nil},
		"a video as its own preview": {`{"type":"video","originalContentUrl":"https://example.com/a.mp4","previewImageUrl":"https://example.com/a.mp4"}`,
			said(notPicture, "previewImageUrl")},
		"a video of another format": {`{"type":"video","originalContentUrl":"https://example.com/a.mov","previewImageUrl":"https://example.com/a.jpg"}`,
			said("Must be mp4", "originalContentUrl")},
		"an audio":                     {`{"type":"audio","originalContentUrl":"https://example.com/a.m4a","duration":1}`, nil},
		"an audio without a duration":  {`{"type":"audio","originalContentUrl":"https://example.com/a.mp3"}`, said(empty, "duration")},
		"an audio of no duration":      {`{"type":"audio","originalContentUrl":"https://example.com/a.mp3","duration":0}`, said("Must be greater than or equal to 1", "duration")},
		"an audio of half a ms":        {`{"type":"audio","originalContentUrl":"https://example.com/a.mp3","duration":1.5}`, said("Must be greater than or equal to 1", "duration")},
		"an audio of another format":   {`{"type":"audio","originalContentUrl":"https://example.com/a.wav","duration":1}`, said("Must be mp3 or m4a", "originalContentUrl")},
		"a place":                      {`{"type":"location","title":"a","address":"b","latitude":35.6,"longitude":-139.7}`, nil},
		"a place that is nowhere":      {`{"type":"location","title":"a","address":"b","latitude":91,"longitude":0}`, said("Must be between -90 and 90", "latitude")},
		"a place's long title":         {`{"type":"location","title":"` + long(101) + `","address":"b","latitude":1,"longitude":0}`, said("Length must be between 0 and 100", "title")},
		"an imagemap":                  {`{"type":"imagemap","baseUrl":"https://example.com/a","altText":"a","baseSize":{"width":1040,"height":700},"actions":[]}`, nil},
		"an imagemap of another width": {`{"type":"imagemap","baseUrl":"https://example.com/a","altText":"a","baseSize":{"width":1000,"height":700},"actions":[]}`, said("Must be between 1040 and 1040", "baseSize.width")},
		"a template":                   {`{"type":"template","altText":"` + long(1500) + `","template":{"type":"confirm"}}`, nil},
		"a template of no type":        {`{"type":"template","altText":"a","template":{"type":"list"}}`, said("Must be one of the following values: [buttons, confirm, carousel, image_carousel]", "template.type")},
		"a template without altText":   {`{"type":"template","template":{"type":"confirm"}}`, said(empty, "altText")},
		"a template that is a text":    {`{"type":"template","altText":"a","template":"confirm"}`, said(empty, "template.type")},
		"a flex message":               {`{"type":"flex","altText":"a","contents":{"type":"bubble"}}`, nil},
		"a flex message's long text":   {`{"type":"flex","altText":"` + long(1501) + `","contents":{"type":"bubble"}}`, said("Length must be between 0 and 1500", "altText")},
		"a coupon":                     {`{"type":"coupon","couponId":"01JYNW8JMQVFBNWF1APF8Z3FS7"}`, nil},
		"14 quick replies":             {`{"type":"text","text":"a","quickReply":{"items":` + items(14) + `}}`, said("Size must be between 1 and 13", "quickReply.items")},
		"another sender":               {`{"type":"text","text":"a","sender":{"name":"Ann","iconUrl":"https://example.com/a.png"}}`, nil},
		"another sender's long name":   {`{"type":"text","text":"a","sender":{"name":"` + long(21) + `"}}`, said("Length must be between 0 and 20", "sender.name")},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := push(t, `{"to":"`+lineUser+`","messages":[`+c.message+`]}`)
			var body struct {
				Message string
				Details []detail
			}
			require.NoError(t, json.Unmarshal([]byte(answer), &body))
			assert.Equal(t, c.details, body.Details)
			if c.details == nil {
				assert.Equal(t, http.StatusOK, status)
				return
			}
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Equal(t, fmt.Sprintf("The request body has %d error(s)", len(c.details)), body.Message)
		})
	}
	for to, fine := range map[string]bool{
		lineUser: true, "C" + lineUser[1:]: true, "R" + lineUser[1:]: true,
		"": false, "U1": false, "X" + lineUser[1:]: false, lineUser + "0": false, strings.ToUpper(lineUser): false,
	} {
		status, answer := push(t, `{"to":"`+to+`","messages":[{"type":"text","text":"a"}]}`)
		if fine {
			assert.Equal(t, http.StatusOK, status, answer)
			continue
		}
		assert.Equal(t, http.StatusBadRequest, status, to)
		assert.Contains(t, answer, `The property, 'to', in the request body is invalid`)
	}
}
