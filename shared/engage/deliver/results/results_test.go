package results_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/engage"
	"carillon/shared/engage/deliver/results"
)

var at = time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC)

const number = "+15018902001"

func TestDecode(t *testing.T) {
	delivered := engage.Result{State: engage.StateDelivered, DeliveredAt: at}
	rejected := func(reason string) engage.Result { return engage.Result{State: engage.StateRejected, Reason: reason} }
	again := func(reason string) engage.Result { return engage.Result{State: engage.StatePending, Reason: reason} }
	for name, test := range map[string]struct {
		body string
		want engage.Result
		odd  int
	}{
		"delivered":             {`{"results":[{"bNumber":"+15018902001","status":"delivered"}]}`, delivered, 0},
		"in another order":      {`{"x":[{}],"results":[{"status":"delivered","y":{"z":[1]},"bNumber":"+15018902001"}],"a":1}`, delivered, 0},
		"escaped":               {`{"result\u0073":[{"bNumber":"\u002b15018902001","st\u0061tus":"d\u0065livered"}]}`, delivered, 0},
		"rejected":              {`{"results":[{"bNumber":"+15018902001","status":"rejected","reason":"gone\n away"}]}`, rejected("gone away"), 0},
		"again":                 {`{"results":[{"bNumber":"+15018902001","status":"retry","reason":"busy"}]}`, again("busy"), 0},
		"a number of JSON's":    {`{"results":[{"bNumber":15018902001,"status":"delivered"}]}`, delivered, 0},
		"an odd reason":         {`{"results":[{"bNumber":"+15018902001","status":"rejected","reason":[1]}]}`, rejected(""), 0},
		"an odd status":         {`{"results":[{"bNumber":"+15018902001","status":"Delivered"}]}`, engage.Result{}, 1},
		"a status of no text":   {`{"results":[{"bNumber":"+15018902001","status":true}]}`, engage.Result{}, 1},
		"no status":             {`{"results":[{"bNumber":"+15018902001"}]}`, engage.Result{}, 1},
		"no number":             {`{"results":[{"status":"delivered"},{"bNumber":"x","status":"delivered"}]}`, engage.Result{}, 2},
		"items that are none":   {`{"results":[null,1,"x",[],{}]}`, engage.Result{}, 5},
		"beside odd ones":       {`{"results":[null,{"bNumber":"+15018902001","status":"delivered"},{}]}`, delivered, 2},
		"twice, the better":     {`{"results":[{"bNumber":"+15018902001","status":"delivered"},{"bNumber":"+15018902001","status":"retry"}]}`, delivered, 0},
		"twice, the later":      {`{"results":[{"bNumber":"+15018902001","status":"retry"},{"bNumber":"+15018902001","status":"rejected"}]}`, rejected(""), 0},
		"a member twice":        {`{"results":[{"bNumber":"+15018902001","status":"retry","status":"delivered"}]}`, delivered, 0},
		"results twice":         {`{"results":[],"results":[{"bNumber":"+15018902001","status":"delivered"}]}`, delivered, 0},
		"bad UTF-8 in a reason": {"{\"results\":[{\"bNumber\":\"+15018902001\",\"status\":\"rejected\",\"reason\":\"a\xffb\"}]}", rejected("ab"), 0},
		"of nobody":             {`{"results":[]}`, engage.Result{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := results.Decode([]byte(test.body), at)
			require.NoError(t, err)
			got, told := set.Of(number)
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.want != engage.Result{}, told)
			assert.Equal(t, test.odd, set.Odd)
		})
	}
	for name, body := range map[string]string{
		"no JSON": `hello`, "an array": `[]`, "null": `null`, "no results": `{}`, "results are null": `{"results":null}`,
		"results are an object": `{"results":{}}`, "cut": `{"results":[{"bNumber":"+15018902001","status":"delivered"}`,
		"more behind": `{"results":[]} {}`, "results twice, the last none": `{"results":[],"results":7}`, "empty": ``,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := results.Decode([]byte(body), at)
			assert.ErrorIs(t, err, results.ErrBody)
		})
	}
}

func TestTrim(t *testing.T) {
	for body, want := range map[string]string{
		"": "", " \r\n\t": "", "\ufeff": "", " \ufeff \n": "", "\ufeff{}": "{}", " {} ": "{}",
	} {
		assert.Equal(t, want, string(results.Trim([]byte(body))), "%q", body)
	}
}

// docs/contract.md §2: numbers are compared by their digits.
func TestDigits(t *testing.T) {
	for _, same := range []string{
		"+15018902001", "15018902001", "0015018902001", "tel:+15018902001", "TEL:+1-501-890-2001", "%2B15018902001",
		"+1 501 890 2001", "+1-501-890-2001", " +15018902001 ", "tel:+1-501-890-2001;ext=7", "+1 (501) 890.2001",
		"+1\u2011501\u2011890\u20112001",
	} {
		assert.Equal(t, "15018902001", results.Digits(same), same)
	}
	for _, none := range []string{"", "+", "x", "sip:15018902001", "+1501890200x", "%zz", "-", "00"} {
		assert.Empty(t, results.Digits(none), none)
	}
	assert.NotEqual(t, results.Digits("+15018902001"), results.Digits("+15018902002"))
}

// However an answer is written, each item stands for itself.
func TestEachItemStandsForItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "destinations")
		statuses := rapid.SliceOfN(rapid.SampledFrom([]string{"delivered", "rejected", "retry", "odd"}), n, n).
			Draw(t, "statuses")
		var items []string
		for i, status := range statuses {
			if status == "odd" {
				items = append(items, rapid.SampledFrom([]string{
					`null`, `{}`, `{"status":"delivered"}`, fmt.Sprintf(`{"bNumber":"+1501890%04d","status":"?"}`, i),
				}).Draw(t, "odd"))
				continue
			}
			items = append(items, fmt.Sprintf(`{"bNumber":"+1501890%04d","status":%q}`, i, status))
		}
		set, err := results.Decode([]byte(`{"results":[`+strings.Join(items, ",")+`]}`), at)
		require.NoError(t, err)
		odd := 0
		for i, status := range statuses {
			result, told := set.Of(fmt.Sprintf("+1501890%04d", i))
			switch status {
			case "odd":
				odd++
				assert.False(t, told)
			case "retry":
				assert.True(t, told && result.IsPending())
			default:
				assert.Equal(t, engage.DestinationState(status), result.State)
			}
		}
		assert.Equal(t, odd, set.Odd)
		assert.Equal(t, n-odd, set.Len())
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"results":[{"bNumber":"+15018902001","status":"delivered","reason":"x"},null]}`))
	f.Add([]byte("{\"results\":[{\"bNumber\":\"tel:%2B1\",\"status\":\"retry\",\"reason\":\"\xff\"}]}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := results.Decode(results.Trim(body), at)
		if err != nil {
			require.ErrorIs(t, err, results.ErrBody)
			require.Zero(t, set.Len())
			return
		}
		require.GreaterOrEqual(t, set.Odd, 0)
	})
}
