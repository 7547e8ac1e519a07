package callback

import (
	"bytes"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
	"carillon/shared/ott"
)

// Event is one event of a callback.
type Event struct {
	JSON jsontext.Value // an object, its members as the platform wrote them
	Time time.Time      // when it happened; zero if the platform does not say
}

// DecodeEvents reads the events in the body of a platform's callback, in their order. There may be none: that is how
// LINE tries an endpoint. It returns a fault Malformed for what is not the platform's JSON, or TooLarge if a list in it
// holds more than 1,000 elements, which is the most that Messenger sends at once.
func DecodeEvents(platform ott.Platform, body io.Reader) ([]Event, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		return nil, fault.New(fault.Malformed, "the body is not UTF-8")
	}
	if platform == ott.Messenger {
		return decodeMessenger(text)
	}
	return decodeLINE(text)
}

type messengerBody struct {
	Entry jsonbody.Array[jsontext.Value] `json:"entry"`
}

type messengerEntry struct {
	Time      jsonbody.Value                 `json:"time"`
	Messaging jsonbody.Array[jsontext.Value] `json:"messaging"`
	Standby   jsonbody.Array[jsontext.Value] `json:"standby"`
	Changes   jsonbody.Array[jsontext.Value] `json:"changes"`
}

func decodeMessenger(text []byte) ([]Event, error) {
	var body messengerBody
	if err := decode(text, &body); err != nil {
		return nil, err
	}
	entries, err := elements("entry", body.Entry)
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, raw := range entries {
		var entry messengerEntry
		if err := decode(raw, &entry); err != nil {
			return nil, err
		}
		lists := 0
		for _, list := range []struct {
			name  string
			array jsonbody.Array[jsontext.Value]
		}{{"messaging", entry.Messaging}, {"standby", entry.Standby}, {"changes", entry.Changes}} {
			if list.array.Missing() {
				continue
			}
			lists++
			found, err := timed(list.name, list.array, entry.Time)
			if err != nil {
				return nil, err
			}
			events = append(events, found...)
		}
		if lists == 0 { // Messenger may name what changed without saying how (changed_fields)
			events = append(events, Event{JSON: raw, Time: moment(entry.Time)})
		}
	}
	return events, nil
}

type lineBody struct {
	Events jsonbody.Array[jsontext.Value] `json:"events"`
}

func decodeLINE(text []byte) ([]Event, error) {
	var body lineBody
	if err := decode(text, &body); err != nil {
		return nil, err
	}
	return timed("events", body.Events, jsonbody.Value{})
}

// decode reads an object. A text may hold half a surrogate pair where it was cut; the event is passed on all the same.
func decode(text []byte, v any) error {
	return jsonbody.Decode(bytes.NewReader(text), v, jsontext.AllowInvalidUTF8(true))
}

// elements returns the elements of a member that must be an array.
func elements(name string, array jsonbody.Array[jsontext.Value]) ([]jsontext.Value, error) {
	switch {
	case !array.IsArray():
		return nil, fault.New(fault.Malformed, name+" must be an array")
	case array.Count > len(array.Items):
		return nil, fault.New(fault.TooLarge, name+" holds "+strconv.Itoa(array.Count)+" elements")
	}
	return array.Items, nil
}

// timed makes events of an array's elements. One that does not say when it happened has the time of what holds it.
func timed(name string, array jsonbody.Array[jsontext.Value], otherwise jsonbody.Value) ([]Event, error) {
	list, err := elements(name, array)
	if err != nil {
		return nil, err
	}
	events := make([]Event, len(list))
	for i, raw := range list {
		var event struct {
			Timestamp jsonbody.Value `json:"timestamp"`
		}
		if err := decode(raw, &event); err != nil {
			return nil, err
		}
		events[i] = Event{JSON: raw, Time: moment(event.Timestamp)}
		if events[i].Time.IsZero() {
			events[i].Time = moment(otherwise)
		}
	}
	return events, nil
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
