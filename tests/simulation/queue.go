package simulation

import (
	"context"
	"crypto/md5" //nolint:gosec // SQS's own checksum
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"carillon/tests/simulation/bubble"
)

const (
	// pollersAtFirst is how many invocations of a queue's function Lambda starts with; it adds one each scaleUp while
	// all are busy and messages wait.
	pollersAtFirst = 5
	scaleUp        = 200 * time.Millisecond
	// maxReceives is after how many receives a message becomes a dead letter.
	maxReceives = 5
	// visibilityTimes is how many times the function's time-out a received message stays invisible.
	visibilityTimes = 6
)

// queue is an SQS queue and what brings its messages to a function.
type queue struct {
	world          *world
	name, url      string
	kind           kind
	batchSize      int
	maxConcurrency int

	mu       sync.Mutex
	messages []*message // in the order in which they were sent
	dead     []*message
	slots    int
	busy     int
	scaled   time.Time // when slots was last raised
	changed  chan struct{}
}

// message is a message of a queue.
type message struct {
	id        string // request id, chunk, and the how manieth of that
	requestID string
	body      string
	group     string
	visible   time.Time // from when on it can be received
	polled    time.Time // from when on a poll brings it
	receives  int
	inFlight  bool
}

// run brings messages to the function until the run is over.
func (q *queue) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wake := q.dispatch()
		timer.Reset(time.Until(wake))
		select {
		case <-timer.C:
		case <-q.changed:
		case <-q.world.Ctx.Done():
			return
		}
	}
}

// dispatch starts the invocations that can be started, and returns when to look again.
func (q *queue) dispatch() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		now := time.Now()
		wake := now.Add(time.Hour)
		ready := false
		for _, m := range q.messages {
			switch {
			case m.inFlight && !m.visible.After(now):
				m.inFlight, m.polled = false, now
				ready = true
			case m.inFlight:
				wake = bubble.Earlier(wake, m.visible)
			case m.polled.After(now):
				wake = bubble.Earlier(wake, m.polled)
			default:
				ready = true
			}
		}
		if !ready {
			return wake
		}
		if q.busy < q.slots {
			if batch := q.receive(now); len(batch) > 0 {
				q.busy++
				p, isNew := q.world.Take(q.kind)
				q.world.Go(func() { q.serve(p, isNew, batch) })
			}
			continue
		}
		if q.slots >= q.maxConcurrency {
			return wake
		}
		if next := q.scaled.Add(scaleUp); next.After(now) {
			return bubble.Earlier(wake, next)
		}
		q.slots++
		q.scaled = now
	}
}

// receive takes a batch: of the groups with the fewest messages in flight first, the oldest first.
func (q *queue) receive(now time.Time) []*message {
	inFlight := map[string]int{}
	for _, m := range q.messages {
		if m.inFlight && m.group != "" {
			inFlight[m.group]++
		}
	}
	var batch []*message
	for len(batch) < q.batchSize {
		var best *message
		for _, m := range q.messages {
			if m.inFlight || m.visible.After(now) {
				continue
			}
			if best == nil || inFlight[m.group] < inFlight[best.group] ||
				inFlight[m.group] == inFlight[best.group] && m.visible.Before(best.visible) {
				best = m
			}
		}
		if best == nil {
			break
		}
		if best.receives == maxReceives {
			q.remove(best)
			q.dead = append(q.dead, best)
			q.world.Say(best.requestID, "%s is a dead letter of %s", best.id, q.name)
			continue
		}
		best.receives++
		best.inFlight = true
		best.visible = now.Add(visibilityTimes * timeouts[q.kind])
		if best.group != "" {
			inFlight[best.group]++
		}
		batch = append(batch, best)
	}
	return batch
}

func (q *queue) remove(m *message) {
	if i := slices.Index(q.messages, m); i >= 0 {
		q.messages = slices.Delete(q.messages, i, i+1)
	}
}

// serve has the function serve a batch, and deletes what it is done with.
func (q *queue) serve(p *bubble.Process, isNew bool, batch []*message) {
	event := events.SQSEvent{}
	var serving []string
	for _, m := range batch {
		event.Records = append(event.Records, events.SQSMessage{
			MessageId:      m.id,
			Body:           m.body,
			EventSource:    "aws:sqs",
			AWSRegion:      "us-east-1",
			EventSourceARN: "arn:aws:sqs:us-east-1:000000000000:" + q.name,
			Attributes: map[string]string{
				"ApproximateReceiveCount": strconv.Itoa(m.receives),
				"MessageGroupId":          m.group,
			},
		})
		serving = append(serving, m.requestID)
	}
	first := batch[0].id
	var response events.SQSEventResponse
	err := q.world.InvokeProcess(p, isNew, q.world.Dice("invocation", first).UUID(), serving,
		func(ctx context.Context, p *bubble.Process) {
			for _, m := range batch {
				q.world.Say(m.requestID, "%s receives %s of %s (%d of %d, receive %d)",
					p.ID, m.id, q.name, len(batch), q.batchSize, m.receives)
			}
			response, _ = serves(p).deliver(ctx, event)
		})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	q.wake()
	if err != nil {
		return // they come again when they are visible
	}
	failed := map[string]bool{}
	for _, f := range response.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	for _, m := range batch {
		if failed[m.id] {
			q.world.Hit(m.requestID, "%s fails and comes again later", m.id)
			continue
		}
		q.remove(m)
	}
	if q.busy == 0 && len(q.messages) == 0 {
		q.slots = pollersAtFirst
	}
}

func (q *queue) wake() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// isEmpty reports whether the queue holds nothing and its function does nothing.
func (q *queue) isEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.messages) == 0 && q.busy == 0
}

// attributes are what SQS says of the queue.
func (q *queue) attributes() map[string]string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var visible, delayed, inFlight int
	for _, m := range q.messages {
		switch {
		case m.inFlight:
			inFlight++
		case m.visible.After(time.Now()):
			delayed++
		default:
			visible++
		}
	}
	return map[string]string{
		"ApproximateNumberOfMessages":           strconv.Itoa(visible),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(delayed),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(inFlight),
	}
}

// send puts an entry into the queue.
func (q *queue) send(entry sqsEntry) (id string) {
	var job struct {
		RequestID string `json:"requestId"`
		Chunk     int    `json:"chunk"`
	}
	_ = json.Unmarshal([]byte(entry.MessageBody), &job) // what is no job is a message all the same
	w, f := q.world, &q.world.scenario.faults
	name := fmt.Sprintf("%s.%d", job.RequestID, job.Chunk)
	n := w.Count("message", q.name, name)
	id = fmt.Sprintf("%s#%d", name, n)
	d := bubble.Throw(w.scenario.Seed, "message", q.name, id)
	latency, poll := d.Between(time.Millisecond, 10*time.Millisecond), d.Between(time.Millisecond, 20*time.Millisecond)
	late, early, twice, lost := d.Chance(f.late), d.Chance(f.early), d.Chance(f.twice), d.Chance(f.lost)
	lateness, earliness := d.Between(time.Second, 40*time.Second), d.Between(0, time.Second)
	again := d.Between(0, 10*time.Second)
	w.Say(job.RequestID, "sent to %s, delayed %d s: %s", q.name, entry.DelaySeconds, entry.MessageBody)
	if lost {
		w.Hit(job.RequestID, "SQS loses %s", id)
		return id
	}
	delay := time.Duration(entry.DelaySeconds) * time.Second
	if late {
		w.Hit(job.RequestID, "SQS brings %s %v late", id, lateness)
		delay += lateness
	} else if early && delay > 0 {
		w.Say(job.RequestID, "SQS brings %s %v early", id, earliness)
		delay -= earliness
	}
	m := &message{id: id, requestID: job.RequestID, body: entry.MessageBody, group: entry.MessageGroupID}
	m.visible = time.Now().Add(latency + delay)
	m.polled = m.visible.Add(poll)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = append(q.messages, m)
	if twice {
		w.Say(job.RequestID, "SQS brings %s twice", id)
		copied := *m
		copied.id += "'"
		copied.visible, copied.polled = m.visible.Add(again), m.polled.Add(again)
		q.messages = append(q.messages, &copied)
	}
	q.wake()
	return id
}

// sqsTransport is a process's way to SQS.
type sqsTransport struct {
	world   *world
	process *bubble.Process
}

type sqsEntry struct {
	ID             string `json:"Id"`
	MessageBody    string
	DelaySeconds   int
	MessageGroupID string `json:"MessageGroupId"`
}

// RoundTrip carries out a call of SQS.
func (t *sqsTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	p, w := t.process, t.process.World
	f := &w.Faults
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	var call struct {
		QueueURL string `json:"QueueUrl"`
		sqsEntry
		Entries []sqsEntry
	}
	if err := json.Unmarshal(raw, &call); err != nil {
		return nil, err
	}
	if operation == "SendMessage" {
		call.Entries = []sqsEntry{call.sqsEntry}
	}
	ids := make([]string, len(call.Entries))
	for i, entry := range call.Entries {
		var job struct {
			RequestID string `json:"requestId"`
		}
		_ = json.Unmarshal([]byte(entry.MessageBody), &job) // what is no job is of no push
		ids[i] = job.RequestID
	}
	name := operation
	if len(call.Entries) > 0 {
		name += " " + call.Entries[0].MessageBody
	}
	d := w.Dice("sqs", p.ID, name)
	before, after := d.Between(time.Millisecond, 8*time.Millisecond), d.Between(time.Millisecond/2, 3*time.Millisecond)
	fails, lost := d.Chance(f.SendFails), d.Chance(f.AnswerLost)
	killed, killedBefore := d.Chance(f.Killed), d.Chance(0.5)
	if err := bubble.Sleep(request.Context(), before); err != nil {
		return nil, err
	}
	if killed && killedBefore {
		p.Kill("before " + operation)
	}
	if p.IsDead() {
		return nil, bubble.ErrKilled
	}
	target := t.world.queueAt(call.QueueURL)
	if target == nil {
		return nil, fmt.Errorf("there is no queue %s", call.QueueURL)
	}
	header := http.Header{"Content-Type": {"application/x-amz-json-1.0"}}
	if fails {
		for _, id := range ids {
			w.Hit(id, "SQS fails")
		}
		const text = `{"__type":"com.amazonaws.sqs#ServiceUnavailable","message":"unavailable"}`
		return bubble.NewAnswer(request, http.StatusServiceUnavailable, header, []byte(text)), nil
	}
	answer := sqsAnswer{Attributes: target.attributes()}
	for i, entry := range call.Entries {
		if operation == "SendMessageBatch" && d.Chance(f.EntryRefused) {
			w.Hit(ids[i], "SQS refuses an entry")
			answer.Failed = append(answer.Failed, sqsFailed{ID: entry.ID, Code: "InternalError", Message: "refused"})
			continue
		}
		sum := md5.Sum([]byte(entry.MessageBody)) //nolint:gosec // SQS's own checksum
		answer.MD5OfMessageBody, answer.MessageID = hex.EncodeToString(sum[:]), target.send(entry)
		answer.Successful = append(answer.Successful, sqsSent{
			ID: entry.ID, MessageID: answer.MessageID, MD5OfMessageBody: answer.MD5OfMessageBody,
		})
	}
	if killed {
		p.Kill("after " + operation)
		return nil, bubble.ErrKilled
	}
	if err := bubble.Sleep(request.Context(), after); err != nil {
		return nil, err
	}
	if p.IsDead() {
		return nil, bubble.ErrKilled
	}
	if lost {
		for _, id := range ids {
			w.Hit(id, "the answer to %s is lost", operation)
		}
		return nil, io.ErrUnexpectedEOF
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return bubble.NewAnswer(request, http.StatusOK, header, text), nil
}

// sqsAnswer is the answer to every operation: each reads its own members.
type sqsAnswer struct {
	MessageID        string `json:"MessageId,omitempty"`
	MD5OfMessageBody string `json:",omitempty"`
	Successful       []sqsSent
	Failed           []sqsFailed
	Attributes       map[string]string // of GetQueueAttributes
}

type sqsSent struct {
	ID               string `json:"Id"`
	MessageID        string `json:"MessageId"`
	MD5OfMessageBody string
}

type sqsFailed struct {
	ID          string `json:"Id"`
	SenderFault bool
	Code        string
	Message     string
}

func (w *world) queueAt(url string) *queue {
	for _, q := range w.queues {
		if q.url == url {
			return q
		}
	}
	return nil
}
