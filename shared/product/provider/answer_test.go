package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/clock/clocktest"
	"carillon/shared/fault"
	"carillon/shared/product"
	"carillon/shared/product/provider"
	"carillon/shared/secret"
)

type oneSecret string

func (s oneSecret) Get(context.Context, string, secret.Stage, time.Duration) (secret.Version, error) {
	return secret.Version{ID: "1", Value: secret.NewText(string(s))}, nil
}

// newAnswers returns what Entitle makes of an answer with a status and a body.
func newAnswers(t testing.TB) func(status int, body string) (product.Entitlement, error) {
	t.Helper()
	var next atomic.Pointer[http.HandlerFunc]
	url := newProviderServer(t, func(w http.ResponseWriter, r *http.Request) { (*next.Load())(w, r) })
	hosts, err := provider.ParseActivationHosts([]string{"activate.example.com"})
	require.NoError(t, err)
	p, err := provider.New(url, hosts, oneSecret(`{"username":"carillon","password":"x"}`), "bango", time.Minute,
		clocktest.New())
	require.NoError(t, err)
	return func(status int, body string) (product.Entitlement, error) {
		handler := answering(status, body)
		next.Store(&handler)
		return p.Entitle(context.Background(), "operation-1", entitlementRequest)
	}
}

// docs/contract.md §3: urlExpiry in a form that we can't read: mailed without it, and logged.
func TestEntitleReadsTheExpiryAsPeopleWriteIt(t *testing.T) {
	ask := newAnswers(t)
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	seconds := strconv.FormatInt(at.Unix(), 10)
	for text, want := range map[string]struct {
		at        time.Time
		looksLike string
	}{
		`"2026-11-30T10:00:00Z"`:      {at: at},
		`"2026-11-30T05:00:00-05:00"`: {at: at},
		`"2026-11-30T10:00:00+0000"`:  {at: at},
		`"2026-11-30 10:00:00"`:       {at: at},
		`"2026-11-30"`:                {at: time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)},
		seconds:                       {at: at},
		seconds + ".0":                {at: at},
		`"` + seconds + `"`:           {at: at},
		seconds + "000":               {at: at},
		seconds + "e3":                {at: at},
		`" ` + seconds + `000 "`:      {at: at},
		"":                            {}, // missing
		"null":                        {},
		`""`:                          {},
		`" "`:                         {},
		`"tomorrow"`:                  {looksLike: `"aaaaaaaa"`},
		`"30/11/2026"`:                {looksLike: `"99/99/9999"`},
		`"0001-01-01T00:00:00Z"`:      {looksLike: `"9999-99-99a99:99:99a"`},
		`"1970-01-01"`:                {looksLike: `"9999-99-99"`},
		"0":                           {looksLike: "9"},
		"-5":                          {looksLike: "-9"},
		"1e400":                       {looksLike: "9a999"},
		`"NaN"`:                       {looksLike: `"aaa"`},
		"true":                        {looksLike: "aaaa"},
		`{"at":5}`:                    {looksLike: `{"aa":9}`},
		`["2026-11-30"]`:              {looksLike: `["9999-99-99"]`},
		`"` + activationURL + `"`:     {looksLike: `"aaaaa://aaaaaaaa.aaaaaaa.aaa/aaa-aaaa-a…`},
		"\"\xff\n\"":                  {looksLike: ""},
	} {
		body := strings.Replace(granted, `"2026-11-23T10:00:00Z"`, text, 1)
		if text == "" {
			body = strings.Replace(granted, `,"urlExpiry":"2026-11-23T10:00:00Z"`, "", 1)
		}
		entitlement, err := ask(http.StatusOK, body)
		if strings.Contains(text, "\n") { // no JSON
			assert.True(t, fault.Is(err, fault.BadGateway), "%q", text)
			continue
		}
		require.NoError(t, err, text)
		assert.Equal(t, activationURL, entitlement.ActivationURL.Reveal(), text)
		assert.True(t, want.at.Equal(entitlement.ActivationExpires), "%s is read as %s", text,
			entitlement.ActivationExpires)
		assert.Equal(t, want.looksLike, entitlement.UnreadExpiry, text)
	}
}

// docs/contract.md §3: any other member may be missing or odd.
func TestEntitleReadsOnlyWhatDecides(t *testing.T) {
	ask := newAnswers(t)
	const parameters = `"parameters":{"url":"` + activationURL + `"}`
	for name, body := range map[string]string{
		"nothing else":             `{"entitlementId":"e-1","responseCode":"CLIENT_ACTION_REQUIRED",` + parameters + `}`,
		"a message of a number":    `{"entitlementId":"e-1","responseCode":"OK","responseMessage":5,` + parameters + `}`,
		"a message of an object":   `{"responseMessage":{"a":[null]},"entitlementId":"e-1","responseCode":"OK",` + parameters + `}`,
		"a message not UTF-8":      strings.Replace(granted, "Open", "\xff", 1),
		"a member twice":           strings.Replace(granted, "{", `{"x":1,"x":2,"responseMessage":"",`, 1),
		"what decides, twice":      strings.Replace(granted, "{", `{"entitlementId":"e-1",`, 1),
		"an action of a number":    strings.Replace(granted, `"NAVIGATE_TO_URL"`, `7`, 1),
		"half a surrogate pair":    strings.Replace(granted, "NAVIGATE", `\ud800`, 1),
		"a member twice in":        strings.Replace(granted, `"action"`, `"action":1,"urlExpiry":2,"action"`, 1),
		"parameters twice":         strings.Replace(granted, "{", `{"parameters":"none",`, 1),
		"white space":              " \n" + granted + "\r\n\t ",
		"members of another case":  strings.Replace(granted, "{", `{"ENTITLEMENTID":5,"responsecode":"BAD_REQUEST",`, 1),
		"a large number":           strings.Replace(granted, "{", `{"x":1e999999,`, 1),
		"the link's escape":        strings.Replace(granted, "https://", `https:\/\/`, 1),
		"the names' escape":        strings.Replace(granted, "entitlementId", `entitlement\u0049d`, 1),
		"an id of another script":  strings.Replace(granted, `"NAVIGATE_TO_URL"`, `"鐘"`, 1),
		"a large member elsewhere": strings.Replace(granted, "{", `{"x":"`+strings.Repeat("x", 1_000_000)+`",`, 1),
	} {
		entitlement, err := ask(http.StatusOK, body)
		require.NoError(t, err, name)
		assert.Equal(t, "e-1", entitlement.ID, name)
		assert.Equal(t, activationURL, entitlement.ActivationURL.Reveal(), name)
	}
	for name, parameters := range map[string]string{
		"none": "", "null": `,"parameters":null`, "a text": `,"parameters":"x"`, "a list": `,"parameters":[{"url":"x"}]`,
		"an empty link": `,"parameters":{"url":""}`, "a null link": `,"parameters":{"url":null}`,
	} {
		entitlement, err := ask(http.StatusOK, `{"entitlementId":"e-1","responseCode":"OK"`+parameters+`}`)
		require.NoError(t, err, name)
		assert.Equal(t, "e-1", entitlement.ID, name)
		assert.Empty(t, entitlement.ActivationURL.Reveal(), name)
		_, err = ask(http.StatusOK, `{"entitlementId":"e-1","responseCode":"CLIENT_ACTION_REQUIRED"`+parameters+`}`)
		assert.True(t, fault.Is(err, fault.BadGateway), "%s: %v", name, err)
	}
}

// jsonValue draws any JSON value, also one that encoding/json would not write.
func jsonValue(depth int) *rapid.Generator[string] {
	scalars := []*rapid.Generator[string]{
		rapid.SampledFrom(
			[]string{"null", "true", "false", "0", "-1.5e300", "1e400", `""`, `"\ud800"`, "\"\xff\"", "[]", "{}"},
		),
		rapid.Map(rapid.String(), func(s string) string { text, _ := json.Marshal(s); return string(text) }),
		rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
	}
	if depth == 0 {
		return rapid.OneOf(scalars...)
	}
	inner := jsonValue(depth - 1)
	list := rapid.Map(rapid.SliceOfN(inner, 0, 3),
		func(items []string) string { return "[" + strings.Join(items, ",") + "]" })
	object := rapid.Map(rapid.SliceOfN(inner, 0, 3), func(values []string) string {
		members := make([]string, len(values))
		for i, value := range values {
			members[i] = `"url":` + value // the same name each time
		}
		return "{" + strings.Join(members, ",") + "}"
	})
	return rapid.OneOf(append(scalars, list, object)...)
}

// An answer with the three deciding members right is never a 502, whatever the rest is and wherever it stands.
func TestEntitleTakesEveryAnswerThatDecidesRight(t *testing.T) {
	ask := newAnswers(t)
	rapid.Check(t, func(t *rapid.T) {
		others := func(label string, names ...string) []string {
			var members []string
			for range rapid.IntRange(0, 4).Draw(t, label) {
				name := rapid.SampledFrom(names).Draw(t, "name")
				members = append(members, fmt.Sprintf("%q:%s", name, jsonValue(2).Draw(t, "value")))
			}
			return members
		}
		shuffled := func(members []string) string {
			return "{" + strings.Join(rapid.Permutation(members).Draw(t, "order"), ",") + "}"
		}
		code := rapid.SampledFrom([]string{"OK", "CLIENT_ACTION_REQUIRED"}).Draw(t, "code")
		link := "https://activate.example.com/" + rapid.StringMatching(`[A-Za-z0-9/_.~!$&'()*+,;=:@?-]{0,40}`).
			Draw(t, "path")
		inner := others("in parameters", "action", "urlExpiry", "x", "entitlementId", "responseCode")
		outer := others("members", "responseMessage", "x", "url", "urlExpiry", "status")
		body := shuffled(append(outer, `"entitlementId":"e-1"`, `"responseCode":"`+code+`"`,
			`"parameters":`+shuffled(append(inner, `"url":"`+link+`"`))))
		entitlement, err := ask(rapid.IntRange(200, 203).Draw(t, "status"), body)
		if err != nil || entitlement.ID != "e-1" || entitlement.ActivationURL.Reveal() != link {
			t.Fatalf("%s: %v, %v", body, entitlement, err)
		}
	})
}

// Whatever the provider answers is an entitlement or a fault; if the three deciding members are right it is an
// entitlement.
func FuzzEntitle(f *testing.F) {
	for _, seed := range []string{
		granted, `"2026-11-30T10:00:00+0000"`, `1795948800`, `"\ud800"`, `{"url":1,"url":2}`, `[[]]`, "null", "\"\xff\"",
		`{"entitlementId":"e-1","entitlementId":"e-2"}`, "",
	} {
		f.Add(seed)
	}
	ask := newAnswers(f)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := ask(http.StatusOK, text); err != nil && !errors.As(err, new(*fault.Error)) {
			t.Fatalf("%q: no fault: %v", text, err)
		}
		if !json.Valid([]byte(text)) || len(text) > 5000 {
			return
		}
		for _, member := range []string{`"responseMessage":`, `"x":`, `"parameters":{"urlExpiry":`} {
			if strings.HasPrefix(member, `"parameters"`) {
				text += "}"
			}
			body := "{" + member + text + "," + granted[1:]
			entitlement, err := ask(http.StatusOK, body)
			if err != nil || entitlement.ID != "e-1" {
				t.Fatalf("%s: %v", body, err)
			}
		}
	})
}
