package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"carillon/shared/clientauth"
	"carillon/shared/engage"
	"carillon/shared/engage/api"
	"carillon/tests/simulation/bubble"
)

// programUUID is the program of every push.
const programUUID = "6f1c3e3a-7f0b-4a0e-9a53-7a86b83d2d11"

// content is what the Content Portal holds: the program, and numbers that are everybody's.
type content struct{}

// Program returns the program.
func (content) Program(_ context.Context, _, uuid string) (engage.Program, error) {
	return engage.Program{UUID: uuid, Name: "Spring", Content: []byte(`{"headline":"Hi"}`)}, nil
}

// Group returns the numbers of every group.
func (content) Group(context.Context, string, string) ([]string, error) {
	return []string{"+15014008029"}, nil
}

// OwnsANumbers says yes.
func (content) OwnsANumbers(context.Context, string, []string) (bool, error) { return true, nil }

// clientLog is what a client did and heard, of one order.
type clientLog struct {
	order      *Order
	requestIDs []string // one for each time that it sent the push; the bundle chose among them
	requestID  string   // as answered by the 200; "" if there was none
	sentAt     time.Time
	acceptedAt time.Time // when it had the 200
	cancels    []answered[api.Summary]
	statuses   []answered[api.Status]
	problems   []string // answers that no client should see
}

// answered is a request and its answer. It is not kept if the client had none.
type answered[T any] struct {
	sent, at time.Time
	status   int
	body     T
}

// client does all that the client of an order does.
func (w *world) client(log *clientLog) {
	o := log.order
	if bubble.Sleep(w.Ctx, time.Until(o.SendAt)) != nil {
		return
	}
	w.push(log)
	if log.requestID == "" {
		return
	}
	for i, at := range o.CancelAt {
		w.Go(func() { w.cancelPush(log, i, at) })
	}
	for i, at := range o.StatusAt {
		w.Go(func() { w.readStatus(log, i, at) })
	}
}

// push sends the push, again and again under the same key if it has one, until it is accepted.
func (w *world) push(log *clientLog) {
	o := log.order
	body := o.body()
	log.sentAt = time.Now()
	for try := 0; ; try++ {
		d := w.Dice("client", strconv.Itoa(o.N), "push")
		id := d.UUID()
		w.own(id, o)
		log.requestIDs = append(log.requestIDs, id)
		w.SayOf(o.N, "the client sends it, as %s", id)
		event := w.request(o, http.MethodPost, "")
		event.Body = body
		event.RawQueryString = "programContentUuid=" + programUUID
		if o.Key != "" {
			event.Headers["idempotency-key"] = o.Key
		}
		status, answer, err := w.call(kindBatch, id, id, event)
		w.SayOf(o.N, "its answer: %d %s %v", status, answer, err)
		if status == http.StatusOK {
			var accepted struct {
				RequestID string `json:"requestId"`
			}
			if err := json.Unmarshal([]byte(answer), &accepted); err != nil || accepted.RequestID == "" {
				log.problem(w, "a 200 without a requestId: %s", answer)
				return
			}
			w.mu.Lock()
			log.requestID, log.acceptedAt = accepted.RequestID, time.Now()
			w.mu.Unlock()
			return
		}
		if status != 0 && status < http.StatusInternalServerError {
			log.problem(w, "the push was answered %d %s", status, answer)
			return
		}
		if o.Key == "" || try == 30 || bubble.Sleep(w.Ctx, d.Between(200*time.Millisecond, 3*time.Second)) != nil {
			return
		}
	}
}

func (o *Order) body() string {
	var b strings.Builder
	b.WriteString(`{"aNumbers":["+15014008029"],"destinations":[`)
	for i := range o.Size {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"bNumber":%q,"customTrackingId":"%d/%d"}`, o.bNumber(i), o.N, i)
	}
	fmt.Fprintf(&b, `],"ttlSeconds":%d`, int(o.TTL/time.Second))
	if !o.NotBefore.IsZero() {
		fmt.Fprintf(&b, `,"notBefore":%q`, o.NotBefore.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	b.WriteByte('}')
	return b.String()
}

// cancelPush cancels the push, again and again until it is answered.
func (w *world) cancelPush(log *clientLog, n int, at time.Time) {
	if bubble.Sleep(w.Ctx, time.Until(at)) != nil {
		return
	}
	for try := 0; ; try++ {
		sent := time.Now()
		d := w.Dice("client", strconv.Itoa(log.order.N), "cancel", strconv.Itoa(n))
		event := w.request(log.order, http.MethodDelete, log.requestID)
		status, answer, err := w.call(kindCancel, d.UUID(), log.requestID, event)
		w.SayOf(log.order.N, "DELETE since %s: %d %s %v", bubble.ClockTime(sent), status, answer, err)
		if status != 0 && status < http.StatusInternalServerError {
			a := answered[api.Summary]{sent: sent, at: time.Now(), status: status}
			if err := json.Unmarshal([]byte(answer), &a.body); err != nil && status == http.StatusOK {
				log.problem(w, "DELETE was answered %d %s", status, answer)
			}
			w.mu.Lock()
			log.cancels = append(log.cancels, a)
			w.mu.Unlock()
			return
		}
		if try == 20 || bubble.Sleep(w.Ctx, d.Between(100*time.Millisecond, time.Second)) != nil {
			return
		}
	}
}

// readStatus reads the push's status, all pages of it.
func (w *world) readStatus(log *clientLog, n int, at time.Time) {
	if bubble.Sleep(w.Ctx, time.Until(at)) != nil {
		return
	}
	sent := time.Now()
	event := w.request(log.order, http.MethodGet, log.requestID)
	event.RawQueryString = "limit=1000"
	id := w.Dice("client", strconv.Itoa(log.order.N), "status", strconv.Itoa(n)).UUID()
	status, answer, err := w.call(kindStatus, id, log.requestID, event)
	if status == 0 || status >= http.StatusInternalServerError {
		w.SayOf(log.order.N, "GET since %s: %d %s %v", bubble.ClockTime(sent), status, answer, err)
		return
	}
	a := answered[api.Status]{sent: sent, at: time.Now(), status: status}
	if err := json.Unmarshal([]byte(answer), &a.body); err != nil || status != http.StatusOK {
		log.problem(w, "GET was answered %d %s", status, answer)
		return
	}
	w.SayOf(log.order.N, "GET since %s: %s %+v", bubble.ClockTime(sent), a.body.State, a.body.Counts)
	w.mu.Lock()
	log.statuses = append(log.statuses, a)
	w.mu.Unlock()
}

func (l *clientLog) problem(w *world, format string, args ...any) {
	w.SayOf(l.order.N, format, args...)
	w.mu.Lock()
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
	w.mu.Unlock()
}

// request is an event of API Gateway, with a token of the tenant's.
func (w *world) request(o *Order, method, requestID string) events.APIGatewayV2HTTPRequest {
	grant := clientauth.Client{ID: o.Tenant.Client, Tenant: o.Tenant.Name, Scopes: []string{engage.ScopeInform}}
	bearer, err := tokens.Issue(w.Ctx, grant, grant.Scopes)
	if err != nil {
		panic(err)
	}
	event := events.APIGatewayV2HTTPRequest{
		RouteKey:       method + " /federated/outbound/v2/batch",
		Headers:        map[string]string{"authorization": "Bearer " + bearer, "content-type": "application/json"},
		PathParameters: map[string]string{"requestId": requestID},
	}
	event.RequestContext.HTTP.Method = method
	return event
}

// call has a function answer a request. The status is 0 if its process died.
func (w *world) call(k kind, lambdaID, requestID string, event events.APIGatewayV2HTTPRequest) (int, string, error) {
	var response events.APIGatewayV2HTTPResponse
	err := w.Invoke(k, lambdaID, []string{requestID}, func(ctx context.Context, p *bubble.Process) {
		response, _ = serves(p).http(ctx, event) // Adapt's handlers return no error
	})
	if err != nil {
		return 0, "", err
	}
	return response.StatusCode, response.Body, nil
}
