package engage

import "time"

// Job says that a chunk is to be sent: what the delivery queue holds. A job that is lost is sent again by
// engage-schedule, one that comes twice finds the chunk claimed.
type Job struct {
	RequestID string `json:"requestId"`
	Chunk     int    `json:"chunk"`
	NotBefore int64  `json:"notBefore"` // epoch ms: not to be sent before
	Tries     int    `json:"tries"`     // POSTs that failed, for the backoff
}

// NewJob returns the job of a chunk that is to be sent at notBefore.
func NewJob(requestID string, chunk int, notBefore time.Time) Job {
	return Job{RequestID: requestID, Chunk: chunk, NotBefore: Millis(notBefore)}
}

// Complete reports whether the job names a chunk. It makes Job a messagebatch.Job.
func (j Job) Complete() bool { return j.RequestID != "" && j.Chunk >= 0 }

// DueAt is when the chunk is to be sent.
func (j Job) DueAt() time.Time { return time.UnixMilli(j.NotBefore) }
