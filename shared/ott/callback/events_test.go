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
	for name, test := range map[string]struct {
		platform ott.Platform
		body     string
		want     []callback.Event
	}{
		"Messenger: a message": {
			ott.Messenger, `{"object":"page","entry":[{"id":"1732555047025799","time":1770739100999,"messaging":[` +
				messengerMessage + `]}]}`,
			[]callback.Event{{JSON: []byte(messengerMessage), Time: at(1770739100123)}},
		},
		"Messenger: entries, messaging, standby and changes, one event each": {
			ott.Messenger, `{"object":"page","entry":[{"messaging":[` + messengerMessage + `,` + messengerPostback +
				`]},` +
				`{"time":1770739000,"changes":[` + messengerChange + `],"standby":[{"a":1}]}]}`,
			[]callback.Event{
				{JSON: []byte(messengerMessage), Time: at(1770739100123)},
				{JSON: []byte(messengerPostback), Time: at(1770739100124)},
				{JSON: []byte(`{"a":1}`), Time: at(1770739000000)},
				{JSON: []byte(messengerChange), Time: at(1770739000000)},
			},
		},
		"Messenger: an entry that says what changed, not how": {
			ott.Messenger, `{"object":"page","entry":[{"id":"1","time":1770739000,"changed_fields":["feed"]}]}`,
			[]callback.Event{
				{JSON: []byte(`{"id":"1","time":1770739000,"changed_fields":["feed"]}`), Time: at(1770739000000)},
			},
		},
		"Messenger: nothing":        {ott.Messenger, `{"entry":[]}`, nil},
		"Messenger: an empty entry": {ott.Messenger, `{"entry":[{"messaging":[],"standby":null}]}`, nil},
		"Messenger: half a character": {
			ott.Messenger, `{"entry":[{"messaging":[{"text":"\ud83d"}]}]}`,
			[]callback.Event{{JSON: []byte(`{"text":"\ud83d"}`)}},
		},
		"LINE: two events": {
			ott.LINE, `{"destination":"U1","events":[` + lineMessage + `,` + lineFollow + `]}`,
			[]callback.Event{{JSON: []byte(lineMessage), Time: at(1770739100125)}, {JSON: []byte(lineFollow)}},
		},
		"LINE: an empty list is its own check": {ott.LINE, `{"destination":"U1","events":[]}`, nil},
		"LINE: times that are none": {
			ott.LINE,
			`{"events":[{"timestamp":null},{"timestamp":17707391001234},{"timestamp":-170739100123},` +
				`{"timestamp":1.770739100123e12},{"timestamp":{}}]}`,
			[]callback.Event{
				{JSON: []byte(`{"timestamp":null}`)}, {JSON: []byte(`{"timestamp":17707391001234}`)},
				{JSON: []byte(`{"timestamp":-170739100123}`)},
				{JSON: []byte(`{"timestamp":1.770739100123e12}`)}, {JSON: []byte(`{"timestamp":{}}`)},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := callback.DecodeEvents(test.platform, strings.NewReader(test.body))
			require.NoError(t, err)
			require.Len(t, got, len(test.want))
			for i, event := range got {
				assert.Equal(t, string(test.want[i].JSON), string(event.JSON))
				assert.Equal(t, test.want[i].Time, event.Time, "%s", event.JSON)
			}
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
		"nothing":                      {ott.LINE, ``, fault.Malformed},
		"no JSON":                      {ott.LINE, `events=1`, fault.Malformed},
		"half of it":                   {ott.Messenger, `{"entry":[{"messaging":[{`, fault.Malformed},
		"an array":                     {ott.Messenger, `[]`, fault.Malformed},
		"something behind it":          {ott.LINE, `{"events":[]}{}`, fault.Malformed},
		"no UTF-8":                     {ott.LINE, "{\"events\":[{\"text\":\"\xff\"}]}", fault.Malformed},
		"LINE: no events":              {ott.LINE, `{"destination":"U1"}`, fault.Malformed},
		"LINE: events is null":         {ott.LINE, `{"events":null}`, fault.Malformed},
		"LINE: events is an object":    {ott.LINE, `{"events":{}}`, fault.Malformed},
		"LINE: an event is no object":  {ott.LINE, `{"events":["a"]}`, fault.Malformed},
		"LINE: Messenger's":            {ott.LINE, `{"object":"page","entry":[]}`, fault.Malformed},
		"LINE: too many":               {ott.LINE, `{"events":[` + thousand + `,{}]}`, fault.TooLarge},
		"Messenger: no entry":          {ott.Messenger, `{"object":"page"}`, fault.Malformed},
		"Messenger: LINE's":            {ott.Messenger, `{"destination":"U1","events":[]}`, fault.Malformed},
		"Messenger: an entry is none":  {ott.Messenger, `{"entry":[1]}`, fault.Malformed},
		"Messenger: messaging is none": {ott.Messenger, `{"entry":[{"messaging":{}}]}`, fault.Malformed},
		"Messenger: an event is none":  {ott.Messenger, `{"entry":[{"standby":[[]]}]}`, fault.Malformed},
		"Messenger: too many": {
			ott.Messenger, `{"entry":[{"messaging":[` + thousand + `,{}]}]}`, fault.TooLarge,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := callback.DecodeEvents(test.platform, strings.NewReader(test.body))
			assert.True(t, fault.Is(err, test.want), "%v", err)
		})
	}
	events, err := callback.DecodeEvents(ott.LINE, strings.NewReader(`{"events":[`+thousand+`]}`))
	require.NoError(t, err)
	assert.Len(t, events, 1000)
}

func FuzzDecodeEvents(f *testing.F) {
	for _, event := range []string{
		messengerMessage, messengerPostback, messengerChange, lineMessage, lineFollow, `{"text":"\ud83d"}`,
	} {
		f.Add(fmt.Appendf(nil,
			`{"entry":[{"time":1770739000,"messaging":[%s]},{"changes":[%[1]s]}],"events":[%[1]s]}`, event))
	}
	f.Add([]byte(`{"entry":[],"events":[]}`))
	f.Add([]byte(`{"entry":[{"time":"0000000001","changes":[{}]}],"events":[{"timestamp":"0000000000001"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, platform := range []ott.Platform{ott.Messenger, ott.LINE} {
			events, err := callback.DecodeEvents(platform, bytes.NewReader(body))
			if err != nil {
				assert.True(t, fault.Is(err, fault.Malformed) || fault.Is(err, fault.TooLarge), "%v", err)
				continue
			}
			for _, event := range events {
				assert.True(t, json.Valid(event.JSON))
				assert.Contains(t, string(body), string(event.JSON), "an event is what the platform wrote")
				if !event.Time.IsZero() {
					assert.WithinRange(t, event.Time, time.Date(2001, 9, 9, 0, 0, 0, 0, time.UTC),
						time.Date(2287, 1, 1, 0, 0, 0, 0, time.UTC))
				}
			}
		}
	})
}
