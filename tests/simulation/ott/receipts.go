package ott

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"carillon/shared/ott"
	"carillon/tests/simulation/bubble"
)

// telling is a callback of Messenger's with one or more events of a conversation.
type telling struct {
	id       string
	conv     *Conversation
	receipts []receipt
	events   []string  // each as it is in the body
	kept     time.Time // when it was answered with 200, the first time; zero if it never was
	called   time.Time // when the call was made that was answered so
}

// receipt is what a telling says of messages.
type receipt struct {
	read      bool
	watermark time.Time
	mids      []string
}

// tell has Messenger tell what becomes of a message that it took by a call: that it was delivered, and read, in one of
// the ways that it has. It tells late, out of order and twice, and before the answer to the call is there.
func (w *world) tell(c *post) {
	d := w.Dice("receipts", c.mid)
	delivered, read := d.Chance(0.7), d.Chance(0.4)
	soon := bubble.Pick(d, d.Between(0, 10*time.Millisecond), d.Between(0, time.Second), d.Between(0, 2*time.Minute))
	later := d.Between(0, 3*time.Minute)
	taken := c.taken.Truncate(time.Millisecond)
	withMids, withWatermark := d.Chance(0.7), d.Chance(0.8)
	if delivered {
		r := receipt{}
		if withMids || !withWatermark {
			r.mids = []string{c.mid}
		}
		if withWatermark {
			r.watermark = taken.Add(time.Millisecond)
		}
		w.schedule(c, d, "delivered", soon, r)
	}
	if read {
		w.schedule(c, d, "read", soon+later, receipt{read: true, watermark: taken.Add(soon + time.Millisecond)})
	}
	if d.Chance(0.2) {
		w.schedule(c, d, "answered", soon+later+d.Between(0, time.Second))
	}
}

// schedule has Messenger send a callback after a while, and perhaps again later.
func (w *world) schedule(c *post, d bubble.Dice, what string, after time.Duration, receipts ...receipt) {
	t := &telling{id: c.mid + " " + what, conv: c.order.Conv, receipts: receipts}
	user, page := t.conv.User, t.conv.Property.ID
	for _, r := range receipts {
		var members []string
		if len(r.mids) > 0 {
			members = append(members, fmt.Sprintf(`"mids":["%s"]`, strings.Join(r.mids, `","`)))
		}
		name := "delivery"
		if r.read {
			name = "read"
		}
		if !r.watermark.IsZero() {
			members = append(members, fmt.Sprintf(`"watermark":%d`, r.watermark.UnixMilli()))
		}
		t.events = append(t.events, fmt.Sprintf(`{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":%d,%q:{%s}}`,
			user, page, time.Now().Add(after).UnixMilli(), name, strings.Join(members, ",")))
	}
	for i := range d.UpTo(min(1, 1-len(receipts)), 2) { // what the person says
		t.events = append(t.events, fmt.Sprintf(`{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":%d,`+
			`"message":{"mid":"m_in_%s_%d","text":"hello"}}`, user, page, time.Now().Add(after).UnixMilli(),
			strings.ReplaceAll(t.id, " ", "_"), i))
	}
	w.mu.Lock()
	w.told = append(w.told, t)
	w.mu.Unlock()
	times := []time.Duration{after}
	if d.Chance(0.2) {
		times = append(times, after+d.Between(0, time.Minute))
	}
	for _, at := range times {
		w.telling.Add(1)
		w.Go(func() {
			defer w.telling.Add(-1)
			w.callback(c.order, t, at)
		})
	}
}

// callback sends a callback, again and again until it is answered with 200.
func (w *world) callback(o *Order, t *telling, after time.Duration) {
	if bubble.Sleep(w.Ctx, after) != nil {
		return
	}
	page := t.conv.Property
	body := fmt.Sprintf(`{"object":"page","entry":[{"id":%q,"time":%d,"messaging":[%s]}]}`,
		page.ID, time.Now().UnixMilli(), strings.Join(t.events, ","))
	mac := hmac.New(sha256.New, []byte(page.applicationSecret()))
	_, _ = mac.Write([]byte(body)) // a hash never fails
	event := events.APIGatewayV2HTTPRequest{
		RouteKey: "POST /ott/v1/callback/{platform}/{ottPropertyId}", Body: body,
		Headers: map[string]string{
			"content-type": "application/json", "x-hub-signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil)),
		},
		PathParameters: map[string]string{"platform": string(ott.Messenger), "ottPropertyId": page.ID},
	}
	event.RequestContext.HTTP.Method = http.MethodPost
	for try := 0; try < 30; try++ {
		d := w.Dice("callback", t.id)
		called := time.Now()
		code, answer, err := w.call(kindCallback, d.UUID(), "", event)
		w.SayOf(o.N, "Messenger tells %s: %d %s %v: %s", t.id, code, answer, err, strings.Join(t.events, ","))
		if code == http.StatusOK {
			w.mu.Lock()
			if t.kept.IsZero() {
				t.kept, t.called = time.Now(), called
			}
			w.mu.Unlock()
			return
		}
		if code != 0 && code < http.StatusInternalServerError {
			w.clients[o.N].problem(w, "Messenger's %s was answered %d %s", t.id, code, answer)
			return
		}
		if bubble.Sleep(w.Ctx, d.Between(time.Second, 10*time.Second)) != nil {
			return
		}
	}
}
