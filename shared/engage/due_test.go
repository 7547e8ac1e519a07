package engage_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"carillon/shared/engage"
)

func TestFirstDue(t *testing.T) {
	for name, test := range map[string]struct {
		ahead, due time.Duration
		enqueue    bool
	}{
		"now":                  {0, 30 * time.Second, true},
		"past":                 {-time.Hour, 30 * time.Second, true},
		"as far as SQS delays": {15 * time.Minute, 15*time.Minute + 30*time.Second, true},
		"farther than SQS delays": {
			15*time.Minute + time.Second,
			15*time.Minute + time.Second - 150*time.Second,
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			due, enqueue := engage.FirstDue(now, now.Add(test.ahead))
			assert.Equal(t, now.Add(test.due), due)
			assert.Equal(t, test.enqueue, enqueue)
		})
	}
}
