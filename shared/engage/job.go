package engage

import (
	"time"

	"carillon/shared/rounds"
)

// Job says that a chunk is to be sent: what the two queues of engage-deliver hold. It is a hint and no more: what is to
// be done, the pushes table says. A job that is lost is sent again by engage-schedule; one that comes twice, or comes
// after another has taken its place, finds that nothing is left to do.
type Job struct {
	RequestID string `json:"requestId"`
	Chunk     int    `json:"chunk"`
	Tenant    string `json:"tenant"`    // whose push it is: the queues are fair by tenant
	NotBefore int64  `json:"notBefore"` // epoch ms: when the chunk is to be sent
	// Refusals is how often in a row it could not be sent, for want of a permit or of a signing secret.
	Refusals int `json:"refusals,omitzero"`
	// Failures is how often in a row it met a fault of AWS's or ours.
	Failures int `json:"failures,omitzero"`
	// Again says that the job is in the queue of what is sent again.
	Again  bool         `json:"again,omitzero"`
	Rounds rounds.Count `json:"rounds,omitzero"`
}

// NewJob returns the job of a chunk that is to be sent at a time.
func NewJob(tenant, requestID string, chunk int, at time.Time) Job {
	return Job{RequestID: requestID, Chunk: chunk, Tenant: tenant, NotBefore: Millis(at)}
}

// Complete reports whether the job names a chunk. It makes Job a messagebatch.Job.
func (j Job) Complete() bool { return j.RequestID != "" && j.Chunk >= 0 && j.Rounds >= 0 }

// DueAt is when the chunk is to be sent.
func (j Job) DueAt() time.Time { return time.UnixMilli(j.NotBefore) }

// At returns the job for another time.
func (j Job) At(at time.Time) Job {
	j.NotBefore = Millis(at)
	return j
}

// Next returns the job as it is sent on by who received it. It returns rounds.ErrTooMany if that was done too often:
// engage-schedule sends the chunk anew.
func (j Job) Next() (Job, error) {
	var err error
	j.Rounds, err = j.Rounds.Next()
	return j, err
}
