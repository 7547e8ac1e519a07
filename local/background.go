package local

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/local/eventsource"
	"carillon/local/lambda"
	"carillon/local/schedule"
	"carillon/local/template"
)

// defaultConcurrency is how many invocations a mapping has at the same time where the template does not bound them.
const defaultConcurrency = 16

// maxProcesses is how many processes a function has at most: Lambda has a thousand, a laptop has less memory. Each is
// started only when all others are busy, and ends when nobody needed it for some minutes.
const maxProcesses = 128

// background is what invokes functions without a caller: queues and schedules.
type background struct {
	urls      map[string]string // of the queues, by logical id
	mappings  []mapping
	scheduler *schedule.Scheduler
}

// mapping takes messages from the queue with that logical id.
type mapping struct {
	queue string
	*eventsource.Mapping
}

// concurrency is how many invocations each of a function's mappings may have at the same time, in their order, and how
// many processes the function: so many that no mapping waits for another one's, and at most as many as the options say
// or maxProcesses. Where the mappings want more they get less, each in proportion.
func (b *Bundle) concurrency(f template.Function) (mappings []int, processes int) {
	most := b.options.MaxProcesses
	if most == 0 {
		most = maxProcesses
	}
	sum := 0
	for _, m := range f.Mappings {
		n := m.MaximumConcurrency
		if n == 0 {
			n = defaultConcurrency
		}
		mappings = append(mappings, n)
		sum += n
	}
	mappings = eventsource.Shares(mappings, most)
	if b.options.MaxProcesses > 0 {
		return mappings, most
	}
	return mappings, min(most, max(lambda.DefaultMaxProcesses, sum))
}

// feed starts the queues' mappings and the schedules. It is the last step of the start: nothing runs before all is
// there.
func (b *Bundle) feed(t *template.Template, functions []template.Function) error {
	queues, err := t.Queues()
	if err != nil {
		return err
	}
	b.background.urls = map[string]string{}
	idOf := map[string]string{}        // by ARN
	deadLetters := map[string]string{} // the ARN of each queue's dead-letter queue, by its own
	for _, q := range queues {
		physical, ok := t.Bound(q.LogicalID)
		if !ok {
			return fmt.Errorf("queue %s was not created", q.LogicalID)
		}
		b.background.urls[q.LogicalID] = physical.Ref
		idOf[physical.Attributes["Arn"]] = q.LogicalID
		deadLetters[physical.Attributes["Arn"]] = q.DeadLetterARN
	}
	var schedules []schedule.Schedule
	for _, f := range functions {
		function := b.functions[f.LogicalID]
		concurrency, _ := b.concurrency(f)
		for i, m := range f.Mappings {
			id, ok := idOf[m.QueueARN]
			if !ok {
				return fmt.Errorf("%s takes messages from %s, which is not in the template", f.LogicalID, m.QueueARN)
			}
			b.background.mappings = append(
				b.background.mappings,
				mapping{queue: id, Mapping: eventsource.Start(eventsource.Config{
					Client: b.SQS(), URL: b.background.urls[id], ARN: m.QueueARN, Function: function,
					BatchSize: m.BatchSize, Concurrency: concurrency[i],
					ReportBatchItemFailures: m.ReportBatchItemFailures, RecursionAllowed: f.RecursionAllowed,
					DeadLetterURL: b.background.urls[idOf[deadLetters[m.QueueARN]]],
					Duplicates:    b.options.Duplicates, Paused: m.Disabled, Log: b.options.Log,
				})},
			)
		}
		for _, s := range f.Schedules {
			schedules = append(schedules, schedule.Schedule{
				Name: s.Name, Every: s.Every, Input: s.Input, Disabled: s.Disabled, Function: function,
			})
		}
	}
	b.background.scheduler = schedule.Start(schedules, schedule.Options{
		Region: region, AccountID: accountID, Manual: b.options.ManualSchedules, Log: b.options.Log,
	})
	return nil
}

func (b background) close() {
	if b.scheduler != nil {
		b.scheduler.Close()
	}
	for _, mapping := range b.mappings {
		mapping.Close()
	}
}

// TriggerSchedules runs every schedule of the template now and returns when all have ended. It returns what the
// functions failed with, or ctx's error.
func (b *Bundle) TriggerSchedules(ctx context.Context) error {
	return b.background.scheduler.Trigger(ctx)
}

// PauseSchedules lets the schedules' runs pass by until ResumeSchedules; TriggerSchedules works all the same.
func (b *Bundle) PauseSchedules() { b.background.scheduler.Pause() }

// ResumeSchedules lets the schedules run, those of a bundle with ManualSchedules too.
func (b *Bundle) ResumeSchedules() { b.background.scheduler.Resume() }

// PauseQueues returns when no function is given messages any more of the queues with these logical ids, of all if none
// is named. It takes a second or so; invocations under way go on.
func (b *Bundle) PauseQueues(logicalIDs ...string) {
	var all sync.WaitGroup
	for _, m := range b.background.of(logicalIDs) {
		all.Go(m.Pause)
	}
	all.Wait()
}

// ResumeQueues gives functions messages again of the queues with these logical ids, of all if none is named.
func (b *Bundle) ResumeQueues(logicalIDs ...string) {
	for _, m := range b.background.of(logicalIDs) {
		m.Resume()
	}
}

// of returns the mappings of queues, all of them if none is named. It panics when no function takes from one of them.
func (b background) of(queues []string) []mapping {
	if len(queues) == 0 {
		return b.mappings
	}
	var found []mapping
	for _, id := range queues {
		i := slices.IndexFunc(b.mappings, func(m mapping) bool { return m.queue == id })
		if i < 0 {
			panic("local: no function takes messages from " + id)
		}
		found = append(found, b.mappings[i])
	}
	return found
}

// QueueURL is the URL of the queue with this logical id. It panics when the template has none of that name.
func (b *Bundle) QueueURL(logicalID string) string {
	url, ok := b.background.urls[logicalID]
	if !ok {
		panic("local: the template declares no queue " + logicalID)
	}
	return url
}

// PurgeQueue deletes every message of the queue with this logical id, delayed ones and those in flight too, as often as
// one likes. It returns the emulator's error, or ctx's.
func (b *Bundle) PurgeQueue(ctx context.Context, logicalID string) error {
	_, err := b.SQS().PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: aws.String(b.QueueURL(logicalID))})
	return err
}
