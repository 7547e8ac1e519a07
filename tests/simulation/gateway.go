package simulation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"carillon/shared/engage/engagetest"
	"carillon/tests/simulation/bubble"
)

const signingSecret = engagetest.SigningSecret

// maxRetryAfter is the longest wait that the gateway asks for.
const maxRetryAfter = 40 * time.Second

// said is what an answer of the gateway means for a destination, as docs/contract.md §2 reads it.
type said string

const (
	saidNothing   said = "" // or retry, or something odd: to be sent again, alone
	saidDelivered said = "delivered"
	saidRejected  said = "rejected"
	saidFailed    said = "failed" // a status that refuses the whole chunk
)

// post is a POST as the gateway saw it, and what became of it.
type post struct {
	id           string // webhook-id
	requestID    string
	chunk        int
	attempt      int
	order        *Order
	process      string
	begun        time.Time // when the process began to send it
	arrived      time.Time // zero if it never did
	ended        time.Time // when the process had its answer, or gave up; zero while it is under way
	mode         mode
	outcome      string
	body         string          // its hash
	numbers      []string        // the destinations' bNumbers
	answered     bool            // it was answered in a way that says something of the destinations
	heard        bool            // a process that was alive got the answer
	means        map[string]said // of an answered POST, by bNumber
	retryAfter   time.Duration
	notBefore    time.Time // of the body
	signedBadly  string
	blank, is409 bool
}

// meaning is what the answer says of a destination.
func (p *post) meaning(bNumber string) said {
	if !p.answered {
		return saidNothing
	}
	return p.means[bNumber]
}

// gateway is the operator's device gateway.
type gateway struct {
	world *world

	mu    sync.Mutex
	posts []*post
	taken map[string]bool // webhook-ids whose effect it has had
}

// gatewayTransport is a process's way to the gateway.
type gatewayTransport struct {
	world   *world
	process *bubble.Process
}

var (
	errRefused = errors.New("dial tcp: connection refused")
	errBroken  = errors.New("read tcp: connection reset by peer")
)

// RoundTrip sends a POST to the gateway, which answers as the tenant's spell has it.
func (t *gatewayTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	p, w := t.process, t.world
	g, f := w.gateway, &w.Faults
	raw, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	if p.IsDead() {
		return nil, bubble.ErrKilled
	}
	received := g.open(p, request, raw)
	if received.order == nil {
		return bubble.NewAnswer(request, http.StatusUnauthorized, http.Header{}, nil), nil
	}
	d := w.Dice("gateway", received.id)
	before := d.Between(time.Millisecond, 6*time.Millisecond)
	killed, killedWhen := d.Chance(f.Killed), d.Between(0, 10*time.Millisecond)
	if err := bubble.Sleep(request.Context(), before); err != nil {
		return nil, g.close(received, "ended before it arrived", err)
	}
	if killed {
		_ = bubble.Sleep(request.Context(), killedWhen) // it dies either way
		p.Kill("in a POST, before it arrived")
		return nil, g.close(received, "killed before it arrived", bubble.ErrKilled)
	}
	received.arrived = time.Now()
	received.mode = received.order.Tenant.modeAt(received.arrived)
	response, err := g.answer(request, received, d)
	switch {
	case p.IsDead():
		return nil, g.close(received, "the process died meanwhile", bubble.ErrKilled)
	case err != nil:
		return nil, g.close(received, err.Error(), err)
	}
	if d.Chance(f.Killed) {
		p.Kill("after a POST")
		return nil, g.close(received, "killed before the answer", bubble.ErrKilled)
	}
	g.mu.Lock()
	received.heard = true
	g.mu.Unlock()
	_ = g.close(received, strconv.Itoa(response.StatusCode), nil)
	return response, nil
}

// open keeps a POST that begins.
func (g *gateway) open(p *bubble.Process, request *http.Request, raw []byte) *post {
	received := &post{id: request.Header.Get(standardwebhooks.HeaderWebhookID), process: p.ID, begun: time.Now()}
	verifier, err := standardwebhooks.NewWebhook(signingSecret)
	if err == nil {
		err = verifier.VerifyIgnoringTimestamp(raw, request.Header)
	}
	var body engagetest.Body
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err != nil {
		received.signedBadly = err.Error()
	}
	sum := sha256.Sum256(raw)
	received.body = hex.EncodeToString(sum[:8])
	received.requestID, received.chunk = body.RequestID, body.Chunk
	for _, destination := range body.Destinations {
		received.numbers = append(received.numbers, destination.BNumber)
	}
	received.notBefore, _ = time.Parse(time.RFC3339, body.NotBefore) // zero is too early for every invariant
	if parts := strings.Split(received.id, "."); len(parts) == 3 {
		received.attempt, _ = strconv.Atoi(parts[2])
	}
	g.world.mu.Lock()
	received.order = g.world.owners[body.RequestID]
	g.world.mu.Unlock()
	g.mu.Lock()
	g.posts = append(g.posts, received)
	g.mu.Unlock()
	return received
}

// close notes how a POST ended, and returns err.
func (g *gateway) close(p *post, outcome string, err error) error {
	g.mu.Lock()
	p.ended, p.outcome = time.Now(), outcome
	g.mu.Unlock()
	g.world.Say(p.requestID, "%s POSTs %s of %d to the gateway that %s, since %s: %s",
		p.process, p.id, len(p.numbers), p.mode, bubble.ClockTime(p.begun), outcome)
	return err
}

// answer lets the gateway do what its mode has it do.
func (g *gateway) answer(request *http.Request, p *post, d bubble.Dice) (*http.Response, error) {
	ctx := request.Context()
	quick := d.Between(5*time.Millisecond, 50*time.Millisecond)
	switch p.mode {
	case modeHang:
		<-ctx.Done()
		return nil, ctx.Err()
	case modeRefuse:
		if err := bubble.Sleep(ctx, quick/10); err != nil {
			return nil, err
		}
		return nil, errRefused
	case modeSlow:
		quick = d.Between(time.Second, 14*time.Second)
	}
	g.mu.Lock()
	repeated := g.taken[p.id]
	g.mu.Unlock()
	if d.Chance(0.5) { // the effect comes before the answer, or with it
		g.take(p)
	}
	if err := bubble.Sleep(ctx, quick); err != nil {
		return nil, err
	}
	switch p.mode {
	case modeFail:
		return g.status(request, bubble.Pick(d, 500, 502, 503, 504, 408, 425), nil), nil
	case modeBusy:
		p.retryAfter = d.Between(0, maxRetryAfter).Round(time.Second)
		header := http.Header{"Retry-After": {strconv.Itoa(int(p.retryAfter / time.Second))}}
		if d.Chance(0.5) {
			header.Set("Retry-After", time.Now().Add(p.retryAfter).UTC().Format(http.TimeFormat))
			p.retryAfter -= time.Second // the date has no fractions
		}
		return g.status(request, bubble.Pick(d, 429, 503), header), nil
	}
	if repeated && p.order.Tenant.KeepsIDs {
		g.take(p)
		g.mean(p, func(string) said { return saidDelivered })
		p.is409 = true
		return g.status(request, http.StatusConflict, nil), nil
	}
	g.take(p)
	switch p.mode {
	case modeLose:
		return nil, errBroken
	case modeLie:
		return g.lie(request, p, d)
	}
	return g.results(request, p, d)
}

// take has the effect of a POST: from then on the gateway knows its webhook-id.
func (g *gateway) take(p *post) {
	if p.mode != modeFail && p.mode != modeBusy {
		g.mu.Lock()
		g.taken[p.id] = true
		g.mu.Unlock()
	}
}

func (g *gateway) mean(p *post, of func(bNumber string) said) {
	means := make(map[string]said, len(p.numbers))
	for _, number := range p.numbers {
		means[number] = of(number)
	}
	g.mu.Lock()
	p.answered, p.means = true, means
	g.mu.Unlock()
}

func (g *gateway) status(request *http.Request, status int, header http.Header) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return bubble.NewAnswer(request, status, header, nil)
}

// results answers as a gateway should.
func (g *gateway) results(request *http.Request, p *post, d bubble.Dice) (*http.Response, error) {
	if d.Chance(0.1) {
		g.mean(p, func(string) said { return saidDelivered })
		p.blank = true
		return g.status(request, bubble.Pick(d, 200, 202, 204), nil), nil
	}
	if p.mode == modeRetry && d.Chance(0.05) {
		g.mean(p, func(string) said { return saidFailed })
		return g.status(request, bubble.Pick(d, 400, 404, 413, 422), nil), nil
	}
	items := make([]string, 0, len(p.numbers))
	means := map[string]said{}
	for _, number := range p.numbers {
		status := saidDelivered
		switch {
		case p.mode == modeRetry && d.Chance(0.5):
			status = "retry"
		case d.Chance(0.05):
			status = saidRejected
		}
		items = append(items, fmt.Sprintf(`{"bNumber":%q,"status":%q,"reason":"because"}`, number, status))
		if status != "retry" {
			means[number] = status
		}
	}
	g.mean(p, func(number string) said { return means[number] })
	return g.ok(request, `{"results":[`+strings.Join(items, ",")+`]}`), nil
}

func (g *gateway) ok(request *http.Request, body string) *http.Response {
	return bubble.NewAnswer(request, http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(body))
}

// lie answers 200 and something that the contract says how to take.
func (g *gateway) lie(request *http.Request, p *post, d bubble.Dice) (*http.Response, error) {
	switch d.IntN(10) {
	case 0: // not that JSON: as a 5xx
		return g.ok(request, bubble.Pick(d, `{"results":null}`, `{"results":[`, `null`, `"ok"`, `<html>`, `{}`)), nil
	case 1: // blank: all delivered
		p.blank = true
		g.mean(p, func(string) said { return saidDelivered })
		return g.ok(request, bubble.Pick(d, " ", "\r\n", "\t\n ")), nil
	}
	var items []string
	means := map[string]said{}
	for i, number := range p.numbers {
		item := func(bNumber, status string) string {
			return fmt.Sprintf(`{"bNumber":%q,"status":%q}`, bNumber, status)
		}
		switch d.IntN(14) {
		case 0: // no result
		case 1:
			items = append(items, item(number, bubble.Pick(d, "done", "", "DELIVERED ", "pending")))
		case 2:
			status := bubble.Pick(d, "5", "null", "{}", "[true]")
			items = append(items, fmt.Sprintf(`{"bNumber":%q,"status":%s}`, number, status))
		case 3:
			items = append(items, fmt.Sprintf(`{"bNumber":%q}`, number), `"odd"`, `null`)
		case 4: // twice: the better one stands
			items = append(items, item(number, "delivered"), item(number, "rejected"))
			means[number] = saidDelivered
		case 5:
			items = append(items, item(number, "retry"), item(number, "rejected"))
			means[number] = saidRejected
		case 6: // another way to write the number
			items = append(
				items,
				item(bubble.Pick(d, "tel:"+number, "00"+number[1:], number[:2]+" "+number[2:5]+"-"+number[5:],
					"%2B"+number[1:]), "delivered"),
			)
			means[number] = saidDelivered
		case 7: // a foreign one beside it
			items = append(items, item(fmt.Sprintf("+4930%07d", i), "delivered"), item(number, "rejected"))
			means[number] = saidRejected
		default:
			items = append(items, item(number, "delivered"))
			means[number] = saidDelivered
		}
	}
	g.mean(p, func(number string) said { return means[number] })
	body := `{"results":[` + strings.Join(items, ",") + `]}`
	if d.Chance(0.2) {
		body = "\ufeff" + body
	}
	return g.ok(request, body), nil
}
