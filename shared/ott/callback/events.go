package callback

import (
	"bytes"
	"cmp"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
	"carillon/shared/ott"
)

// Body is what a callback's body holds.
type Body struct {
	Entries []Entry
	// Elements is how many elements the body holds: those of Messenger's messaging, standby and changes and of LINE's
	// events, an entry that has no such list, and in place of elements an entry that is no object or a list that is no
	// array. Events are counted by them.
	Elements int
	Bad      int // elements that are no event, for they are no object; every other one is an event of Entries
}

// Entry is what a body tells of one property, with the envelope that all of it came in.
type Entry struct {
	// PropertyID is Messenger's entry.id, a number's digits as they were sent; empty if there is none, and for LINE,
	// whose callbacks are one channel's.
	PropertyID  string
	Object      string         // Messenger's object; empty if it is none
	Destination string         // LINE's destination; empty if it is none
	Time        jsontext.Value // Messenger's entry.time, as it was sent; nil if it is neither number nor text
	Events      []Event        // in their order
}

// Event is one event of a callback.
type Event struct {
	JSON    jsontext.Value // an object, its members as the platform wrote them
	Time    time.Time      // when it happened; zero if the platform does not say
	Channel string         // the list that it was in: messaging, standby or changes; empty if none, and for LINE
	Index   int            // its place among all elements of the body, from 0
}

const (
	// maxElements bounds what a body of nothing but brackets costs. Messenger sends 1,000 at once, LINE fewer.
	maxElements = 10_000
	// maxEnvelope is how long a text of the envelope may be that each event repeats, in bytes; a longer one is no
	// platform's.
	maxEnvelope = 255
)

// DecodeEvents reads the events in the body of a platform's callback, in their order. There may be none: that is how
// LINE tries an endpoint. What is no event costs only itself. It returns a fault Malformed for what is no JSON object
// with the platform's list (entry, events), or TooLarge if a list holds more than 1,000 elements, which is the most
// that Messenger sends at once, or the body more than 10,000.
func DecodeEvents(platform ott.Platform, body io.Reader) (Body, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return Body{}, err
	}
	if !utf8.Valid(text) {
		return Body{}, fault.New(fault.Malformed, "the body is not UTF-8")
	}
	if platform == ott.Messenger {
		return decodeMessenger(text)
	}
	return decodeLINE(text)
}

type messengerBody struct {
	Object jsonbody.Value                 `json:"object"`
	Entry  jsonbody.Array[jsontext.Value] `json:"entry"`
}

func decodeMessenger(text []byte) (Body, error) {
	var raw messengerBody
	if err := decode(text, &raw); err != nil {
		return Body{}, err
	}
	entries, err := elements("entry", raw.Entry)
	if err != nil {
		return Body{}, err
	}
	var body Body
	for _, each := range entries {
		if each.Kind() != '{' {
			body.Elements++
			body.Bad++
			continue
		}
		entry := Entry{Object: envelopeText(raw.Object)}
		if err := body.addEntry(each, entry); err != nil {
			return Body{}, err
		}
	}
	return body, body.bounded()
}

// addEntry adds an entry with what its object holds.
func (b *Body) addEntry(object jsontext.Value, entry Entry) error {
	var raw messengerEntry
	if err := decode(object, &raw); err != nil {
		return err
	}
	entry.PropertyID, entry.Time = raw.id.Text, envelopeTime(raw.time)
	otherwise := moment(raw.time)
	for _, list := range raw.lists {
		if err := b.addList(&entry, list.name, list.array, otherwise); err != nil {
			return err
		}
	}
	if len(raw.lists) == 0 { // Messenger may name what changed without saying how (changed_fields)
		entry.Events = append(entry.Events, Event{JSON: object, Time: otherwise, Index: b.Elements})
		b.Elements++
	}
	b.Entries = append(b.Entries, entry)
	return b.bounded()
}

// messengerEntry has its lists in the order in which the entry has them.
type messengerEntry struct {
	id, time jsonbody.Value
	lists    []messengerList
}

type messengerList struct {
	name  string
	array jsonbody.Array[jsontext.Value]
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom, of an object.
func (e *messengerEntry) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadToken()
		if err != nil {
			return err
		}
		switch name := name.String(); name {
		case "id":
			err = json.UnmarshalDecode(decoder, &e.id)
		case "time":
			err = json.UnmarshalDecode(decoder, &e.time)
		case "messaging", "standby", "changes":
			list := messengerList{name: name}
			if err = json.UnmarshalDecode(decoder, &list.array); err == nil && !list.array.Missing() {
				e.lists = append(e.lists, list)
			}
		default:
			err = decoder.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken()
	return err
}

type lineBody struct {
	Destination jsonbody.Value                 `json:"destination"`
	Events      jsonbody.Array[jsontext.Value] `json:"events"`
}

func decodeLINE(text []byte) (Body, error) {
	var raw lineBody
	if err := decode(text, &raw); err != nil {
		return Body{}, err
	}
	if !raw.Events.IsArray() {
		return Body{}, notAnArray("events")
	}
	var body Body
	entry := Entry{Destination: envelopeText(raw.Destination)}
	if err := body.addList(&entry, "", raw.Events, time.Time{}); err != nil {
		return Body{}, err
	}
	body.Entries = []Entry{entry}
	return body, nil
}

// addList adds the elements of a list to an entry. One that does not say when it happened has the time of what holds
// it.
func (b *Body) addList(
	entry *Entry, channel string, list jsonbody.Array[jsontext.Value], otherwise time.Time,
) error {
	if !list.IsArray() {
		b.Elements++
		b.Bad++
		return nil
	}
	name := cmp.Or(channel, "events")
	found, err := elements(name, list)
	if err != nil {
		return err
	}
	for _, raw := range found {
		index := b.Elements
		b.Elements++
		if raw.Kind() != '{' {
			b.Bad++
			continue
		}
		var event struct {
			Timestamp jsonbody.Value `json:"timestamp"`
		}
		if err := decode(raw, &event); err != nil {
			return err
		}
		at := moment(event.Timestamp)
		if at.IsZero() {
			at = otherwise
		}
		entry.Events = append(entry.Events, Event{JSON: raw, Time: at, Channel: channel, Index: index})
	}
	return nil
}

func (b *Body) bounded() error {
	if b.Elements > maxElements {
		return fault.New(fault.TooLarge, "the callback holds more than "+strconv.Itoa(maxElements)+" elements")
	}
	return nil
}

// decode reads an object. A text may hold half a surrogate pair where it was cut; the event is passed on all the same.
func decode(text []byte, v any) error {
	return jsonbody.Decode(bytes.NewReader(text), v, jsontext.AllowInvalidUTF8(true))
}

// elements returns the elements of a member that must be an array.
func elements(name string, array jsonbody.Array[jsontext.Value]) ([]jsontext.Value, error) {
	switch {
	case !array.IsArray():
		return nil, notAnArray(name)
	case array.Count > len(array.Items):
		return nil, fault.New(fault.TooLarge, name+" holds "+strconv.Itoa(array.Count)+" elements")
	}
	return array.Items, nil
}

func notAnArray(name string) error { return fault.New(fault.Malformed, name+" must be an array") }

// envelopeText returns a text of the envelope, or "".
func envelopeText(v jsonbody.Value) string {
	if !v.IsString() || len(v.Text) > maxEnvelope {
		return ""
	}
	return v.Text
}

// envelopeTime returns a time of the envelope as JSON, or nil.
func envelopeTime(v jsonbody.Value) jsontext.Value {
	switch {
	case len(v.Text) > maxEnvelope:
		return nil
	case v.Kind == '0':
		return jsontext.Value(v.Text)
	case v.IsString():
		quoted, err := jsontext.AppendQuote(nil, v.Text)
		if err != nil {
			return nil // half a surrogate pair: no time
		}
		return quoted
	}
	return nil
}

// moment reads a time: milliseconds, or seconds, which Messenger writes at changes. Their size tells them apart, from
// 2001 to 2286. Anything else is no time, so that EventBridge gets none that it might refuse.
func moment(v jsonbody.Value) time.Time {
	n, err := strconv.ParseInt(v.Text, 10, 64)
	switch {
	case err != nil:
		return time.Time{}
	case n >= 1e12 && n < 1e13:
		return time.UnixMilli(n).UTC()
	case n >= 1e9 && n < 1e10:
		return time.Unix(n, 0).UTC()
	default:
		return time.Time{}
	}
}
