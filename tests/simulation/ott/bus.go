package ott

import (
	"strconv"
	"sync"
	"time"

	"carillon/tests/simulation/bubble"
)

// bus is EventBridge.
type bus struct {
	world *world

	mu        sync.Mutex
	published []published
}

// published is an event that is on the bus.
type published struct {
	at                 time.Time
	source, detailType string
	detail             string
}

type busAnswer struct {
	FailedEntryCount int
	Entries          []map[string]string
}

// put is PutEvents.
func (b *bus) put(call *awsCall, d bubble.Dice) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var answer busAnswer
	for i, entry := range call.Entries {
		if d.Chance(b.world.Faults.EntryRefused) {
			answer.FailedEntryCount++
			answer.Entries = append(answer.Entries,
				map[string]string{"ErrorCode": "ThrottlingException", "ErrorMessage": "throttled"})
			continue
		}
		b.published = append(b.published, published{time.Now(), entry.Source, entry.DetailType, entry.Detail})
		answer.Entries = append(answer.Entries, map[string]string{"EventId": strconv.Itoa(len(b.published)*10 + i%10)})
	}
	return answer, nil
}
