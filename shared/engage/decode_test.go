package engage_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/store/columns"
	"carillon/shared/fault"
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
		}
		assert.False(t, push.NotBefore.Before(now))
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
		"deep nesting":        `{"x":` + strings.Repeat("[", 100_000),
		"cut short":           `{"destinations":[{"bNumber":"+1501`,
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
