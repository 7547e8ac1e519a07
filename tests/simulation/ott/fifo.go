package ott

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"carillon/tests/simulation/bubble"
)

const (
	// pollersAtFirst is how many invocations of the queue's function Lambda starts with; it adds one each scaleUp while
	// all are busy and messages wait.
	pollersAtFirst = 5
	scaleUp        = 200 * time.Millisecond
	// dedupTime is how long SQS knows a deduplication id.
	dedupTime = 5 * time.Minute
	// maxInvisible is how long after a receive a message can be invisible.
	maxInvisible = 12 * time.Hour
)

// fifo is an SQS FIFO queue and what brings its messages to a function, one at a time.
type fifo struct {
	world *world

	mu       sync.Mutex
	jobs     []*job // in the order in which SQS took them
	dead     []*job
	known    map[string]known // by group and deduplication id
	sequence int
	slots    int
	busy     int
	scaled   time.Time // when slots was last raised
	changed  chan struct{}
}

type known struct {
	messageID string
	at        time.Time
}

// job is a message of the queue.
type job struct {
	id           string // ottRequestId, and the how manieth of that
	ottRequestID string
	body         string
	group, dedup string
	sequence     int
	sent         time.Time
	visible      time.Time // from when on it can be received
	polled       time.Time // from when on a poll brings it
	received     time.Time // the last time
	receives     int
	inFlight     bool
	receipt      string
}

func newFIFO(w *world) *fifo {
	return &fifo{world: w, known: map[string]known{}, slots: pollersAtFirst, changed: make(chan struct{}, 1)}
}

// run brings jobs to the function until the run is over.
func (q *fifo) run() {
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
func (q *fifo) dispatch() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		now := time.Now()
		next, wake := q.next(now)
		if next == nil {
			return wake
		}
		if q.busy < q.slots {
			q.receive(next, now)
			q.busy++
			p, isNew := q.world.Take(kindDeliver)
			receipt := next.receipt
			q.world.Go(func() { q.serve(p, isNew, next, receipt) })
			continue
		}
		if q.slots >= outboundConcurrency {
			return wake
		}
		if at := q.scaled.Add(scaleUp); at.After(now) {
			return bubble.Earlier(wake, at)
		}
		q.slots++
		q.scaled = now
	}
}

// next returns the job that is received next: of all groups' first ones the one that is there for the longest. A group
// whose first one is in flight, or late, has none. If there is none, it returns when there may be.
func (q *fifo) next(now time.Time) (best *job, wake time.Time) {
	wake = now.Add(time.Hour)
	blocked := map[string]bool{}
	for _, m := range slices.Clone(q.jobs) {
		if blocked[m.group] {
			continue
		}
		blocked[m.group] = true
		if m.inFlight && !m.visible.After(now) {
			m.inFlight, m.polled = false, now
		}
		switch {
		case m.inFlight:
			wake = bubble.Earlier(wake, m.visible)
		case m.polled.After(now):
			wake = bubble.Earlier(wake, m.polled)
		case m.receives >= maxReceives:
			q.remove(m)
			q.dead = append(q.dead, m)
			q.world.Say(m.ottRequestID, "%s is a dead letter", m.id)
			wake = now
		case best == nil || m.polled.Before(best.polled):
			best = m
		}
	}
	return best, wake
}

func (q *fifo) receive(m *job, now time.Time) {
	m.receives++
	m.inFlight, m.received, m.visible = true, now, now.Add(visibility)
	m.receipt = m.id + "@" + strconv.Itoa(m.receives)
}

func (q *fifo) remove(m *job) {
	if i := slices.Index(q.jobs, m); i >= 0 {
		q.jobs = slices.Delete(q.jobs, i, i+1)
	}
}

// serve has the function serve a job, and deletes it if it is done with.
func (q *fifo) serve(p *bubble.Process, isNew bool, m *job, receipt string) {
	w := q.world
	event := events.SQSEvent{Records: []events.SQSMessage{{
		MessageId: m.id, Body: m.body, ReceiptHandle: receipt, EventSource: "aws:sqs", AWSRegion: "us-east-1",
		EventSourceARN: "arn:aws:sqs:us-east-1:000000000000:outbound.fifo",
		Attributes: map[string]string{
			"ApproximateReceiveCount": strconv.Itoa(m.receives), "MessageGroupId": m.group,
			"MessageDeduplicationId": m.dedup, "SequenceNumber": strconv.Itoa(m.sequence),
			"SentTimestamp":                    strconv.FormatInt(m.sent.UnixMilli(), 10),
			"ApproximateFirstReceiveTimestamp": strconv.FormatInt(m.received.UnixMilli(), 10),
		},
	}}}
	d := w.Dice("invocation", receipt)
	deletes, deleteFails := d.Between(time.Millisecond, 10*time.Millisecond), d.Chance(w.scenario.faults.deleteFails)
	id := d.UUID()
	var response events.SQSEventResponse
	err := w.InvokeProcess(p, isNew, id, []string{m.ottRequestID}, func(ctx context.Context, p *bubble.Process) {
		w.Say(m.ottRequestID, "%s receives %s (receive %d)", p.ID, m.id, m.receives)
		response, _ = serves(p).deliver(ctx, event)
	})
	keep := err != nil || len(response.BatchItemFailures) > 0
	if !keep {
		_ = bubble.Sleep(w.Ctx, deletes) // the run may be over
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	q.wake()
	isCurrent := m.receipt == receipt && m.inFlight && m.visible.After(time.Now())
	switch {
	case keep:
		w.Say(m.ottRequestID, "%s comes again at %s", m.id, bubble.ClockTime(m.visible))
	case deleteFails:
		w.Hit(m.ottRequestID, "%s is done with, and not deleted", m.id)
	case !isCurrent:
		w.Say(m.ottRequestID, "%s is done with too late: another has received it", m.id)
	default:
		q.remove(m)
	}
	if q.busy == 0 && len(q.jobs) == 0 {
		q.slots = pollersAtFirst
	}
}

func (q *fifo) wake() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// isEmpty reports whether the queue holds nothing and its function does nothing.
func (q *fifo) isEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs) == 0 && q.busy == 0
}

// send takes a message into the queue, unless it knows its deduplication id.
func (q *fifo) send(entry sqsEntry) (messageID string) {
	ottRequestID := entry.ottRequestID()
	w, f := q.world, &q.world.scenario.faults
	q.mu.Lock()
	defer q.mu.Unlock()
	name := entry.MessageGroupID + "/" + entry.MessageDeduplicationID
	if k, repeated := q.known[name]; repeated && time.Since(k.at) < dedupTime {
		w.Say(ottRequestID, "SQS knows the deduplication id of %s", entry.MessageBody)
		return k.messageID
	}
	id := fmt.Sprintf("%s#%d", ottRequestID, w.Count("job", ottRequestID))
	q.known[name] = known{id, time.Now()}
	d := bubble.Throw(w.scenario.Seed, "job", id)
	poll, late, lateness := d.Between(2*time.Millisecond, 30*time.Millisecond), d.Chance(f.late),
		d.Between(time.Second, 20*time.Second)
	if late {
		w.Hit(ottRequestID, "SQS brings %s %v late", id, lateness)
		poll += lateness
	}
	q.sequence++
	now := time.Now()
	q.jobs = append(q.jobs, &job{
		id: id, ottRequestID: ottRequestID, body: entry.MessageBody, group: entry.MessageGroupID,
		dedup: entry.MessageDeduplicationID, sequence: q.sequence, sent: now, visible: now, polled: now.Add(poll),
	})
	w.Say(ottRequestID, "sent to the queue as %s, group %.12s: %s", id, entry.MessageGroupID, entry.MessageBody)
	q.wake()
	return id
}

// changeVisibility is ChangeMessageVisibility. It returns the code of SQS's refusal, or "".
func (q *fifo) changeVisibility(receipt string, seconds int) (refusal string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, m := range q.jobs {
		if m.receipt != receipt {
			continue
		}
		if !m.inFlight || !m.visible.After(now) {
			return "com.amazonaws.sqs#MessageNotInflight"
		}
		until := now.Add(time.Duration(seconds) * time.Second)
		if seconds < 0 || until.After(m.received.Add(maxInvisible)) {
			return "com.amazonaws.sqs#InvalidParameterValue"
		}
		poll := q.world.Dice("visibility", receipt).Between(time.Millisecond, 20*time.Millisecond)
		m.visible = until.Add(poll)
		q.world.Say(m.ottRequestID, "%s is invisible for %d s", m.id, seconds)
		q.wake()
		return ""
	}
	return "com.amazonaws.sqs#ReceiptHandleIsInvalid"
}

// waiting returns the ottRequestIds of the jobs, and those of the dead letters.
func (q *fifo) waiting() (jobs, dead []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.jobs), slices.Clone(q.dead)
}

func (e sqsEntry) ottRequestID() string {
	var j struct {
		OttRequestID string `json:"ottRequestId"`
	}
	_ = json.Unmarshal([]byte(e.MessageBody), &j) // what is no job is a message all the same
	return j.OttRequestID
}
