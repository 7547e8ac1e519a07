package local

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// call is one of the API as an event of events/ has it: {{name}} stands for what another call answers.
type call struct {
	function string // the name of its folder and its event
	api      string // ott, engage, product
	event    requestEvent
	needs    []string // names of what other calls answer
}

// requestEvent is what a request of API Gateway's is made of.
type requestEvent struct {
	RouteKey, RawPath, RawQueryString, Body string
	Headers                                 map[string]string
	RequestContext                          struct{ HTTP struct{ Method string } }
}

// answer is a member of an answer, and the name that events have for it.
type answer struct{ member, name string }

// answers are what the events of other functions need of a function's answer.
var answers = map[string]answer{
	"oauth-token":    {"access_token", "ott.token"},
	"ott-send":       {"ottRequestId", "ott.requestId"},
	"engage-token":   {"accessToken", "engage.token"},
	"engage-batch":   {"requestId", "engage.requestId"},
	"product-create": {"id", "product.id"},
}

// titles are what the APIs are called.
var titles = map[string]string{"ott": "OTT", "engage": "ENGAGE", "product": "DXP product"}

// ranks order an API's calls: what makes things, what reads them, what takes them away.
var ranks = map[string]int{"POST": 0, "GET": 1, "DELETE": 2}

// Examples is a bash script that calls every endpoint with the demo clients and with what events/ has for it. Its lines
// work when they are pasted in order. It returns an error if an event is missing or broken.
func (b *Bundle) Examples() (string, error) {
	calls, err := b.calls()
	if err != nil {
		return "", err
	}
	var s strings.Builder
	for api, group := range grouped(calls) {
		_, _ = fmt.Fprintf(&s, "# %s\n", cmp.Or(titles[api], api))
		for _, c := range group {
			_, _ = fmt.Fprintf(&s, "# %s: %s\n", c.function, c.event.RouteKey)
			s.WriteString(b.lines(c))
		}
		s.WriteByte('\n')
	}
	_, _ = fmt.Fprintf(&s, "# What the partners' stand-ins received, the mails among it: %s/_local/\n", b.BaseURL)
	return s.String(), nil
}

// calls reads the events of every function that has a route, the template's order kept.
func (b *Bundle) calls() ([]call, error) {
	values, err := b.Demo.Values()
	if err != nil {
		return nil, err
	}
	var calls []call
	for _, f := range b.declared {
		if len(f.Routes) == 0 {
			continue
		}
		c := call{function: label(f.LogicalID)}
		e, open, err := fill(filepath.Join(b.options.Root, "events", c.function+".json"), values)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(e.filled, &c.event); err != nil {
			return nil, fmt.Errorf("the event of %s: %w", c.function, err)
		}
		c.needs = open
		for _, name := range open {
			if !slices.ContainsFunc(
				slices.Collect(maps.Values(answers)),
				func(a answer) bool { return a.name == name },
			) {
				return nil, fmt.Errorf(
					"events/%s.json has {{%s}}, which neither the demo nor an answer is known to have",
					c.function,
					name,
				)
			}
		}
		c.api, _, _ = strings.Cut(c.function, "-")
		if len(e.names) > 0 {
			c.api, _, _ = strings.Cut(e.names[0], ".")
		}
		calls = append(calls, c)
	}
	slices.SortStableFunc(calls, func(a, b call) int {
		return ranks[a.event.RequestContext.HTTP.Method] - ranks[b.event.RequestContext.HTTP.Method]
	})
	return calls, nil
}

// grouped yields the calls of each API, in an order in which each has what it needs of those before.
func grouped(calls []call) func(yield func(api string, group []call) bool) {
	return func(yield func(string, []call) bool) {
		for len(calls) > 0 {
			api, known := calls[0].api, map[string]bool{}
			var group []call
			for {
				next := slices.IndexFunc(calls, func(c call) bool {
					return c.api == api && !slices.ContainsFunc(c.needs, func(name string) bool { return !known[name] })
				})
				if next < 0 {
					break
				}
				group = append(group, calls[next])
				known[answers[calls[next].function].name] = true
				calls = slices.Delete(calls, next, next+1)
			}
			if len(group) == 0 || !yield(api, group) {
				return
			}
		}
	}
}

// notSent are the headers of an event that a proxy on the way has added, or that curl sends by itself.
var notSent = regexp.MustCompile(`^(accept|host|user-agent|x-amzn-trace-id|x-forwarded-.*)$`)

// lines are those of one call.
func (b *Bundle) lines(c call) string {
	answer, answered := answers[c.function]
	curl := b.curl(c)
	keep := shellName(
		answer.name,
	) + `=$(%s | grep -o '"` + answer.member + `":"[^"]*"' | head -n 1 | cut -d '"' -f 4)` + "\n"
	switch {
	case c.function == "engage-batch": // once to leave now, and once to be looked at
		c.event.Body = notBefore.ReplaceAllString(
			c.event.Body,
			`"notBefore": "`+time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339)+`"`,
		)
		return curl + "\n" + fmt.Sprintf(keep, b.curl(c)+" | tee /dev/stderr")
	case answered && strings.HasSuffix(answer.name, ".token"):
		return fmt.Sprintf(keep, curl)
	case answered:
		return fmt.Sprintf(keep, curl+" | tee /dev/stderr")
	case c.event.RequestContext.HTTP.Method == http.MethodDelete && !strings.Contains(c.event.RawPath, "{{"):
		return "# To take away what the lines above go on with: " + curl + "\n"
	}
	return curl + "\n"
}

var notBefore = regexp.MustCompile(`"notBefore": "[^"]*"`)

func (b *Bundle) curl(c call) string {
	url := b.BaseURL + c.event.RawPath
	if c.event.RawQueryString != "" {
		url += "?" + c.event.RawQueryString
	}
	line := `curl -sS -i -w '\n' ` + shellWord(url)
	if method := c.event.RequestContext.HTTP.Method; method != "GET" && (method != "POST" || c.event.Body == "") {
		line += " -X " + method
	}
	for _, name := range slices.Sorted(maps.Keys(c.event.Headers)) {
		if !notSent.MatchString(name) {
			line += " -H " + shellWord(name+": "+c.event.Headers[name])
		}
	}
	if c.event.Body != "" {
		line += " -d " + shellWord(c.event.Body)
	}
	return line
}

// shellName is a shell variable for a name that events have: OTT_TOKEN for ott.token.
func shellName(name string) string { return strings.ToUpper(strings.ReplaceAll(name, ".", "_")) }

// shellWord quotes a text, in which {{name}} is the value of a shell variable.
func shellWord(text string) string {
	var s strings.Builder
	at := 0
	for _, mark := range placeholder.FindAllStringIndex(text, -1) {
		s.WriteString(quoted(text[at:mark[0]]) + `"$` + shellName(text[mark[0]+2:mark[1]-2]) + `"`)
		at = mark[1]
	}
	s.WriteString(quoted(text[at:]))
	return s.String()
}

// quoted is a text in single quotes, nothing if there is none.
func quoted(text string) string {
	if text == "" {
		return ""
	}
	return `'` + strings.ReplaceAll(text, `'`, `'\''`) + `'`
}
