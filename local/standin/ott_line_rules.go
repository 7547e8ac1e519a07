package standin

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
)

// The rules are those of https://developers.line.biz/en/reference/messaging-api/ (message objects, error responses) and
// of https://github.com/line/line-openapi/blob/main/messaging-api.yml. The words of the details that LINE documents are
// its own; "Must be a valid HTTPS URL" is what people report (https://github.com/AstrBotDevs/AstrBot/pull/5697).
const (
	// lineMessages is how many messages one call may carry.
	lineMessages = 5
	// Texts are counted in code units of UTF-16:
	// https://developers.line.biz/en/docs/messaging-api/text-character-count
	lineTextMax       = 5000
	lineURLMax        = 2000
	lineAltTextMax    = 1500
	linePlaceMax      = 100 // of a location's title and address
	lineTrackingMax   = 100
	lineSenderMax     = 20
	lineQuickReplies  = 13
	lineImagemapWidth = 1040
	lineImagemapAreas = 50
)

// lineRecipient is the id of a user, a group or a room.
var lineRecipient = regexp.MustCompile(`^[UCR][0-9a-f]{32}$`)

// lineReplyToken is how reply tokens look in all of LINE's examples; its reference says only that they are texts.
var lineReplyToken = regexp.MustCompile(`^[0-9A-Za-z_-]{1,255}$`)

// lineCheck checks one member of a message. It returns what is wrong with it, "" if nothing is; the member is there.
type lineCheck func(value any) string

// lineMember is a member of a message, by its place in it as in template.type.
type lineMember struct {
	name     string
	required bool
	check    lineCheck
}

// lineTypes has each type of message that can be sent, in the order in which LINE lists them, with what it must and may
// hold.
var lineTypes = []struct {
	name    string
	members []lineMember
}{
	{"text", []lineMember{{"text", true, lineLength(lineTextMax)}, {"emojis", false, lineSize(0, 20)}}},
	{"textV2", []lineMember{{"text", true, lineLength(lineTextMax)}, {"substitution", false, lineObject}}},
	{"sticker", []lineMember{{"packageId", true, lineString}, {"stickerId", true, lineString}}},
	{"image", []lineMember{{"originalContentUrl", true, linePicture}, {"previewImageUrl", true, linePicture}}},
	{"video", []lineMember{
		{"originalContentUrl", true, lineFile("mp4", ".mp4")}, {"previewImageUrl", true, linePicture},
		{"trackingId", false, lineLength(lineTrackingMax)},
	}},
	{"audio", []lineMember{
		{"originalContentUrl", true, lineFile("mp3 or m4a", ".mp3", ".m4a")}, {"duration", true, lineInteger(1)},
	}},
	{"location", []lineMember{
		{"title", true, lineLength(linePlaceMax)}, {"address", true, lineLength(linePlaceMax)},
		{"latitude", true, lineBetween(-90, 90)}, {"longitude", true, lineBetween(-180, 180)},
	}},
	{"imagemap", []lineMember{
		{"baseUrl", true, lineURL}, {"altText", true, lineLength(lineAltTextMax)},
		{"baseSize.width", true, lineBetween(lineImagemapWidth, lineImagemapWidth)},
		{"baseSize.height", true, lineInteger(1)}, {"actions", true, lineSize(0, lineImagemapAreas)},
	}},
	{"template", []lineMember{
		{"altText", true, lineLength(lineAltTextMax)},
		{"template.type", true, lineOneOf("buttons", "confirm", "carousel", "image_carousel")},
	}},
	{"flex", []lineMember{
		{"altText", true, lineLength(lineAltTextMax)}, {"contents.type", true, lineOneOf("bubble", "carousel")},
	}},
	{"coupon", []lineMember{{"couponId", true, lineString}}},
}

// lineEveryType is what any message may hold.
var lineEveryType = []lineMember{
	{"quickReply.items", false, lineSize(1, lineQuickReplies)},
	{"sender.name", false, lineLength(lineSenderMax)}, {"sender.iconUrl", false, lineURL},
}

// wrongLINE says what is wrong with messages, in LINE's way.
func wrongLINE(messages []json.RawMessage) []lineDetail {
	if len(messages) == 0 || len(messages) > lineMessages {
		return []lineDetail{{fmt.Sprintf("Size must be between 1 and %d", lineMessages), "messages"}}
	}
	var details []lineDetail
	for i, raw := range messages {
		at := fmt.Sprintf("messages[%d]", i)
		var message map[string]any
		if json.Unmarshal(raw, &message) != nil {
			details = append(details, lineDetail{"Must be an object", at})
			continue
		}
		for _, member := range lineMembers(message) {
			value := memberAt(message, member.name)
			said := ""
			switch empty := value == nil || value == ""; {
			case empty && member.required:
				said = "May not be empty"
			case !empty:
				said = member.check(value)
			}
			if said != "" {
				details = append(details, lineDetail{said, at + "." + member.name})
			}
		}
	}
	return details
}

// lineMembers are those that a message of its type has.
func lineMembers(message map[string]any) []lineMember {
	var types []string
	for _, kind := range lineTypes {
		if message["type"] == kind.name {
			return append(kind.members[:len(kind.members):len(kind.members)], lineEveryType...)
		}
		types = append(types, kind.name)
	}
	return []lineMember{{"type", true, lineOneOf(types...)}}
}

// memberAt is the member at a place such as template.type, nil if there is none.
func memberAt(object any, place string) any {
	for name := range strings.SplitSeq(place, ".") {
		members, _ := object.(map[string]any)
		object = members[name]
	}
	return object
}

func lineString(value any) string {
	if _, is := value.(string); !is {
		return "Must be a string"
	}
	return ""
}

func lineObject(value any) string {
	if _, is := value.(map[string]any); !is {
		return "Must be an object"
	}
	return ""
}

// lineLength is of a text of at most that many code units.
func lineLength(most int) lineCheck {
	return func(value any) string {
		text, is := value.(string)
		switch {
		case !is:
			return "Must be a string"
		case len(utf16.Encode([]rune(text))) > most:
			return fmt.Sprintf("Length must be between 0 and %d", most)
		}
		return ""
	}
}

func lineSize(least, most int) lineCheck {
	return func(value any) string {
		items, is := value.([]any)
		if !is || len(items) < least || len(items) > most {
			return fmt.Sprintf("Size must be between %d and %d", least, most)
		}
		return ""
	}
}

func lineOneOf(values ...string) lineCheck {
	return func(value any) string {
		if text, is := value.(string); !is || !slices.Contains(values, text) {
			return fmt.Sprintf("Must be one of the following values: [%s]", strings.Join(values, ", "))
		}
		return ""
	}
}

func lineInteger(least float64) lineCheck {
	return func(value any) string {
		n, is := value.(float64)
		if !is || n != math.Trunc(n) || n < least {
			return fmt.Sprintf("Must be greater than or equal to %.0f", least)
		}
		return ""
	}
}

func lineBetween(least, most float64) lineCheck {
	return func(value any) string {
		if n, is := value.(float64); !is || n < least || n > most {
			return fmt.Sprintf("Must be between %.0f and %.0f", least, most)
		}
		return ""
	}
}

func lineURL(value any) string {
	text, is := value.(string)
	u, err := url.Parse(text)
	switch {
	case !is || err != nil || u.Scheme != "https" || u.Host == "":
		return "Must be a valid HTTPS URL"
	case len(utf16.Encode([]rune(text))) > lineURLMax:
		return fmt.Sprintf("Length must be between 0 and %d", lineURLMax)
	}
	return ""
}

// mediaNames end the paths of files that are media for certain.
var mediaNames = []string{
	".jpg", ".jpeg", ".png", ".gif", ".webp", ".svg", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".ico", ".pdf",
	".mp4", ".mov", ".avi", ".mkv", ".webm", ".mp3", ".m4a", ".wav", ".ogg", ".aac", ".flac",
}

// lineFile is of a URL that names a file of a few formats. LINE sees what is wrong when it shows the file, and so shows
// nothing; what the URL's path tells is told here.
func lineFile(formats string, names ...string) lineCheck {
	return func(value any) string {
		if said := lineURL(value); said != "" {
			return said
		}
		u, _ := url.Parse(value.(string)) // lineURL has done so
		name := strings.ToLower(path.Ext(u.Path))
		if slices.Contains(mediaNames, name) && !slices.Contains(names, name) {
			return "Must be " + formats
		}
		return ""
	}
}

// linePicture is of an image, or of a preview.
func linePicture(value any) string { return lineFile("JPEG or PNG", ".jpg", ".jpeg", ".png")(value) }
