package engage_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/store/columns"
	"carillon/shared/fault"
	"carillon/shared/jsonbody"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// check decodes and checks a body against a program that declares MY_VAR.
func check(t *testing.T, body string) (*engage.Push, error) {
	t.Helper()
	batch, err := engage.DecodeBatch(strings.NewReader(body))
	require.NoError(t, err)
	return batch.Check([]string{"MY_VAR"}, now)
}

// withMember is a batch that is right but for the member that is put in.
func withMember(member string) string {
	return `{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":["+5014008029"],` + member + `}`
}

func withDestination(destination string) string {
	return `{"destinations":[{"bNumber":"+14258309029"},` + destination + `],"aNumbers":["+5014008029"]}`
}

// withText is a batch whose second destination has a text in MY_VAR, as JSON has it between its quotes.
func withText(text string) string {
	return withDestination(`{"bNumber":"+15018902005","personalization":{"MY_VAR":"` + text + `"}}`)
}

func messages(t *testing.T, err error) []string {
	t.Helper()
	var failure *fault.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, fault.Invalid, failure.Code)
	var messages []string
	for _, v := range failure.Violations {
		messages = append(messages, v.Message)
	}
	return messages
}

func TestCheckTakesTheGuidesExample(t *testing.T) {
	push, err := check(t, `{"destinations":[
		{"bNumber":"+15018902005","personalization":{"MY_VAR":"Put Custom Text Here"},
			"customTrackingId":"custom-tracking-1"},
		{"bNumber":"+14258309029","personalization":{"MY_VAR":"Put Custom Text Here"},
			"customTrackingId":"custom-tracking-2"}],
		"aNumbers":["+5014008029","+5013509988"],"notBefore":"2020-02-10T16:00:00Z",
		"ttlSeconds":"3600","keepAfterCall":"false"}`)
	require.NoError(t, err)
	text := []engage.Variable{{Name: "MY_VAR", Text: "Put Custom Text Here"}}
	assert.Equal(t, &engage.Push{
		ANumbers:  []string{"+5014008029", "+5013509988"},
		CreatedAt: now,
		Terms:     engage.Terms{NotBefore: now, TTLSeconds: 3600}, // past = now
		Destinations: []engage.Destination{
			{BNumber: "+15018902005", Personalization: text, CustomTrackingID: "custom-tracking-1"},
			{BNumber: "+14258309029", Personalization: text, CustomTrackingID: "custom-tracking-2"},
		},
	}, push)
}

func TestCheckRefusesABadFieldAndSaysWhere(t *testing.T) {
	const ttl = "ttlSeconds must be an integer from 1 to 2419200"
	const destinations = "destinations must be an array of 1 to 25000 destinations"
	const aNumbers = "aNumbers must be an array of at most 400 E.164 numbers"
	const notBefore = "notBefore must be an RFC 3339 time with an offset, such as 2020-02-10T16:00:00Z"
	tests := map[string]struct{ body, message string }{
		"destinations missing": {`{"aNumbers":["+5014008029"]}`, destinations},
		"destinations null":    {`{"aNumbers":["+5014008029"],"destinations":null}`, destinations},
		"destinations empty":   {`{"aNumbers":["+5014008029"],"destinations":[]}`, destinations},
		"destinations no array": {
			`{"aNumbers":["+5014008029"],"destinations":{"bNumber":"+15018902005"}}`,
			destinations,
		},
		"destinations over 25,000": {
			`{"aNumbers":["+5014008029"],"destinations":[` +
				strings.Repeat(`{"bNumber":"+15018902005"},`, 25_000) + `{}]}`,
			destinations,
		},
		"a destination is null":     {withDestination(`null`), "destinations[1] must be an object"},
		"a destination is a string": {withDestination(`"+15018902005"`), "destinations[1] must be an object"},
		"bNumber missing":           {withDestination(`{}`), "destinations[1].bNumber must be an E.164 number"},
		"bNumber is a number": {
			withDestination(`{"bNumber":15018902005}`),
			"destinations[1].bNumber must be an E.164 number",
		},
		"bNumber without +": {
			withDestination(`{"bNumber":"15018902005"}`),
			"destinations[1].bNumber must be an E.164 number",
		},
		"bNumber with a leading 0": {
			withDestination(`{"bNumber":"+05018902005"}`),
			"destinations[1].bNumber must be an E.164 number",
		},
		"bNumber of 6 digits": {
			withDestination(`{"bNumber":"+123456"}`),
			"destinations[1].bNumber must be an E.164 number",
		},
		"bNumber of 16 digits": {
			withDestination(`{"bNumber":"+1234567890123456"}`),
			"destinations[1].bNumber must be an E.164 number",
		},
		"bNumber with a space": {
			withDestination(`{"bNumber":"+1501890 005"}`),
			"destinations[1].bNumber must be an E.164 number",
		},
		"bNumber in Arabic digits": {
			withDestination(`{"bNumber":"+١٥٠١٨٩٠٢٠٠٥"}`),
			"destinations[1].bNumber must be an E.164 number",
		},
		"customTrackingId of 129": {
			withDestination(`{"bNumber":"+15018902005","customTrackingId":"` + strings.Repeat("é", 129) + `"}`),
			"destinations[1].customTrackingId must be a string of at most 128 characters",
		},
		"customTrackingId is a number": {
			withDestination(`{"bNumber":"+15018902005","customTrackingId":7}`),
			"destinations[1].customTrackingId must be a string of at most 128 characters",
		},
		"personalization is an array": {
			withDestination(`{"bNumber":"+15018902005","personalization":["MY_VAR"]}`),
			"destinations[1].personalization must be an object of strings",
		},
		"personalization holds a number": {
			withDestination(`{"bNumber":"+15018902005","personalization":{"MY_VAR":1}}`),
			"destinations[1].personalization.MY_VAR must be a string of at most 256 characters",
		},
		"personalization holds null": {
			withDestination(`{"bNumber":"+15018902005","personalization":{"MY_VAR":null}}`),
			"destinations[1].personalization.MY_VAR must be a string of at most 256 characters",
		},
		"personalization of 257 characters": {
			withDestination(`{"bNumber":"+15018902005",` +
				`"personalization":{"MY_VAR":"` + strings.Repeat("x", 257) + `"}}`),
			"destinations[1].personalization.MY_VAR must be a string of at most 256 characters",
		},
		"personalization of 257 characters in 4 bytes each": {
			withText(
				strings.Repeat("😀", 257),
			),
			"destinations[1].personalization.MY_VAR must be a string of at most 256 characters",
		},
		"customTrackingId with a control character": {
			withDestination(`{"bNumber":"+15018902005","customTrackingId":"a\u0000"}`),
			"destinations[1].customTrackingId must not contain control characters",
		},
		"a variable with a long name": {
			withDestination(`{"bNumber":"+15018902005","personalization":{"` + strings.Repeat("é", 65) + `":"x"}}`),
			"destinations[1].personalization." + strings.Repeat("é", 64) + "… is not a variable of the program",
		},
		"personalization not declared": {
			withDestination(`{"bNumber":"+15018902005","personalization":{"my_var":"x"}}`),
			"destinations[1].personalization.my_var is not a variable of the program",
		},
		"aNumbers no array": {
			`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":"+5014008029"}`,
			aNumbers,
		},
		"aNumbers over 400": {
			`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":[` +
				strings.Repeat(`"+5014008029",`, 400) + `"+5014008029"]}`,
			aNumbers,
		},
		"aNumbers with a UUID": {
			`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":["935b91a0-f2fb-4c43-b629-63fea6634512"]}`,
			"aNumbers[0] must be an E.164 number",
		},
		"aNumbers with null": {
			`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":[null]}`,
			"aNumbers[0] must be an E.164 number",
		},
		"ttlSeconds 0":                {withMember(`"ttlSeconds":0`), ttl},
		"ttlSeconds over 28 days":     {withMember(`"ttlSeconds":2419201`), ttl},
		"ttlSeconds a fraction":       {withMember(`"ttlSeconds":1.5`), ttl},
		"ttlSeconds huge":             {withMember(`"ttlSeconds":1e400`), ttl},
		"ttlSeconds not numeric":      {withMember(`"ttlSeconds":"soon"`), ttl},
		"ttlSeconds with a sign":      {withMember(`"ttlSeconds":"+60"`), ttl},
		"notBefore with a comma":      {withMember(`"notBefore":"2026-11-22T10:00:00,5Z"`), notBefore},
		"notBefore blank":             {withMember(`"notBefore":" "`), notBefore},
		"notBefore empty":             {withMember(`"notBefore":""`), notBefore},
		"ttlSeconds empty":            {withMember(`"ttlSeconds":""`), ttl},
		"ttlSeconds a boolean":        {withMember(`"ttlSeconds":true`), ttl},
		"keepAfterCall a number":      {withMember(`"keepAfterCall":1`), "keepAfterCall must be a boolean"},
		"keepAfterCall another text":  {withMember(`"keepAfterCall":"yes"`), "keepAfterCall must be a boolean"},
		"notBefore without an offset": {withMember(`"notBefore":"2026-11-22T10:00:00"`), notBefore},
		"notBefore a number":          {withMember(`"notBefore":1790000000`), notBefore},
		"notBefore over 30 days ahead": {
			withMember(`"notBefore":"2026-12-22T10:00:01Z"`),
			"notBefore must be at most 30 days ahead",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := check(t, test.body)
			assert.Equal(t, []string{test.message}, messages(t, err))
		})
	}
}

func TestCheckTakes(t *testing.T) {
	tests := map[string]struct {
		body string
		want func(t *testing.T, push *engage.Push)
	}{
		"defaults": {withMember(`"other":1`), func(t *testing.T, push *engage.Push) {
			t.Helper()
			assert.Equal(t, 3600, push.TTLSeconds)
			assert.False(t, push.KeepAfterCall)
			assert.Equal(t, now, push.NotBefore)
		}},
		"nulls as defaults": {
			withMember(`"ttlSeconds":null,"keepAfterCall":null,"notBefore":null`),
			func(t *testing.T, push *engage.Push) {
				t.Helper()
				assert.Equal(t, 3600, push.TTLSeconds)
				assert.Equal(t, now, push.NotBefore)
			},
		},
		"ttlSeconds an integer": {
			withMember(`"ttlSeconds":2419200`),
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.Equal(t, 2419200, push.TTLSeconds) },
		},
		"ttlSeconds a numeric string": {
			withMember(`"ttlSeconds":"960"`),
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.Equal(t, 960, push.TTLSeconds) },
		},
		"keepAfterCall true": {
			withMember(`"keepAfterCall":true`),
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.True(t, push.KeepAfterCall) },
		},
		"keepAfterCall \"true\"": {
			withMember(`"keepAfterCall":"true"`),
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.True(t, push.KeepAfterCall) },
		},
		"notBefore with an offset": {
			withMember(`"notBefore":"2026-11-22T12:30:00+02:00"`),
			func(t *testing.T, push *engage.Push) {
				t.Helper()
				assert.Equal(t, now.Add(30*time.Minute), push.NotBefore.UTC())
			},
		},
		"notBefore 30 days ahead": {
			withMember(`"notBefore":"2026-12-22T10:00:00Z"`),
			func(t *testing.T, push *engage.Push) {
				t.Helper()
				assert.Equal(t, now.Add(30*24*time.Hour), push.NotBefore)
			},
		},
		"personalization of 256 characters in 4 bytes each": {
			withText(strings.Repeat("😀", 256)),
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.Len(t, push.Destinations, 2) },
		},
		"personalization over 20": {
			withDestination(`{"bNumber":"+15018902005",` +
				`"personalization":{"MY_VAR":"` + strings.Repeat("é", 256) + `"}}`),
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.Len(t, push.Destinations, 2) },
		},
		"the last of the same bNumber": {`{"destinations":[{"bNumber":"+15018902005","customTrackingId":"a"},
			{"bNumber":"+14258309029"},
			{"bNumber":"+15018902005","customTrackingId":"b"}]}`, func(t *testing.T, push *engage.Push) {
			t.Helper()
			assert.Equal(t, []engage.Destination{
				{BNumber: "+14258309029"},
				{BNumber: "+15018902005", CustomTrackingID: "b"},
			}, push.Destinations)
		}},
		"25,000 destinations": {
			`{"destinations":[` +
				strings.Repeat(`{"bNumber":"+14258309029"},`, 24_999) + `{"bNumber":"+15018902005"}]}`,
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.Len(t, push.Destinations, 2) },
		},
		"7 and 15 digits": {
			`{"destinations":[{"bNumber":"+1234567"},{"bNumber":"+123456789012345"}]}`,
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.Len(t, push.Destinations, 2) },
		},
		"400 aNumbers": {
			`{"destinations":[{"bNumber":"+1234567"}],"aNumbers":[` +
				strings.Repeat(`"+5014008029",`, 399) + `"+5014008029"]}`,
			func(t *testing.T, push *engage.Push) { t.Helper(); assert.Len(t, push.ANumbers, 400) },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			push, err := check(t, test.body)
			require.NoError(t, err)
			test.want(t, push)
		})
	}
}

// A caller's display shows the texts.
func TestCheckRefusesWhatADisplayMustNotShow(t *testing.T) {
	const refused = "destinations[1].personalization.MY_VAR must not contain control characters or bidirectional overrides"
	for text, allowed := range map[string]bool{
		`\u0000`: false, `\n`: false, `\t`: false, `\u001f`: false, ` `: true, `~`: true, `\u007f`: false,
		`\u0080`: false, `\u0085`: false, `\u009f`: false, `\u00a0`: true,
		`\u2029`: true, `\u202a`: false, "\u202a": false, `\u202e`: false, "\u202e": false, `\u202f`: true,
		`\u2066`: true, `\u2069`: true, `\u200f`: true, // isolates and marks are what right-to-left texts need
		`שלום`: true, `\ud83d\ude00`: true, `\ufdd0`: true, `\ufffd`: true, `\ufdd0\ue000`: true,
	} {
		t.Run(text, func(t *testing.T) {
			for _, text := range []string{text, "before " + text, text + " behind"} {
				_, err := check(t, withText(text))
				if allowed {
					assert.NoError(t, err)
				} else {
					assert.Equal(t, []string{refused}, messages(t, err))
				}
			}
		})
	}
}

func TestCheckReadsTTLSecondsByItsValue(t *testing.T) {
	integers := map[string]int{
		`1`: 1, `3600`: 3600, `3600.0`: 3600, `3600.000000000000000000000`: 3600, `3.6e3`: 3600, `3.6E+3`: 3600,
		`36e2`: 3600, `0.36e4`: 3600, `360000e-2`: 3600, `10e-1`: 1, `1e0`: 1, `0.0000001e7`: 1, `2419200`: 2419200,
		`24192e2`: 2419200, `2419200` + strings.Repeat("0", 400) + `e-400`: 2419200,
	}
	for number, want := range integers {
		for _, sent := range []string{number, `"` + number + `"`} {
			push, err := check(t, withMember(`"ttlSeconds":`+sent))
			require.NoError(t, err, sent)
			assert.Equal(t, want, push.TTLSeconds, sent)
		}
	}
	push, err := check(t, withMember(`"ttlSeconds":"0060"`))
	require.NoError(t, err)
	assert.Equal(t, 60, push.TTLSeconds, "a text may have leading zeros")
	for _, sent := range []string{
		`0`, `-0`, `0.0`, `0e5`, `0e99999999999999999999`, `-1`, `-3600.0`, `1.5`, `3600.5`, `3.6e2.`, `3600.00000000000000000001`,
		`36e-1`, `1e-1`, `2419200.1`, `2419201`, `2.4192e7`, `1e400`, `1e-400`, `1e9`, `1e10`, `1e9223372036854775807`,
		`10e9223372036854775807`, `1e-9223372036854775808`, `1e99999999999999999999`, `1e-99999999999999999999`,
		`4294970896`, `18446744073709555216`, // 3600 in 32 and 64 bits
		`"0"`, `"-1"`, `"+60"`, `"1.5"`, `"60s"`, `"0x3c"`, `"1_000"`, `"1,000"`, `"."`, `".5e1"`, `"60."`, `"6e"`, `"e1"`,
		`" 60"`, `"60 "`, `"60\n"`, `" "`, `""`, `"NaN"`, `"Infinity"`, `"٦٠"`, `"null"`, `"1e400"`, `true`, `[60]`, `{"a":60}`,
	} {
		if batch, err := engage.DecodeBatch(strings.NewReader(withMember(`"ttlSeconds":` + sent))); err == nil {
			_, err = batch.Check(nil, now)
			assert.Equal(t, []string{"ttlSeconds must be an integer from 1 to 2419200"}, messages(t, err), sent)
		} else {
			assert.Equal(t, `3.6e2.`, sent, "%v", err)
		}
	}
}

func TestCheckReadsNotBefore(t *testing.T) {
	at := func(text string) time.Time {
		want, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		return want
	}
	for sent, want := range map[string]time.Time{
		"2026-11-23T10:00:00Z":                                   at("2026-11-23T10:00:00Z"),
		"2026-11-23t10:00:00z":                                   at("2026-11-23T10:00:00Z"),
		"2026-11-23t10:00:00-05:30":                              at("2026-11-23T15:30:00Z"),
		"2026-11-23T10:00:00+00:00":                              at("2026-11-23T10:00:00Z"),
		"2026-11-23T10:00:00-00:00":                              at("2026-11-23T10:00:00Z"),
		"2026-11-23T10:00:00+23:59":                              at("2026-11-22T10:01:00Z"),
		"2026-11-23T10:00:00-23:59":                              at("2026-11-24T09:59:00Z"),
		"2026-11-23T23:59:59.9Z":                                 at("2026-11-23T23:59:59.9Z"),
		"2026-11-23T10:00:00.123456789z":                         at("2026-11-23T10:00:00.123456789Z"),
		"2026-11-23T10:00:00.1234567890000Z":                     at("2026-11-23T10:00:00.123456789Z"),
		"2026-11-23T10:00:00.1234567890001Z":                     at("2026-11-23T10:00:00.12345679Z"), // never before its time
		"2026-11-23T10:00:00." + strings.Repeat("9", 5000) + "Z": at("2026-11-23T10:00:01Z"),
		"2026-11-30T23:59:60Z":                                   at("2026-12-01T00:00:00Z"), // a leap second
		"2026-11-30T15:59:60.5-08:00":                            at("2026-12-01T00:00:00.5Z"),
		"2026-12-01T05:29:60+05:30":                              at("2026-12-01T00:00:00Z"),
		"2016-12-31T23:59:60Z":                                   now,
		"2026-11-22T10:00:00Z":                                   now,
		"2026-11-22T09:59:59Z":                                   now,
		"0000-01-01T00:00:00Z":                                   now,
		"2024-02-29T00:00:00Z":                                   now,
		"2026-12-22T10:00:00Z":                                   at("2026-12-22T10:00:00Z"),
	} {
		push, err := check(t, withMember(`"notBefore":"`+sent+`"`))
		require.NoError(t, err, sent)
		assert.True(t, want.Equal(push.NotBefore), "%s is %s", sent, push.NotBefore)
	}
	const notTime = "notBefore must be an RFC 3339 time with an offset, such as 2020-02-10T16:00:00Z"
	for _, sent := range []string{
		``, ` `, `\t`, `2026-11-23`, `2026-11-23T10:00:00`, `2026-11-23T10:00Z`, `2026-11-23 10:00:00Z`,
		`2026-11-23T10:00:00+24:00`, `2026-11-23T10:00:00-24:60`, `2026-11-23T10:00:00+24:60`, `2026-11-23T10:00:00+00:60`,
		`2026-11-23T10:00:00+5:00`, `2026-11-23T10:00:00+0500`, `2026-11-23T10:00:00+05`, `2026-11-23T10:00:00 +05:00`,
		`2026-11-23T10:00:00UTC`, `2026-11-23T10:00:00ZZ`, `2026-11-23T10:00:00.Z`, `2026-11-23T10:00:00,5Z`,
		`2026-11-23T24:00:00Z`, `2026-11-23T10:60:00Z`, `2026-11-23T10:00:61Z`, `2026-11-23T1:00:00Z`,
		`2026-13-01T10:00:00Z`, `2026-11-31T10:00:00Z`, `2026-02-29T10:00:00Z`, `2026-00-10T10:00:00Z`,
		`2026-11-23T10:00:60Z`, `2026-11-23T23:59:60Z`, `2026-11-30T23:59:60+01:00`, `2026-11-30T22:59:60Z`,
		` 2026-11-23T10:00:00Z`, `2026-11-23T10:00:00Z `, `2026-11-23T10:00:00Z\n`, `+2026-11-23T10:00:00Z`,
		`-2026-11-23T10:00:00Z`, `12026-11-23T10:00:00Z`, `２０２６-11-23T10:00:00Z`, `\ud800`,
	} {
		_, err := check(t, withMember(`"notBefore":"`+sent+`"`))
		assert.Equal(t, []string{notTime}, messages(t, err), sent)
	}
	for _, sent := range []string{"2026-12-22T10:00:00.000000001Z", "2026-12-22T10:00:00.0000000001Z", "9999-12-31T23:59:60Z"} {
		_, err := check(t, withMember(`"notBefore":"`+sent+`"`))
		assert.Equal(t, []string{"notBefore must be at most 30 days ahead"}, messages(t, err), sent)
	}
}

// Half a surrogate pair is a fault of what holds it.
func TestCheckFindsHalvesOfPairs(t *testing.T) {
	const text = "destinations[1].personalization.MY_VAR must be valid Unicode"
	tests := map[string]struct {
		body string
		want []string
	}{
		"in a text":               {withText(`\ud800`), []string{text}},
		"a second half in a text": {withText(`a\uDFFFb`), []string{text}},
		"two in a text":           {withText(`\ud800\ud800`), []string{text}},
		"in a text over 256":      {withText(`\ud800` + strings.Repeat("x", 256)), []string{text}},
		"beside what looks like a mark": {
			withDestination(`{"bNumber":"+15018902005","personalization":{"MY_VAR":"\ufdd0\ue000"}},` +
				`{"bNumber":"+15018902006","personalization":{"MY_VAR":"\ud800"}}`),
			[]string{"destinations[2].personalization.MY_VAR must be valid Unicode"},
		},
		"in a name": {
			withDestination(`{"bNumber":"+15018902005","personalization":{"A\ud800B":"x"}}`),
			[]string{"destinations[1].personalization.A\ufffdB must be valid Unicode"},
		},
		"in two names": {
			withDestination(`{"bNumber":"+15018902005","personalization":{"\ud800":"x","\ud801":"\ud800"}}`),
			[]string{
				"destinations[1].personalization.\ufffd must be valid Unicode",
				"destinations[1].personalization.\ufffd must be valid Unicode",
			},
		},
		"in a text of a variable that is not declared": {
			withDestination(`{"bNumber":"+15018902005","personalization":{"X":"\ud800"}}`),
			[]string{"destinations[1].personalization.X is not a variable of the program"},
		},
		"in customTrackingId": {
			withDestination(`{"bNumber":"+15018902005","customTrackingId":"\udc00"}`),
			[]string{"destinations[1].customTrackingId must be valid Unicode"},
		},
		"in bNumber": {
			withDestination(`{"bNumber":"+15018902005\ud83d"}`),
			[]string{"destinations[1].bNumber must be an E.164 number"},
		},
		"in a destination that is a text": {withDestination(`"\ud800"`), []string{"destinations[1] must be an object"}},
		"in a member that nobody reads": {
			withDestination(`{"bNumber":"+15018902005","x":["\ud800"]},{"bNumber":"+15018902006"}`),
			[]string{"destinations[1] must be valid Unicode"},
		},
		"in the name of a member that nobody reads": {
			withDestination(`{"bNumber":"+15018902005","\ud800":1}`), []string{"destinations[1] must be valid Unicode"},
		},
		"in three destinations, and every other fault": {
			`{"aNumbers":["+5014008029","\ud800"],"ttlSeconds":"\ud800","destinations":[{"bNumber":"+15018902001",` +
				`"personalization":{"MY_VAR":"\ud800"}},{"bNumber":"+15018902002"},{"bNumber":"+15018902003",` +
				`"customTrackingId":"\ud800","x":"\ud800"},{"bNumber":"1","customTrackingId":"\udc00\ud800"}],` +
				`"keepAfterCall":"\ud800"}`,
			[]string{
				"aNumbers[1] must be an E.164 number",
				"ttlSeconds must be an integer from 1 to 2419200",
				"keepAfterCall must be a boolean",
				"destinations[0].personalization.MY_VAR must be valid Unicode",
				"destinations[2].customTrackingId must be valid Unicode",
				"destinations[2] must be valid Unicode",
				"destinations[3].bNumber must be an E.164 number",
				"destinations[3].customTrackingId must be valid Unicode",
			},
		},
		"in aNumbers that are a text": {
			`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":"\ud800"}`,
			[]string{"aNumbers must be an array of at most 400 E.164 numbers"},
		},
		"in an aNumber that is a list": {
			`{"destinations":[{"bNumber":"+15018902005"}],"aNumbers":[["\ud800"]]}`,
			[]string{"aNumbers[0] must be an E.164 number"},
		},
		"in destinations over 25,000": {
			`{"destinations":[` + strings.Repeat(`{},`, 25_000) + `"\ud800"]}`,
			[]string{"destinations must be an array of 1 to 25000 destinations"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := check(t, test.body)
			assert.Equal(t, test.want, messages(t, err))
		})
	}
	t.Run("a pair is none", func(t *testing.T) {
		push, err := check(t, withText(`\ud83d\ude00`))
		require.NoError(t, err)
		assert.Equal(t, []engage.Variable{{Name: "MY_VAR", Text: "😀"}}, push.Destinations[1].Personalization)
	})
}

// A batch in which everything is wrong is answered like one in which little is.
func TestCheckCountsWhatNobodyReads(t *testing.T) {
	_, err := check(t, wrongBody())
	var failure *fault.Error
	require.ErrorAs(t, err, &failure)
	assert.LessOrEqual(t, len(failure.Violations), fault.MaxViolations+1)
	faults := strings.Split(failure.Violations.Join("; ", 20), "; ")
	require.Len(t, faults, 21)
	assert.Equal(t, []string{
		"destinations[0].bNumber must be an E.164 number",
		"destinations[0].customTrackingId must be a string of at most 128 characters",
		"destinations[0].personalization.FIRST is not a variable of the program",
		"destinations[0].personalization.MY_VAR must not contain control characters or bidirectional overrides",
		"destinations[1].bNumber must be an E.164 number",
	}, faults[:5])
	assert.Equal(t, "and 99980 more", faults[20])
}

// wrongBody is a batch of 25,000 destinations that have four faults each.
func wrongBody() string {
	const wrong = `{"bNumber":"1","customTrackingId":7,"personalization":{"FIRST":"x","MY_VAR":"\u0007"}}`
	return `{"aNumbers":["+5014008029"],"destinations":[` +
		strings.Repeat(wrong+",", engage.MaxDestinations-1) + wrong + `]}`
}

// However many variables a destination has, each that is wrong is counted.
func TestCheckOfManyVariables(t *testing.T) {
	var members strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&members, `"UNKNOWN_%d":"x",`, i)
	}
	_, err := check(t, `{"destinations":[{"bNumber":"+15018902005","personalization":{`+members.String()+
		`"MY_VAR":7}}],"aNumbers":["+5014008029"]}`)
	var failure *fault.Error
	require.ErrorAs(t, err, &failure)
	assert.True(
		t,
		strings.HasSuffix(failure.Violations.Join("; ", 1), "; and 1000 more"),
		failure.Violations.Join("; ", 1),
	)
}

// What a destination sends in its personalization is kept in the memory that it took in the body.
func TestDecodeBatchOfMillionsOfVariables(t *testing.T) {
	var members strings.Builder
	for i := range 256 {
		fmt.Fprintf(&members, `"%x":"",`, i)
	}
	destination := `{"personalization":{` + members.String() + `"":[]}}`
	text := `{"destinations":[` + strings.Repeat(destination+",", 4000) + destination + `]}`
	inUse := func() int {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int(stats.HeapAlloc)
	}
	before := inUse()
	batch, err := engage.DecodeBatch(strings.NewReader(text))
	require.NoError(t, err)
	assert.Less(t, inUse()-before, len(text)+len(text)/4, "bytes kept")
	_, err = batch.Check(nil, now)
	require.Error(t, err)
}

func TestCheckReportsEveryFaultAtOnce(t *testing.T) {
	_, err := check(t, `{"destinations":[
		{"bNumber":"1"},
		{"bNumber":"+15018902005","personalization":{"X":"y"},"customTrackingId":[]}],
		"aNumbers":["+1","+5014008029",5],"notBefore":"now","ttlSeconds":-1,"keepAfterCall":"maybe"}`)
	assert.Equal(t, []string{
		"aNumbers[0] must be an E.164 number",
		"aNumbers[2] must be an E.164 number",
		"notBefore must be an RFC 3339 time with an offset, such as 2020-02-10T16:00:00Z",
		"ttlSeconds must be an integer from 1 to 2419200",
		"keepAfterCall must be a boolean",
		"destinations[0].bNumber must be an E.164 number",
		"destinations[1].customTrackingId must be a string of at most 128 characters",
		"destinations[1].personalization.X is not a variable of the program",
	}, messages(t, err))
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(`{"destinations":[{"bNumber":"+15018902005","personalization":{"MY_VAR":"x"},"customTrackingId":"1"}],` +
		`"aNumbers":["+5014008029"],"notBefore":"2020-02-10T16:00:00Z","ttlSeconds":"3600","keepAfterCall":"false"}`)
	f.Add(`{"destinations":[null,{},[],{"bNumber":1,"personalization":[]}],"aNumbers":{},"aNumberGroupId":7}`)
	f.Add(`{"ttlSeconds":1e400,"notBefore":"2020-02-10T16:00:00","keepAfterCall":0}`)
	f.Add("{\"\xff\":1}")
	f.Add(`{"destinations":[{"bNumber":"+15018902005","personalization":{"MY_VAR":"\ud800","\udc00":1},"x":"\ud800"}]}`)
	f.Add(
		`{"destinations":[{"bNumber":"+15018902005"}],"ttlSeconds":3.6e3,"notBefore":"2026-11-30t23:59:60z","x":"\udfff"}`,
	)
	f.Fuzz(func(t *testing.T, body string) {
		batch, err := engage.DecodeBatch(strings.NewReader(body))
		if err != nil {
			assert.True(t, fault.Is(err, fault.Malformed), err)
			return
		}
		push, err := batch.Check([]string{"MY_VAR"}, now)
		if err != nil {
			assert.True(t, fault.Is(err, fault.Invalid), err)
			return
		}
		require.NotEmpty(t, push.Destinations)
		seen := map[string]bool{}
		for _, d := range push.Destinations {
			assert.Regexp(t, `^\+[1-9][0-9]{6,14}$`, d.BNumber)
			assert.False(t, seen[d.BNumber], "a bNumber twice")
			seen[d.BNumber] = true
			for _, v := range d.Personalization {
				assert.NotRegexp(t, `[\p{Cc}\x{202A}-\x{202E}]`, v.Text)
			}
		}
		assert.True(t, jsontext.Value(body).IsValid(), "half a pair is pushed")
		assert.False(t, push.NotBefore.Before(now))
		assert.Positive(t, push.TTLSeconds)
		assert.LessOrEqual(t, push.NotBefore.Sub(now), 30*24*time.Hour)
		chunks, err := columns.EncodeChunks(push.Destinations)
		require.NoError(t, err)
		require.NotEmpty(t, chunks)
	})
}

func TestDecodeBatchRefusesWhatIsNoJSONObject(t *testing.T) {
	for name, body := range map[string]string{
		"empty":               "",
		"no JSON":             "hello",
		"an array":            "[]",
		"trailing data":       "{}{}",
		"duplicate members":   `{"aNumbers":[],"aNumbers":[]}`,
		"duplicate variables": `{"destinations":[{"personalization":{"A":"1","A":"2"}}]}`,
		"invalid UTF-8":       "{\"aNumbers\":[\"\xff\"]}",
		"half a pair in a member that nobody reads":     `{"x":["\ud800"],"destinations":[],"aNumbers":[]}`,
		"half a pair between the lists":                 `{"destinations":["x"],"x":"\ud800","aNumbers":["x"]}`,
		"half a pair behind the lists":                  `{"destinations":["x"],"aNumbers":["x"],"x":"\ud800"}`,
		"half a pair in a name":                         `{"destinations\ud800":[]}`,
		"half a pair here and in a member that is read": `{"x":"\ud800","ttlSeconds":"\ud800"}`,
		"half a pair within what should be a text":      `{"ttlSeconds":["\ud800"]}`,
		"invalid UTF-8 in a destination":                "{\"destinations\":[{\"customTrackingId\":\"\xed\xa0\x80\"}]}",
		"deep nesting":                                  `{"x":` + strings.Repeat("[", 100_000),
		"cut short":                                     `{"destinations":[{"bNumber":"+1501`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := engage.DecodeBatch(strings.NewReader(body))
			assert.True(t, fault.Is(err, fault.Malformed), fmt.Sprint(err))
		})
	}
	broken := errors.New("the connection broke")
	_, err := engage.DecodeBatch(failingReader{&fault.Error{Code: fault.TooLarge, Cause: broken}})
	assert.True(t, fault.Is(err, fault.TooLarge), "the reader's own fault comes through")
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// BenchmarkDecodeBatch is the largest job here: a body of 25,000 destinations, decoded and checked.
func BenchmarkDecodeBatch(b *testing.B) {
	text := engagetest.RealisticBody()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		batch, err := engage.DecodeBatch(strings.NewReader(text))
		require.NoError(b, err)
		_, err = batch.Check([]string{"FIRST_NAME", "TIME"}, now)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/engage.MaxDestinations, "ns/destination")
}

// BenchmarkDigest digests the same body, which is done for a batch under an Idempotency-Key, beside SHA-256 of its
// bytes.
func BenchmarkDigest(b *testing.B) {
	text := engagetest.RealisticBody()
	for name, digest := range map[string]func() error{
		"value": func() error {
			_, err := jsonbody.Digest(strings.NewReader(text))
			return err
		},
		"bytes": func() error {
			_, err := io.Copy(sha256.New(), strings.NewReader(text))
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, digest())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/engage.MaxDestinations, "ns/destination")
		})
	}
}

// BenchmarkCheckRefuses checks a batch of 25,000 destinations in which everything is wrong, and prints what that
// allocates.
func BenchmarkCheckRefuses(b *testing.B) {
	batch, err := engage.DecodeBatch(strings.NewReader(wrongBody()))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		_, err := batch.Check([]string{"MY_VAR"}, now)
		require.Error(b, err)
	}
}
