package ott

import "time"

// Job says that a message is to be sent. One that comes twice finds the message final, or waiting. It names the
// message's property, so that a property that is in trouble costs no look at its messages, and says until when the
// message is valid, so that a job ends though the table cannot be read. It is a messagebatch.Job.
type Job struct {
	Tenant       string   `json:"tenant"`
	OttRequestID string   `json:"ottRequestId"`
	Platform     Platform `json:"platform"`
	PropertyID   string   `json:"propertyId"`
	// Conversation is the message group that the job stands in. A request that used another message's key has that
	// message's id: its job stands elsewhere than the message, and is not the message's.
	Conversation string `json:"conversation"`
	// CreatedAt is the message's own, epoch ms: a job of another request of the same message is not its job. A job that
	// somebody makes by hand, to have a message sent, has none.
	CreatedAt  int64 `json:"createdAt,omitzero"`
	QueuedAt   int64 `json:"queuedAt"`   // epoch ms
	ValidUntil int64 `json:"validUntil"` // epoch ms
}

// NewJob returns the job of a tenant's message.
func NewJob(tenant, ottRequestID string, m Message, createdAt, queuedAt, validUntil time.Time) Job {
	return Job{
		Tenant: tenant, OttRequestID: ottRequestID, Platform: m.Platform, PropertyID: m.SenderID,
		Conversation: m.Conversation(tenant),
		CreatedAt:    createdAt.UnixMilli(), QueuedAt: queuedAt.UnixMilli(), ValidUntil: validUntil.UnixMilli(),
	}
}

// Complete reports whether the job names a message.
func (j Job) Complete() bool {
	return j.Tenant != "" && j.OttRequestID != "" && j.Platform != "" && j.PropertyID != "" &&
		j.Conversation != "" && j.ValidUntil > 0
}
