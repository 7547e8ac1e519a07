package ott

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"carillon/shared/ott"
	"carillon/tests/simulation/bubble"
)

// callKind is what a call to a network is.
type callKind string

const (
	callSend  callKind = "send"  // Messenger's
	callPush  callKind = "push"  // LINE's
	callReply callKind = "reply" // LINE's, with a reply token
	callMint  callKind = "mint"  // of LINE's token
)

// sends reports whether a call is to send a message.
func (k callKind) sends() bool { return k != callMint }

// post is a call as a network saw it, and what became of it.
type post struct {
	kind       callKind
	property   *Property
	order      *Order // nil of a call that mints a token
	mintedFor  *Order // of such a call: the message that the process is at
	process    string
	begun      time.Time // when the process began it
	told       time.Time // when that was by the process's own clock
	arrived    time.Time // zero if it never did
	taken      time.Time // when the network took the message by it; zero if it did not
	ended      time.Time // when the process had its answer, or gave up
	mode       mode
	status     int  // 0 if there was no answer
	heard      bool // a process that was alive got the answer
	final      bool // the answer refuses the message for good
	retryAfter time.Duration
	outcome    string
	mid        string // what the network calls the message that it took
}

// unanswered reports whether a call that arrived was not answered to anybody.
func (p *post) unanswered() bool { return !p.arrived.IsZero() && !p.heard }

// networks are Messenger and LINE.
type networks struct {
	world *world

	mu      sync.Mutex
	posts   []*post
	keys    map[string]*post     // LINE's retry keys, with the call that was taken under each
	replies map[string]bool      // LINE's reply tokens that were used
	tokens  map[string]time.Time // LINE's access tokens, and when they are over
}

func newNetworks(w *world) *networks {
	return &networks{
		world: w, keys: map[string]*post{}, replies: map[string]bool{}, tokens: map[string]time.Time{},
	}
}

const (
	// keyTime is how long LINE remembers a retry key, tokenTime how long its tokens live, and replyTime how long after
	// its event a reply token is good.
	keyTime   = 24 * time.Hour
	tokenTime = 15 * time.Minute
	replyTime = time.Minute
	// maxRetryAfter is the longest wait that a network asks for.
	maxRetryAfter = 40 * time.Second
)

// networkTransport is a process's way to Messenger and LINE.
type networkTransport struct {
	world   *world
	process *bubble.Process
}

var (
	errRefused = errors.New("dial tcp: connection refused")
	errBroken  = errors.New("read tcp: connection reset by peer")
)

// RoundTrip makes a call, which the network answers as the property's spell has it.
func (t *networkTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	p, w := t.process, t.world
	n, f := w.networks, &w.Faults
	raw, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	if p.IsDead() {
		return nil, bubble.ErrKilled
	}
	trace := httptrace.ContextClientTrace(request.Context())
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(request.URL.Host)
	}
	c := n.open(p, request, raw)
	if c == nil {
		return nil, fmt.Errorf("there is no %s", request.URL.Redacted())
	}
	d := w.Dice("network", string(c.kind), c.property.ID, c.name())
	before := d.Between(time.Millisecond, 6*time.Millisecond)
	killed, killedWhen, killedAfter := d.Chance(f.Killed), d.Between(0, 10*time.Millisecond), d.Chance(f.Killed)
	if err := bubble.Sleep(request.Context(), before); err != nil {
		return nil, n.close(c, "ended before it arrived", err)
	}
	if killed {
		_ = bubble.Sleep(request.Context(), killedWhen) // it dies either way
		p.Kill("in a call, before it arrived")
		return nil, n.close(c, "killed before it arrived", bubble.ErrKilled)
	}
	if c.modeNow() == modeRefuse {
		c.mode = modeRefuse
		return nil, n.close(c, "refused", errRefused)
	}
	if trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	n.mu.Lock()
	c.arrived, c.mode = time.Now(), c.modeNow()
	n.mu.Unlock()
	response, err := n.answer(request, c, raw, d)
	switch {
	case p.IsDead():
		return nil, n.close(c, "the process died meanwhile", bubble.ErrKilled)
	case err != nil:
		return nil, n.close(c, err.Error(), err)
	}
	if killedAfter {
		p.Kill("after a call")
		return nil, n.close(c, "killed before the answer", bubble.ErrKilled)
	}
	n.mu.Lock()
	c.heard, c.status = true, response.StatusCode
	n.mu.Unlock()
	return response, n.close(c, strconv.Itoa(response.StatusCode), nil)
}

// modeNow is how the network treats the call now.
func (p *post) modeNow() mode {
	if p.order != nil {
		return p.order.Conv.modeAt(time.Now())
	}
	return modeAt(p.property.spells, time.Now())
}

func (p *post) name() string {
	if p.order == nil {
		return ""
	}
	return p.order.key()
}

// open keeps a call that begins. It returns nil for one that no network knows.
func (n *networks) open(p *bubble.Process, request *http.Request, raw []byte) *post {
	c := &post{process: p.ID, begun: time.Now(), told: p.Clock.Now()}
	var body struct {
		Message  struct{ Text string }
		Messages []struct{ Text string }
	}
	_ = json.Unmarshal(raw, &body) // of a token's it is a form
	said := body.Message.Text
	if len(body.Messages) > 0 {
		said = body.Messages[0].Text
	}
	switch {
	case request.URL.Host == "graph.example.com":
		c.kind = callSend
	case strings.HasSuffix(request.URL.Path, "/v3/token"):
		c.kind = callMint
		form, _ := url.ParseQuery(string(raw)) // what is no form has no client
		c.property = n.world.propertyOf(form.Get("client_id"))
		for _, id := range p.Serving() {
			if owner, known := n.world.Owner(id); known {
				c.mintedFor = n.world.scenario.Orders[owner]
			}
		}
	case strings.HasSuffix(request.URL.Path, "/message/push"):
		c.kind = callPush
	case strings.HasSuffix(request.URL.Path, "/message/reply"):
		c.kind = callReply
	}
	if number, err := strconv.Atoi(strings.TrimPrefix(said, "message ")); err == nil && c.kind.sends() {
		c.order = n.world.scenario.Orders[number]
		c.property = c.order.Conv.Property
	}
	if c.property == nil {
		return nil
	}
	n.mu.Lock()
	n.posts = append(n.posts, c)
	n.mu.Unlock()
	return c
}

func (w *world) propertyOf(id string) *Property {
	i := slices.IndexFunc(w.scenario.Properties, func(p *Property) bool { return p.ID == id })
	if i < 0 {
		return nil
	}
	return w.scenario.Properties[i]
}

// close notes how a call ended, and returns err.
func (n *networks) close(c *post, outcome string, err error) error {
	n.mu.Lock()
	c.ended, c.outcome = time.Now(), outcome
	taken := ""
	if !c.taken.IsZero() {
		taken = ", taken at " + bubble.ClockTime(c.taken)
	}
	n.mu.Unlock()
	subject := -1
	if c.order != nil {
		subject = c.order.N
	}
	n.world.SayOf(subject, "%s calls %s to %s of property %d that %s, since %s: %s%s", c.process, c.kind,
		c.property.Platform, c.property.N, c.mode, bubble.ClockTime(c.begun), outcome, taken)
	return err
}

// answer lets the network do what its mode has it do.
func (n *networks) answer(request *http.Request, c *post, raw []byte, d bubble.Dice) (*http.Response, error) {
	ctx := request.Context()
	quick := d.Between(20*time.Millisecond, 200*time.Millisecond)
	takes := d.Chance(0.3) // though it hangs, or fails
	early := d.Chance(0.5) // the effect comes long before the answer
	answer := func() (*http.Response, error) {
		if c.kind == callMint {
			return n.mint(request, d)
		}
		if c.property.Platform == ott.Messenger {
			return n.messenger(request, c), nil
		}
		return n.line(request, c, raw), nil
	}
	switch c.mode {
	case modeHang:
		if takes {
			_, _ = answer() // nobody hears it
		}
		<-ctx.Done()
		return nil, ctx.Err()
	case modeLate, modeSlow:
		wait := d.Between(time.Second, 7*time.Second)
		if c.mode == modeLate {
			wait = d.Between(callTimeout+time.Second, 20*time.Second)
			early = true
		}
		if early {
			response, err := answer()
			if err != nil {
				return nil, err
			}
			return response, bubble.Sleep(ctx, wait)
		}
		if err := bubble.Sleep(ctx, wait); err != nil {
			return nil, err
		}
		return answer()
	}
	if early && c.mode == modeUp {
		response, err := answer()
		if err != nil {
			return nil, err
		}
		return response, bubble.Sleep(ctx, quick)
	}
	if err := bubble.Sleep(ctx, quick); err != nil {
		return nil, err
	}
	switch c.mode {
	case modeFail:
		if takes && c.property.Platform == ott.LINE {
			_, _ = answer() // a retry key is for this
		}
		return n.status(request, bubble.Pick(d, 500, 502, 503, 504), nil, ""), nil
	case modeBusy:
		c.retryAfter = d.Between(0, maxRetryAfter).Round(time.Second)
		header := http.Header{"Retry-After": {strconv.Itoa(int(c.retryAfter / time.Second))}}
		return n.status(request, bubble.Pick(d, 429, 503), header, ""), nil
	case modeMonthly:
		return n.status(request, 429, nil, `{"message":"You have reached your monthly limit."}`), nil
	case modeCut:
		_, _ = answer() // nobody hears it
		return nil, errBroken
	case modeCode, modeToken:
		return n.refuse(request, c, d), nil
	}
	return answer()
}

func (n *networks) status(request *http.Request, code int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	return bubble.NewAnswer(request, code, header, []byte(body))
}

// refuse answers with an error code that goes by, or that the token is none.
func (n *networks) refuse(request *http.Request, c *post, d bubble.Dice) *http.Response {
	code := bubble.Pick(d, 4, 613, 1200)
	if c.order != nil && modeAt(c.property.spells, c.arrived) == modeUp {
		code = 1200 // it is this person's alone
	}
	switch {
	case c.property.Platform == ott.LINE && c.mode == modeCode:
		return n.status(request, 429, nil, `{"message":"The API rate limit has been exceeded. Try again later."}`)
	case c.property.Platform == ott.LINE:
		n.refuseForGood(c)
		if c.kind == callMint {
			return n.status(request, 400, nil, `{"error":"invalid_client","error_description":"invalid client_secret"}`)
		}
		return n.status(request, 401, nil, `{"message":"Authentication failed."}`)
	case c.mode == modeToken:
		n.refuseForGood(c)
		code = 190
	}
	return n.status(
		request,
		400,
		nil,
		fmt.Sprintf(
			`{"error":{"message":"(#%d) as the simulation has it","type":"OAuthException","code":%d}}`,
			code,
			code,
		),
	)
}

func (n *networks) refuseForGood(c *post) {
	n.mu.Lock()
	c.final = true
	n.mu.Unlock()
}

// messenger takes a message, as often as it comes, and tells what it calls it.
func (n *networks) messenger(request *http.Request, c *post) *http.Response {
	c.mid = fmt.Sprintf("m_%d_%d", c.order.N, n.world.Count("mid", c.order.key()))
	n.take(c)
	return n.status(request, 200, nil, fmt.Sprintf(`{"recipient_id":%q,"message_id":%q}`, c.order.Conv.User, c.mid))
}

// take has the effect of a call.
func (n *networks) take(c *post) {
	n.mu.Lock()
	c.taken = time.Now()
	n.mu.Unlock()
	if c.property.Platform == ott.Messenger {
		n.world.tell(c)
	}
}

// mint grants an access token of LINE's.
func (n *networks) mint(request *http.Request, d bubble.Dice) (*http.Response, error) {
	token := "line " + d.UUID()
	n.mu.Lock()
	n.tokens[token] = time.Now().Add(tokenTime)
	n.mu.Unlock()
	return n.status(
		request,
		200,
		nil,
		fmt.Sprintf(
			`{"token_type":"Bearer","access_token":%q,"expires_in":%d}`,
			token,
			int(tokenTime/time.Second),
		),
	), nil
}

// line takes a push, once under each retry key, or a reply, once for each reply token.
func (n *networks) line(request *http.Request, c *post, raw []byte) *http.Response {
	bearer := strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")
	key := request.Header.Get("X-Line-Retry-Key")
	var body struct{ ReplyToken string }
	_ = json.Unmarshal(raw, &body) // a push has none
	now := time.Now()
	n.mu.Lock()
	over, isToken := n.tokens[bearer]
	before := n.keys[key]
	used := n.replies[body.ReplyToken]
	n.mu.Unlock()
	switch {
	case !isToken || now.After(over):
		return n.status(request, 401, nil, `{"message":"Authentication failed."}`)
	case c.kind == callReply && (used || now.After(c.order.SendAt.Add(replyTime))):
		return n.status(request, 400, nil, `{"message":"Invalid reply token"}`)
	case c.kind == callPush && before != nil && now.Sub(before.taken) < keyTime:
		return n.status(request, 409, nil, fmt.Sprintf(
			`{"message":"The retry key is already accepted","sentMessages":[{"id":%q}]}`, before.mid))
	}
	c.mid = strconv.Itoa(1_000_000 + c.order.N*100 + n.world.Count("mid", c.order.key()))
	n.mu.Lock()
	if c.kind == callReply {
		n.replies[body.ReplyToken] = true
	} else {
		n.keys[key] = c
	}
	n.mu.Unlock()
	n.take(c)
	return n.status(request, 200, nil, fmt.Sprintf(`{"sentMessages":[{"id":%q}]}`, c.mid))
}
