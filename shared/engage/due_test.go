package engage_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"carillon/shared/engage"
)

func TestFirstDue(t *testing.T) {
	for name, test := range map[string]struct{ ahead, due time.Duration }{
		"now":                       {0, 30 * time.Second},
		"before a sweep could come": {75 * time.Second, 105 * time.Second},
		"in two minutes":            {2 * time.Minute, 0},
		"as far as SQS delays":      {15 * time.Minute, 15*time.Minute - 150*time.Second},
		"farther than SQS delays":   {15*time.Minute + time.Second, 15*time.Minute + time.Second - 150*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, now.Add(test.due), engage.FirstDue(now, now.Add(test.ahead)))
		})
	}
}

// The longer a push is due, the less often engage-schedule looks at it.
func TestNextLook(t *testing.T) {
	for name, test := range map[string]struct{ since, look time.Duration }{
		"not due yet":      {-time.Minute, time.Minute + 30*time.Second},
		"just due":         {0, 30 * time.Second},
		"for four minutes": {4 * time.Minute, 30 * time.Second},
		"for eight":        {8 * time.Minute, time.Minute},
		"for a day":        {24 * time.Hour, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, now.Add(test.look), engage.NextLook(now, now.Add(-test.since)))
		})
	}
}
