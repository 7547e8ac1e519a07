package engage

import "time"

// How the times of a delivery fit together:
//
//   - A push that is due within EnqueueWithin has its jobs in the queue from the start, delayed until then. A later one
//     waits in the due index until enqueueAhead before its time, which is two sweeps of engage-schedule, one a minute.
//   - A job arrives WakeAhead early. Its receiver makes up for that; nothing makes up for a late one.
//   - Who receives it holds the chunk for LeaseTime, which is time for three POSTs.
//   - lookAgain is longer than that: a chunk whose process died can be claimed by the time that engage-schedule looks
//     again.
const (
	// WakeAhead is how long before its notBefore a chunk's job arrives: time to claim it and to build its body.
	WakeAhead = 2 * time.Second
	// LeaseTime is how long a claimed chunk is one process's own.
	LeaseTime = 25 * time.Second
	// EnqueueWithin is how far ahead a chunk can be enqueued: queue.MaxDelay.
	EnqueueWithin = 15 * time.Minute

	// lookAgain is how long engage-schedule lets a push alone whose chunks were enqueued.
	lookAgain = 30 * time.Second
	// enqueueAhead is how long before its notBefore engage-schedule takes a push from the due index: more than two of
	// its minutes, so that one sweep may fail.
	enqueueAhead = 150 * time.Second
)

// FirstDue returns when engage-schedule shall look at a push that is accepted now, and whether its chunks are to be
// enqueued at once, because SQS can delay them until its notBefore.
func FirstDue(now, notBefore time.Time) (due time.Time, enqueue bool) {
	if notBefore.Sub(now) <= EnqueueWithin {
		return NextLook(now, notBefore), true
	}
	return notBefore.Add(-enqueueAhead), false
}

// NextLook returns when engage-schedule shall look at a push again whose chunks are enqueued now.
func NextLook(now, notBefore time.Time) time.Time {
	if notBefore.After(now) {
		now = notBefore
	}
	return now.Add(lookAgain)
}

// Outstanding returns a job for each chunk that is to be sent and that no process holds.
func Outstanding(meta *Meta, now time.Time) []Job {
	var jobs []Job
	for i, chunk := range meta.Chunks {
		if chunk.Final == nil && !meta.IsCancelled(i) && !chunk.LeasedUntil.After(now) {
			jobs = append(jobs, NewJob(meta.RequestID, i, meta.NotBefore))
		}
	}
	return jobs
}
