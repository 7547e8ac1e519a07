package callback_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
)

// The platforms' own samples, shortened.
const (
	messengerMessage = `{"sender":{"id":"6000000000000001"},"recipient":{"id":"1732555047025799"},` +
		`"timestamp":1770739100123,"message":{"mid":"m_1","text":"Hola \ud83d\ude00 \/ é"}}`
	messengerPostback = `{"sender":{"user_ref":"u"}, "timestamp":"1770739100124", "postback":{"payload":"A",` +
		`"big":12345678901234567890, "price":1.10}}`
	messengerChange = `{"field":"feed","value":{"item":"post","created_time":1770739000}}`
	lineMessage     = `{"type":"message","message":{"type":"text","id":"325708","text":"Hello, world"},` +
		`"webhookEventId":"01FZ74A0TDDPYRVKNK77XKC3ZR",` +
		`"deliveryContext":{"isRedelivery":false},"timestamp":1770739100125,"source":{"type":"user",` +
		`"userId":"U4af4980629"},"replyToken":"b60d432864f44d079f6d8efe86cf404b","mode":"active"}`
	lineFollow = `{"type":"follow"}`
)

func TestDecodeEvents(t *testing.T) {
	at := func(millis int64) time.Time { return time.UnixMilli(millis).UTC() }
	event := func(index int, channel, text string, at time.Time) callback.Event {
		return callback.Event{JSON: []byte(text), Time: at, Channel: channel, Index: index}
	}
	var none time.Time
	for name, test := range map[string]struct {
		platform ott.Platform
		body     string
		want     callback.Body
	}{
		"Messenger: a message": {
			ott.Messenger, `{"object":"page","entry":[{"id":"1732555047025799","time":1770739100999,"messaging":[` +
				messengerMessage + `]}]}`,
			callback.Body{Elements: 1, Entries: []callback.Entry{{
				PropertyID: "1732555047025799", Object: "page", Time: []byte("1770739100999"),
				Events: []callback.Event{event(0, "messaging", messengerMessage, at(1770739100123))},
			}}},
		},
		"Messenger: entries and their lists, in the order of the body": {
			ott.Messenger, `{"entry":[{"messaging":[` + messengerMessage + `,` + messengerPostback + `],"id":12},` +
				`{"changes":[` + messengerChange + `],"time":1770739000,"standby":[{"a":1}],"id":"2"}],"object":"page"}`,
			callback.Body{Elements: 4, Entries: []callback.Entry{
				{PropertyID: "12", Object: "page", Events: []callback.Event{
					event(0, "messaging", messengerMessage, at(1770739100123)),
					event(1, "messaging", messengerPostback, at(1770739100124)),
				}},
				{PropertyID: "2", Object: "page", Time: []byte("1770739000"), Events: []callback.Event{
					event(2, "changes", messengerChange, at(1770739000000)),
					event(3, "standby", `{"a":1}`, at(1770739000000)),
				}},
			}},
		},
		"Messenger: an entry that says what changed, not how": {
			ott.Messenger, `{"object":"page","entry":[{"id":"1","time":"1770739000","changed_fields":["feed"]}]}`,
			callback.Body{Elements: 1, Entries: []callback.Entry{{
				PropertyID: "1", Object: "page", Time: []byte(`"1770739000"`),
				Events: []callback.Event{event(0, "", `{"id":"1","time":"1770739000","changed_fields":["feed"]}`,
					at(1770739000000))},
			}}},
		},
		"Messenger: nothing": {ott.Messenger, `{"entry":[]}`, callback.Body{}},
		"Messenger: an empty entry": {
			ott.Messenger, `{"entry":[{"messaging":[],"standby":null}]}`, callback.Body{Entries: []callback.Entry{{}}},
		},
		"Messenger: half a character": {
			ott.Messenger, `{"entry":[{"messaging":[{"text":"\ud83d"}]}]}`,
			callback.Body{Elements: 1, Entries: []callback.Entry{{
				Events: []callback.Event{event(0, "messaging", `{"text":"\ud83d"}`, none)},
			}}},
		},
		"Messenger: digits are kept": {
			ott.Messenger, `{"object":1,"entry":[{"id":12345678901234567890123,"time":{},"standby":[{}]}]}`,
			callback.Body{Elements: 1, Entries: []callback.Entry{{
				PropertyID: "12345678901234567890123", Events: []callback.Event{event(0, "standby", `{}`, none)},
			}}},
		},
		"Messenger: what is no event costs itself": {
			ott.Messenger, `{"entry":[1,{"id":"1","messaging":[{},null,{"a":1},[],"x"],"standby":{}},[],` +
				`{"id":"2","changes":7,"messaging":[{}]}]}`,
			callback.Body{Elements: 10, Bad: 7, Entries: []callback.Entry{
				{PropertyID: "1", Events: []callback.Event{
					event(1, "messaging", `{}`, none), event(3, "messaging", `{"a":1}`, none),
				}},
				{PropertyID: "2", Events: []callback.Event{event(9, "messaging", `{}`, none)}},
			}},
		},
		"LINE: two events": {
			ott.LINE, `{"destination":"U1","events":[` + lineMessage + `,` + lineFollow + `]}`,
			callback.Body{Elements: 2, Entries: []callback.Entry{{Destination: "U1", Events: []callback.Event{
				event(0, "", lineMessage, at(1770739100125)), event(1, "", lineFollow, none),
			}}}},
		},
		"LINE: an empty list is its own check": {
			ott.LINE, `{"destination":"U1","events":[]}`,
			callback.Body{Entries: []callback.Entry{{Destination: "U1"}}},
		},
		"LINE: what is no event costs itself": {
			ott.LINE, `{"destination":["U1"],"events":["a",{},null]}`,
			callback.Body{Elements: 3, Bad: 2, Entries: []callback.Entry{{
				Events: []callback.Event{event(1, "", `{}`, none)},
			}}},
		},
		"LINE: a destination that is none": {
			ott.LINE, `{"destination":"` + strings.Repeat("U", 256) + `","events":[]}`,
			callback.Body{Entries: []callback.Entry{{}}},
		},
		"LINE: times that are none": {
			ott.LINE,
			`{"events":[{"timestamp":null},{"timestamp":17707391001234},{"timestamp":-170739100123},` +
				`{"timestamp":1.770739100123e12},{"timestamp":{}}]}`,
			callback.Body{Elements: 5, Entries: []callback.Entry{{Events: []callback.Event{
				event(0, "", `{"timestamp":null}`, none), event(1, "", `{"timestamp":17707391001234}`, none),
				event(2, "", `{"timestamp":-170739100123}`, none),
				event(3, "", `{"timestamp":1.770739100123e12}`, none), event(4, "", `{"timestamp":{}}`, none),
			}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := callback.DecodeEvents(test.platform, strings.NewReader(test.body))
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestDecodeEventsRefuses(t *testing.T) {
	thousand := strings.TrimSuffix(strings.Repeat("{},", 1000), ",")
	for name, test := range map[string]struct {
		platform ott.Platform
		body     string
		want     fault.Code
	}{
		"nothing":                   {ott.LINE, ``, fault.Malformed},
		"no JSON":                   {ott.LINE, `events=1`, fault.Malformed},
		"half of it":                {ott.Messenger, `{"entry":[{"messaging":[{`, fault.Malformed},
		"an array":                  {ott.Messenger, `[]`, fault.Malformed},
		"something behind it":       {ott.LINE, `{"events":[]}{}`, fault.Malformed},
		"no UTF-8":                  {ott.LINE, "{\"events\":[{\"text\":\"\xff\"}]}", fault.Malformed},
		"a member twice":            {ott.Messenger, `{"entry":[{"messaging":[],"messaging":[]}]}`, fault.Malformed},
		"LINE: no events":           {ott.LINE, `{"destination":"U1"}`, fault.Malformed},
		"LINE: events is null":      {ott.LINE, `{"events":null}`, fault.Malformed},
		"LINE: events is an object": {ott.LINE, `{"events":{}}`, fault.Malformed},
		"LINE: Messenger's":         {ott.LINE, `{"object":"page","entry":[]}`, fault.Malformed},
		"LINE: too many":            {ott.LINE, `{"events":[` + thousand + `,{}]}`, fault.TooLarge},
		"Messenger: no entry":       {ott.Messenger, `{"object":"page"}`, fault.Malformed},
		"Messenger: LINE's":         {ott.Messenger, `{"destination":"U1","events":[]}`, fault.Malformed},
		"Messenger: entry is none":  {ott.Messenger, `{"entry":{}}`, fault.Malformed},
		"Messenger: too many": {
			ott.Messenger, `{"entry":[{"messaging":[` + thousand + `,{}]}]}`, fault.TooLarge,
		},
		"Messenger: too many in all": {
			ott.Messenger, `{"entry":[` + strings.Repeat(`{"messaging":[`+thousand+`]},`, 10) + `{}]}`, fault.TooLarge,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := callback.DecodeEvents(test.platform, strings.NewReader(test.body))
			assert.True(t, fault.Is(err, test.want), "%v", err)
		})
	}
	body, err := callback.DecodeEvents(ott.LINE, strings.NewReader(`{"events":[`+thousand+`]}`))
	require.NoError(t, err)
	assert.Len(t, body.Entries[0].Events, 1000)
	body, err = callback.DecodeEvents(
		ott.Messenger,
		strings.NewReader(
			`{"entry":[`+strings.Repeat(`{"messaging":[`+thousand+`]},`, 9)+`{"standby":[`+thousand+`]}]}`,
		),
	)
	require.NoError(t, err)
	assert.Equal(t, 10_000, body.Elements)
}

// anyJSON draws a JSON value that is often near to what platforms send.
func anyJSON(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.String().AsAny(),
		rapid.SampledFrom([]string{"page", "instagram", "1732555047025799"}).AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(leaves...)
	}
	inner := rapid.Deferred(func() *rapid.Generator[any] { return anyJSON(depth - 1) })
	names := rapid.SampledFrom([]string{
		"object", "entry", "events", "id", "time", "messaging", "standby", "changes", "timestamp", "x",
	})
	return rapid.OneOf(append(leaves,
		rapid.SliceOfN(inner, 0, 4).AsAny(), rapid.SliceOfN(inner, 0, 4).AsAny(),
		rapid.MapOfN(names, inner, 0, 5).AsAny(), rapid.MapOfN(names, inner, 0, 5).AsAny())...)
}

// elementsOf counts what DecodeEvents gives an index to, in its own way: -1 for a body that is none.
func elementsOf(platform ott.Platform, body any) int {
	object, _ := body.(map[string]any)
	if platform == ott.LINE {
		list, is := object["events"].([]any)
		if !is {
			return -1
		}
		return len(list)
	}
	entries, is := object["entry"].([]any)
	if !is {
		return -1
	}
	count := 0
	for _, raw := range entries {
		entry, _ := raw.(map[string]any) // nil has no lists
		lists := 0
		for _, name := range []string{"messaging", "standby", "changes"} {
			switch list := entry[name].(type) {
			case nil:
				continue
			case []any:
				count += len(list)
			default:
				count++
			}
			lists++
		}
		if lists == 0 {
			count++
		}
	}
	return count
}

// assertCounted holds a body to what it says of itself: every element is an event or bad, events are in their order.
func assertCounted(t assert.TestingT, body callback.Body) {
	last, events := -1, 0
	for _, entry := range body.Entries {
		for _, event := range entry.Events {
			assert.Greater(t, event.Index, last, "in their order")
			last = event.Index
			events++
		}
	}
	assert.Less(t, last, max(body.Elements, 1))
	assert.Equal(t, body.Elements, events+body.Bad)
}

// Whatever JSON comes, each of its elements is an event or counted as none.
func TestEveryElementIsCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(anyJSON(4), rapid.Custom(func(t *rapid.T) any {
			list := rapid.SliceOfN(anyJSON(3), 0, 5).Draw(t, "list")
			return map[string]any{"object": "page", "entry": list, "events": list}
		})).Draw(t, "body")
		text, err := json.Marshal(value)
		require.NoError(t, err)
		for _, platform := range []ott.Platform{ott.Messenger, ott.LINE} {
			body, err := callback.DecodeEvents(platform, bytes.NewReader(text))
			want := elementsOf(platform, value)
			if want < 0 {
				assert.True(t, fault.Is(err, fault.Malformed), "%s: %v", text, err)
				continue
			}
			require.NoError(t, err, "%s", text)
			assert.Equal(t, want, body.Elements, "%s", text)
			assertCounted(t, body)
		}
	})
}

func FuzzDecodeEvents(f *testing.F) {
	for _, event := range []string{
		messengerMessage, messengerPostback, messengerChange, lineMessage, lineFollow, `{"text":"\ud83d"}`, `[]`,
	} {
		f.Add(fmt.Appendf(nil, `{"object":"page","destination":"U1","entry":[{"id":1,"time":1770739000,`+
			`"messaging":[%s]},{"changes":[%[1]s]}],"events":[%[1]s]}`, event))
	}
	f.Add([]byte(`{"entry":[],"events":[]}`))
	f.Add([]byte(`{"entry":[{"time":"0000000001","changes":[{}]}],"events":[{"timestamp":"0000000000001"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, platform := range []ott.Platform{ott.Messenger, ott.LINE} {
			body, err := callback.DecodeEvents(platform, bytes.NewReader(raw))
			if err != nil {
				assert.True(t, fault.Is(err, fault.Malformed) || fault.Is(err, fault.TooLarge), "%v", err)
				continue
			}
			assertCounted(t, body)
			for _, entry := range body.Entries {
				if entry.Time != nil {
					assert.True(t, json.Valid(entry.Time))
				}
				for _, event := range entry.Events {
					assert.True(t, json.Valid(event.JSON))
					assert.Contains(t, string(raw), string(event.JSON), "an event is what the platform wrote")
					if !event.Time.IsZero() {
						assert.WithinRange(t, event.Time, time.Date(2001, 9, 9, 0, 0, 0, 0, time.UTC),
							time.Date(2287, 1, 1, 0, 0, 0, 0, time.UTC))
					}
				}
			}
		}
	})
}
