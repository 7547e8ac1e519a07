// Package eventsource feeds functions from queues as Lambda's event source mappings for Amazon SQS do: its event, its
// batches, how it scales the invocations at the same time, which recursive loops it ends, and what it deletes and what
// it leaves to come again. That a queue is fair to its message groups is the queue's doing (see emulator/moto.py). So
// is the order of a FIFO queue (emulator/fifo.py): it hands out nothing of a group while a message of it is in flight,
// and there are no more invocations at the same time than groups with messages.
package eventsource

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"carillon/local/trace"
)

const (
	// interval is how often the queue is asked while it holds delayed messages: the emulator's long poll notices only
	// once a second that one has become visible.
	interval = 50 * time.Millisecond
	// watch is how long it is asked that often before its count of delayed messages is looked at again.
	watch = time.Second
	// longPoll is how long, in seconds, a receive waits on a queue without delayed messages. One that is sent meanwhile
	// has a delay of a second at least, and is known of when the poll ends.
	longPoll = 1
	// pause is the wait after a call that failed.
	pause = 200 * time.Millisecond
)

// Function answers events; a *lambda.Function is one.
type Function interface {
	// Invoke gets the tracing header of the messages with ctx: see trace.From.
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
	Name() string
	Label() string
}

// Config describes a mapping.
type Config struct {
	// Client reaches SQS.
	Client *sqs.Client
	// URL and ARN are the queue's.
	URL, ARN string
	// Function gets the messages.
	Function Function
	// BatchSize is how many messages one invocation gets at most, 1 to 10.
	BatchSize int
	// Concurrency bounds the invocations at the same time, at least 1. There are five at first, one more for each 200
	// ms of a backlog, and five again after it.
	Concurrency int
	// ReportBatchItemFailures says that the function names the messages that failed. Else its answer is not looked at.
	ReportBatchItemFailures bool
	// RecursionAllowed says that the function may be invoked any number of times in one chain of events: RecursiveLoop:
	// Allow. Else a message that would invoke it for the seventeenth time goes to DeadLetterURL.
	RecursionAllowed bool
	// DeadLetterURL is the URL of the queue's dead-letter queue, empty if it has none.
	DeadLetterURL string
	// Duplicates is n if every nth message is delivered once more after the function has handled it, as a standard
	// queue may do with any message; 0 for none. Those that failed before, and so come more than once anyway, are not
	// counted.
	//
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues.html
	Duplicates int
	// Paused mappings take nothing until Resume.
	Paused bool
	// Log takes what went wrong, a line at a time; it must be safe for concurrent use.
	Log func(line string)
}

// Mapping takes messages from a queue and invokes a function with them, until Close. Its methods are safe for
// concurrent use.
type Mapping struct {
	config  Config
	slots   *slots // one for each invocation
	handled atomic.Int64
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	receive sync.Mutex // held while messages are taken and handed over

	mu      sync.Mutex
	paused  bool
	changed chan struct{} // closed when paused changes
}

// Start starts a mapping.
func Start(config Config) *Mapping {
	m := &Mapping{
		config: config, slots: newSlots(config.Concurrency),
		paused: config.Paused, changed: make(chan struct{}),
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.running.Go(m.poll)
	return m
}

// Close stops taking messages and returns when no invocation is left. The messages of one that is still running come
// again after their visibility timeout: nobody waits for it.
func (m *Mapping) Close() {
	m.stop()
	m.running.Wait()
}

// Pause returns when no more messages are taken, within a second or so; invocations under way go on. Messages wait in
// the queue until Resume.
func (m *Mapping) Pause() {
	m.set(true)
	// A long poll under way is not cut off: the emulator would give a message to nobody.
	m.receive.Lock()
	m.receive.Unlock() //nolint:staticcheck // SA2001: waiting is all that is wanted
}

// Concurrency is how many invocations there may be at the same time now.
func (m *Mapping) Concurrency() int { return m.slots.current() }

// Resume takes messages again.
func (m *Mapping) Resume() { m.set(false) }

func (m *Mapping) set(paused bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paused == paused {
		return
	}
	m.paused = paused
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Mapping) state() (paused bool, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.paused, m.changed
}

// poll is the one receiver of the mapping: the emulator serves one call at a time, more receivers would only wait for
// each other.
func (m *Mapping) poll() {
	var watchUntil time.Time
	fifo := isFIFO(m.config.ARN)
	for m.slot() {
		wait := int32(longPoll)
		// The emulator's FIFO queues end a long poll at the moment in which a message becomes visible.
		if !fifo && (time.Now().Before(watchUntil) || m.delayed()) {
			wait = 0
		}
		taken, err := m.take(wait)
		if !taken {
			m.slots.give()
		}
		switch {
		case err != nil:
			m.report("receiving", err)
			m.sleep(pause)
		case taken:
			watchUntil = time.Now().Add(watch) // where there was one there may be more
		case wait == 0:
			if !time.Now().Before(watchUntil) {
				watchUntil = time.Now().Add(watch)
			}
			m.sleep(interval)
		}
	}
}

// isFIFO reports whether the queue with this ARN is a FIFO queue.
func isFIFO(arn string) bool { return strings.HasSuffix(arn, ".fifo") }

// slot waits until there may be one more invocation and the mapping is not paused; false when it is closed.
func (m *Mapping) slot() bool {
	if !m.slots.take(m.ctx) {
		return false
	}
	for m.ctx.Err() == nil {
		paused, changed := m.state()
		if !paused {
			return true
		}
		select {
		case <-changed:
		case <-m.ctx.Done():
		}
	}
	return false
}

// take receives a batch and starts its invocation; it reports whether there was one.
func (m *Mapping) take(wait int32) (bool, error) {
	m.receive.Lock()
	defer m.receive.Unlock()
	if paused, _ := m.state(); paused {
		return false, nil
	}
	out, err := m.config.Client.ReceiveMessage(m.ctx, &sqs.ReceiveMessageInput{
		QueueUrl:                    aws.String(m.config.URL),
		MaxNumberOfMessages:         int32(m.config.BatchSize), //nolint:gosec // G115: 1 to 10
		WaitTimeSeconds:             wait,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		MessageAttributeNames:       []string{"All"},
	})
	if err != nil {
		return false, err
	}
	if len(out.Messages) == 0 {
		m.slots.drained()
		return false, nil
	}
	m.running.Go(func() {
		defer m.slots.give()
		if messages, header := m.unlooped(out.Messages); len(messages) > 0 {
			m.invoke(messages, header)
		}
	})
	return true, nil
}

// delayed reports whether the queue holds messages that nobody can receive yet because of their delay.
func (m *Mapping) delayed() bool {
	const name = types.QueueAttributeNameApproximateNumberOfMessagesDelayed
	out, err := m.config.Client.GetQueueAttributes(m.ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(m.config.URL), AttributeNames: []types.QueueAttributeName{name},
	})
	if err != nil {
		m.report("looking at the queue", err)
		return true
	}
	return out.Attributes[string(name)] != "0"
}

// invoke lets the function work on the messages and deletes those that it is done with. The rest becomes visible again
// when its visibility timeout is over.
func (m *Mapping) invoke(messages []types.Message, header trace.Header) {
	payload, err := encodeEvent(m.config.ARN, messages)
	if err != nil {
		m.report("making the event", err)
		return
	}
	response, err := m.config.Function.Invoke(trace.With(m.ctx, header), payload)
	if err != nil {
		m.report(fmt.Sprintf("%d messages come again later", len(messages)), err)
		return
	}
	if m.config.ReportBatchItemFailures {
		done, ok := succeeded(response, messages)
		if !ok {
			m.report(
				fmt.Sprintf("%d messages come again later", len(messages)),
				errors.New("the answer does not say which messages failed"),
			)
		}
		messages = done
	}
	if messages = m.onceMore(messages); len(messages) > 0 {
		m.delete(messages)
	}
}

// onceMore has the queue deliver again those messages whose turn it is, and returns the others.
func (m *Mapping) onceMore(messages []types.Message) []types.Message {
	if m.config.Duplicates == 0 {
		return messages
	}
	var rest []types.Message
	for _, message := range messages {
		first := message.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)] == "1"
		if !first || m.handled.Add(1)%int64(m.config.Duplicates) != 0 {
			rest = append(rest, message)
			continue
		}
		_, err := m.config.Client.ChangeMessageVisibility(m.ctx, &sqs.ChangeMessageVisibilityInput{
			QueueUrl: aws.String(m.config.URL), ReceiptHandle: message.ReceiptHandle, VisibilityTimeout: 0,
		})
		if err != nil { // the queue was purged meanwhile, perhaps
			m.report("delivering a message once more", err)
			continue
		}
		m.logf("message %s was handled, and is delivered once more", aws.ToString(message.MessageId))
	}
	return rest
}

func (m *Mapping) delete(messages []types.Message) {
	entries := make([]types.DeleteMessageBatchRequestEntry, len(messages))
	for i, message := range messages {
		entries[i] = types.DeleteMessageBatchRequestEntry{
			Id:            aws.String(strconv.Itoa(i)),
			ReceiptHandle: message.ReceiptHandle,
		}
	}
	out, err := m.config.Client.DeleteMessageBatch(
		m.ctx,
		&sqs.DeleteMessageBatchInput{QueueUrl: aws.String(m.config.URL), Entries: entries},
	)
	if err != nil {
		m.report("deleting", err)
		return
	}
	// A queue that was purged meanwhile knows the message no more; that is as good as deleted.
	for _, failure := range out.Failed {
		if code := aws.ToString(failure.Code); code != "ReceiptHandleIsInvalid" {
			m.report("deleting", errors.New(code+": "+aws.ToString(failure.Message)))
		}
	}
}

func (m *Mapping) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.ctx.Done():
	}
}

func (m *Mapping) report(doing string, err error) {
	if m.ctx.Err() == nil {
		m.logf("%s: %v", doing, err)
	}
}
