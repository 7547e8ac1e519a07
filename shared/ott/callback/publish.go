package callback

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/ott"
)

// source is what a rule matches all of these events by.
const source = "carillon.ott"

const (
	entriesPerCall = 10      // what PutEvents takes
	bytesPerCall   = 1 << 18 // and their sizes together must be less
	timeSize       = 14      // what a time counts as, in bytes
	callsAtOnce    = 4
	// maxTries is how often an entry is sent that EventBridge takes the call for but not the entry. Calls that fail as
	// such are repeated by the SDK.
	maxTries = 6
)

var refusedEntries = backoff.Policy{Min: 50 * time.Millisecond, Max: 2 * time.Second}

// Publisher puts events onto an EventBridge bus.
type Publisher struct {
	client *eventbridge.Client
	bus    string
	clock  clock.Clock
}

// NewPublisher returns a publisher to the bus of that name.
func NewPublisher(client *eventbridge.Client, bus string, clock clock.Clock) *Publisher {
	return &Publisher{client: client, bus: bus, clock: clock}
}

// OpenPublisher returns a publisher to the bus that EVENT_BUS names.
func OpenPublisher(env *environment.Variables, config aws.Config) *Publisher {
	return NewPublisher(eventbridge.NewFromConfig(config), env.String("EVENT_BUS"), clock.System{})
}

// Publication is an entry of a callback with the registration that it belongs to.
type Publication struct {
	Registration ott.StoredRegistration
	ReceivedAt   time.Time // when the callback came
	Entry
}

// detail is an event on the bus. The source is carillon.ott, the detail type "Messenger Event" or "LINE Event", the
// time the event's own.
type detail struct {
	Tenant        string         `json:"tenant"`
	Platform      ott.Platform   `json:"platform"`
	OttPropertyID string         `json:"ottPropertyId"`
	Object        string         `json:"object,omitempty"`
	Channel       string         `json:"channel,omitempty"`
	EntryTime     jsontext.Value `json:"entryTime,omitempty"`
	Destination   string         `json:"destination,omitempty"`
	ReceivedAt    string         `json:"receivedAt"`
	Index         int            `json:"index"`
	Event         jsontext.Value `json:"event"`
}

// receivedFormat is RFC 3339 with milliseconds, always of the same length.
const receivedFormat = "2006-01-02T15:04:05.000Z"

// Publish puts the events of entries onto the bus, each at least once: what EventBridge refuses for the moment is sent
// again until ctx ends, six times at most. If it returns an error, some of the events may be on the bus nevertheless.
// It returns a fault TooLarge, with nothing published, for an event that no call can hold (256 KB); Unavailable if
// EventBridge does not take an event at present; or EventBridge's error.
func (p *Publisher) Publish(ctx context.Context, publications []Publication) error {
	calls, err := p.calls(publications)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx) // after one failure the platform sends all of them again
	group.SetLimit(callsAtOnce)
	for _, entries := range calls {
		group.Go(func() error { return p.put(ctx, entries) })
	}
	return group.Wait()
}

// calls divides the events into calls that EventBridge takes.
func (p *Publisher) calls(publications []Publication) ([][]types.PutEventsRequestEntry, error) {
	var calls [][]types.PutEventsRequestEntry
	var call []types.PutEventsRequestEntry
	total := 0
	for _, publication := range publications {
		for _, event := range publication.Events {
			entry, err := p.entry(publication, event)
			if err != nil {
				return nil, err
			}
			size := entrySize(entry)
			if size >= bytesPerCall {
				return nil, fault.New(fault.TooLarge, "an event is larger than 256 KB")
			}
			if len(call) == entriesPerCall || total+size >= bytesPerCall {
				calls, call, total = append(calls, call), nil, 0
			}
			call, total = append(call, entry), total+size
		}
	}
	if len(call) > 0 {
		calls = append(calls, call)
	}
	return calls, nil
}

func (p *Publisher) entry(of Publication, event Event) (types.PutEventsRequestEntry, error) {
	document, err := json.Marshal(detail{
		Tenant: of.Registration.Tenant, Platform: of.Registration.Platform, OttPropertyID: of.Registration.PropertyID,
		Object: of.Object, Channel: event.Channel, EntryTime: of.Time, Destination: of.Destination,
		ReceivedAt: of.ReceivedAt.UTC().Format(receivedFormat), Index: event.Index, Event: event.JSON,
	}, jsontext.PreserveRawStrings(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return types.PutEventsRequestEntry{}, err
	}
	entry := types.PutEventsRequestEntry{
		EventBusName: aws.String(p.bus),
		Source:       aws.String(source),
		DetailType:   aws.String(detailType(of.Registration.Platform)),
		Detail:       aws.String(string(document)),
	}
	if !event.Time.IsZero() {
		entry.Time = aws.Time(event.Time)
	}
	return entry, nil
}

func detailType(platform ott.Platform) string {
	if platform == ott.Messenger {
		return "Messenger Event"
	}
	return "LINE Event"
}

// entrySize is an entry's size as EventBridge counts it, in bytes.
func entrySize(entry types.PutEventsRequestEntry) int {
	size := len(*entry.Source) + len(*entry.DetailType) + len(*entry.Detail)
	if entry.Time != nil {
		size += timeSize
	}
	return size
}

func (p *Publisher) put(ctx context.Context, entries []types.PutEventsRequestEntry) error {
	for try := 1; ; try++ {
		out, err := p.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: entries})
		if err != nil {
			return err
		}
		if len(out.Entries) != len(entries) {
			return fmt.Errorf("callback: EventBridge answered for %d of %d events", len(out.Entries), len(entries))
		}
		refused, reason, final := refusals(entries, out.Entries)
		switch {
		case len(refused) == 0:
			return nil
		case final:
			return fmt.Errorf("callback: EventBridge refused %d of %d events: %s", len(refused), len(entries), reason)
		case try == maxTries:
			return fault.Wrap(fault.Unavailable,
				fmt.Errorf("EventBridge refused %d events %d times: %s", len(refused), try, reason))
		}
		entries = refused
		if err := refusedEntries.Sleep(ctx, p.clock, try); err != nil {
			return err
		}
	}
}

// refusals returns the entries that EventBridge did not take, the code that it gave for one of them, and whether asking
// again is in vain.
func refusals(
	entries []types.PutEventsRequestEntry, results []types.PutEventsResultEntry,
) (refused []types.PutEventsRequestEntry, reason string, final bool) {
	for i, result := range results {
		code := aws.ToString(result.ErrorCode)
		if code == "" {
			continue
		}
		refused = append(refused, entries[i])
		passing := code == "ThrottlingException" || code == "InternalFailure" || code == "InternalException"
		if reason == "" || !passing && !final {
			reason = code
		}
		final = final || !passing
	}
	return refused, reason, final
}
