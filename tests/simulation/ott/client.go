package ott

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"carillon/shared/clientauth"
	"carillon/shared/ott"
	"carillon/shared/ott/api"
	"carillon/shared/token"
	"carillon/tests/simulation/bubble"
)

// clientLog is what a client did and heard, of one order.
type clientLog struct {
	order      *Order
	lambdaIDs  []string // of its requests
	id         string   // the ottRequestId as answered by the first 201; "" if there was none
	sentAt     time.Time
	acceptedAt time.Time // when it had the 201
	statuses   []status
	final      *status  // when all was over
	problems   []string // answers that no client should see
}

// status is an answer to GET /ott/v1/send/{messageId}.
type status struct {
	sent, at time.Time
	events   []statusEvent
	ids      []string // platformMessageIds
}

type statusEvent struct {
	Event         string
	EventDateTime time.Time
	Reason        string
}

// find returns the event of a name, if there is one.
func (s *status) find(name string) (statusEvent, bool) {
	i := slices.IndexFunc(s.events, func(e statusEvent) bool { return e.Event == name })
	if i < 0 {
		return statusEvent{}, false
	}
	return s.events[i], true
}

func (s *status) has(name string) bool {
	_, found := s.find(name)
	return found
}

// names is the names of the events.
func (s *status) names() string {
	text := ""
	for _, e := range s.events {
		text += e.Event + " "
	}
	return text
}

// text is the names of the events, with their reasons.
func (s *status) text() string {
	text := ""
	for _, e := range s.events {
		text += e.Event + " "
		if e.Reason != "" {
			text += fmt.Sprintf("(%s) ", e.Reason)
		}
	}
	return text
}

// register registers a property, again and again until that is answered with 201.
func (w *world) register(p *Property, n int) {
	for try := 0; ; try++ {
		d := w.Dice("register", p.ID, fmt.Sprint(n))
		event := w.request(p.Tenant, ott.ScopeRegistrationWrite, http.MethodPost, "registration")
		event.Body = p.registration(n)
		code, answer, err := w.call(kindRegister, d.UUID(), "", event)
		w.Say("", "property %d, registering %d: %d %s %v", p.N, n, code, answer, err)
		if code == http.StatusCreated {
			return
		}
		if code != 0 && code < http.StatusInternalServerError {
			panic(fmt.Sprintf("a registration was answered %d %s", code, answer))
		}
		if bubble.Sleep(w.Ctx, d.Between(100*time.Millisecond, time.Second)) != nil {
			return
		}
	}
}

// registration is the body of a property's registering.
func (p *Property) registration(n int) string {
	if p.Platform == ott.Messenger {
		return fmt.Sprintf(`{"ottPlatformName":"messenger","ottPlatformAttributes":{"applicationId":"1",`+
			`"applicationSecret":%q,"pageId":%q,"pageName":"Page","pageAccessToken":%q,`+
			`"endpointUrl":"https://graph.example.com/%s/messages","callbackVerifyToken":"verify","isActive":true}}`,
			p.applicationSecret(), p.ID, p.accessToken(n), p.ID)
	}
	return fmt.Sprintf(`{"ottPlatformName":"line","ottPlatformAttributes":{"channelId":%q,"channelName":"Channel",`+
		`"channelSecret":%q,"endpointUrl":"https://line.example.com/%s","isTransactional":true,`+
		`"isTestChannel":false,"isActive":true}}`, p.ID, p.applicationSecret(), p.ID)
}

func (p *Property) applicationSecret() string { return "a secret of property " + p.ID }

func (p *Property) accessToken(n int) string { return fmt.Sprintf("token %d of page %s", n, p.ID) }

// property registers a property, and again when it is time to.
func (w *world) property(p *Property) {
	// No two things happen at the same time, for else the seed would not say which comes first.
	if bubble.Sleep(w.Ctx, w.Dice("begin", p.ID).Between(0, 200*time.Millisecond)) != nil {
		return
	}
	w.register(p, 0)
	p.registeredAt = append(p.registeredAt, time.Now())
	close(p.registered)
	for i, at := range p.Again {
		if bubble.Sleep(w.Ctx, time.Until(at)) != nil {
			return
		}
		w.register(p, i+1)
		p.registeredAt = append(p.registeredAt, time.Now())
	}
}

// conversation sends the messages of a conversation, each after the 201 of the one before.
func (w *world) conversation(c *Conversation) {
	select {
	case <-c.Property.registered:
	case <-w.Ctx.Done():
		return
	}
	if bubble.Sleep(w.Ctx, w.Dice("begin", c.User).Between(0, 200*time.Millisecond)) != nil {
		return
	}
	for _, o := range c.Orders {
		log := w.clients[o.N]
		if bubble.Sleep(w.Ctx, time.Until(o.SendAt)) != nil {
			return
		}
		log.sentAt = time.Now()
		id := w.send(log, "send")
		if id == "" {
			continue
		}
		w.mu.Lock()
		log.id, log.acceptedAt = id, time.Now()
		w.mu.Unlock()
		for i, after := range o.StatusAt {
			w.Go(func() {
				if bubble.Sleep(w.Ctx, after) == nil {
					w.readStatus(log, i)
				}
			})
		}
		if o.RepeatAt > 0 {
			w.Go(func() {
				if bubble.Sleep(w.Ctx, o.RepeatAt) != nil {
					return
				}
				if again := w.send(log, "repeat"); again != "" && again != id {
					log.problem(w, "the repeat was answered with another ottRequestId, %s", again)
				}
			})
		}
	}
}

// send sends a message, again and again under its key until it is accepted, and returns its ottRequestId.
func (w *world) send(log *clientLog, what string) (id string) {
	o := log.order
	for try := 0; ; try++ {
		d := w.Dice("client", fmt.Sprint(o.N), what)
		lambdaID := d.UUID()
		w.Own(lambdaID, o.N)
		w.mu.Lock()
		log.lambdaIDs = append(log.lambdaIDs, lambdaID)
		w.mu.Unlock()
		event := w.request(o.Conv.Property.Tenant, ott.ScopeSend, http.MethodPost, "send")
		event.Body = o.body()
		sent := time.Now()
		code, answer, err := w.call(kindSend, lambdaID, lambdaID, event)
		w.SayOf(o.N, "the client's %s since %s: %d %s %v", what, bubble.ClockTime(sent), code, answer, err)
		switch {
		case code == http.StatusCreated:
			var accepted struct{ OttRequestID string }
			if err := json.Unmarshal([]byte(answer), &accepted); err != nil || accepted.OttRequestID == "" {
				log.problem(w, "a 201 without an ottRequestId: %s", answer)
				return ""
			}
			w.Own(accepted.OttRequestID, o.N)
			return accepted.OttRequestID
		case code != 0 && code < http.StatusInternalServerError:
			log.problem(w, "the message was answered %d %s", code, answer)
			return ""
		case try == 30 || bubble.Sleep(w.Ctx, d.Between(100*time.Millisecond, 3*time.Second)) != nil:
			return ""
		}
	}
}

func (o *Order) body() string {
	p := o.Conv.Property
	keys, reply := `[{"messagingType":"UPDATE"}]`, ""
	if p.Platform == ott.LINE {
		keys = `[]`
	}
	if o.Reply {
		reply = fmt.Sprintf(`,"userReference":%q`, o.replyToken())
	}
	return fmt.Sprintf(`{"messageKey":%q,"from":{"senderType":%q,"senderId":%q},"to":{"ottId":%q%s},`+
		`"message":{"contents":[{"type":"text","text":%q}],"customKeys":%s},"validityPeriod":%d}`,
		o.key(), p.Platform, p.ID, o.Conv.User, reply, o.text(), keys, int(o.Validity/time.Minute))
}

// readStatus reads a message's status.
func (w *world) readStatus(log *clientLog, n int) {
	sent := time.Now()
	event := w.statusRequest(log)
	id := w.Dice("client", fmt.Sprint(log.order.N), "status", fmt.Sprint(n)).UUID()
	code, answer, err := w.call(kindStatus, id, log.id, event)
	if code == 0 || code >= http.StatusInternalServerError {
		w.SayOf(log.order.N, "GET since %s: %d %s %v", bubble.ClockTime(sent), code, answer, err)
		return
	}
	s, err := decodeStatus(sent, code, answer, log)
	if err != nil {
		log.problem(w, "GET was answered %d %s: %v", code, answer, err)
		return
	}
	w.SayOf(log.order.N, "GET since %s: %s", bubble.ClockTime(sent), s.text())
	w.mu.Lock()
	log.statuses = append(log.statuses, *s)
	w.mu.Unlock()
}

func (w *world) statusRequest(log *clientLog) events.APIGatewayV2HTTPRequest {
	event := w.request(log.order.Conv.Property.Tenant, ott.ScopeSend, http.MethodGet, "send")
	event.PathParameters = map[string]string{"messageId": log.id}
	return event
}

// readFinal reads a message's status when all is over.
func (w *world) readFinal(
	log *clientLog,
	get func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error),
) {
	sent := time.Now()
	response, _ := get(context.Background(), w.statusRequest(log)) // Adapt's handlers return no error
	s, err := decodeStatus(sent, response.StatusCode, response.Body, log)
	if err != nil {
		log.problem(w, "at the end GET was answered %d %s: %v", response.StatusCode, response.Body, err)
		return
	}
	w.SayOf(log.order.N, "at the end: %s", s.text())
	log.final = s
}

func decodeStatus(sent time.Time, code int, answer string, log *clientLog) (*status, error) {
	if code != http.StatusOK {
		return nil, fmt.Errorf("it is no 200")
	}
	var body struct {
		RequestBody        struct{ MessageKey, OttRequestID string }
		Status             []statusEvent
		PlatformMessageIDs []string `json:"platformMessageIds"`
	}
	if err := json.Unmarshal([]byte(answer), &body); err != nil {
		return nil, err
	}
	if body.RequestBody.MessageKey != log.order.key() || body.RequestBody.OttRequestID != log.id {
		return nil, fmt.Errorf("it is another message's")
	}
	return &status{sent: sent, at: time.Now(), events: body.Status, ids: body.PlatformMessageIDs}, nil
}

func (l *clientLog) problem(w *world, format string, args ...any) {
	w.SayOf(l.order.N, format, args...)
	w.mu.Lock()
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
	w.mu.Unlock()
}

func (w *world) tokens() *token.Authority {
	return api.NewAuthority(signingKeys{w.secrets}, signingName)
}

// request is an event of API Gateway, with a token of the tenant's.
func (w *world) request(tenant, scope, method, path string) events.APIGatewayV2HTTPRequest {
	grant := clientauth.Client{ID: "client of " + tenant, Tenant: tenant, Scopes: []string{scope}}
	bearer, err := w.tokens().Issue(context.Background(), grant, grant.Scopes)
	if err != nil {
		panic(err)
	}
	event := events.APIGatewayV2HTTPRequest{
		RouteKey: method + " /ott/v1/" + path,
		Headers:  map[string]string{"authorization": "Bearer " + bearer, "content-type": "application/json"},
	}
	event.RequestContext.HTTP.Method = method
	return event
}

// call has a function answer a request. The status is 0 if its process died.
func (w *world) call(
	kind, lambdaID, serving string, event events.APIGatewayV2HTTPRequest,
) (code int, body string, err error) {
	var response events.APIGatewayV2HTTPResponse
	err = w.Invoke(kind, lambdaID, []string{serving}, func(ctx context.Context, p *bubble.Process) {
		response, _ = serves(p).http(ctx, event) // Adapt's handlers return no error
	})
	if err != nil {
		return 0, "", err
	}
	return response.StatusCode, response.Body, nil
}
