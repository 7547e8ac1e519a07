package ott_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"carillon/shared/ott"
)

func TestNewJob(t *testing.T) {
	at := time.UnixMilli
	job := ott.NewJob(
		"acme",
		"id",
		ott.Message{Platform: ott.LINE, SenderID: "1", OttID: "person", Key: "k"},
		at(2),
		at(3),
		at(4),
	)
	assert.Equal(t, ott.Job{
		Tenant:       "acme",
		OttRequestID: "id",
		Platform:     ott.LINE,
		PropertyID:   "1",
		Conversation: ott.Conversation("acme", ott.LINE, "1", "person"),
		CreatedAt:    2,
		QueuedAt:     3,
		ValidUntil:   4,
	}, job)
	assert.True(t, job.Complete())
	for name, lack := range map[string]func(*ott.Job){
		"tenant":       func(j *ott.Job) { j.Tenant = "" },
		"message":      func(j *ott.Job) { j.OttRequestID = "" },
		"platform":     func(j *ott.Job) { j.Platform = "" },
		"conversation": func(j *ott.Job) { j.Conversation = "" },
		"property":     func(j *ott.Job) { j.PropertyID = "" },
		"its end":      func(j *ott.Job) { j.ValidUntil = 0 },
		"a real end":   func(j *ott.Job) { j.ValidUntil = -1 },
	} {
		lacking := job
		lack(&lacking)
		assert.False(t, lacking.Complete(), name)
	}
}
