package engage

import (
	"time"

	"carillon/shared/clock"
)

// How the times of a delivery fit together:
//
//   - A push that is due within EnqueueWithin has its jobs in the queue from the start, delayed until then. A later one
//     waits in the due index until enqueueAhead before its time, which is two sweeps of engage-schedule, one a minute:
//     one of them may be missed or fail. A push that is due later than sweepAhead stays in the index until its jobs are
//     known to be in the queue, so that a sweep makes up for a failure of that too.
//   - A first job arrives WakeAhead early, up to a second more by SQS's whole seconds. Its receiver prepares the POST
//     and claims the chunk ClaimAhead before its time: until then it can be cancelled. Nothing makes up for a late one.
//   - A job that is more than MaxEarly early goes back to its queue. So a function's time holds MaxEarly, the lease and
//     what AWS's calls take.
//   - Who claims a chunk holds it for one POST: the gateway's time-out and LeaseMargin, of which ClockSkew is never
//     used for the POST itself. So neither another process nor a DELETE takes a POST for over that still goes on.
//   - lostAfter is how long a chunk may be overdue before engage-schedule takes its job for lost. It is less than
//     lookAgain, so the first look after notBefore finds it.
const (
	// WakeAhead is how long before its time the first job of a chunk arrives: time to read it and to build its body.
	WakeAhead = 2 * time.Second
	// ClaimAhead is how long before its time a chunk is claimed. docs/contract.md §2 allows a DELETE until 0.5 s
	// before.
	ClaimAhead = 400 * time.Millisecond
	// MaxEarly is how early a job may come and be slept out.
	MaxEarly = 5 * time.Second
	// LeaseMargin is how much longer than a POST a lease is.
	LeaseMargin = 6 * time.Second
	// ClockSkew is how far two clocks may be apart.
	ClockSkew = time.Second
	// EnqueueWithin is how far ahead a chunk can be enqueued: queue.MaxDelay.
	EnqueueWithin = 15 * time.Minute

	enqueueAhead = 150 * time.Second
	sweepAhead   = 75 * time.Second
	lostAfter    = 25 * time.Second
	lookAgain    = 30 * time.Second
	// lookAtLeast is how often engage-schedule looks at a push that is not final for long.
	lookAtLeast = 5 * time.Minute
	// backlogPatience is lostAfter where jobs wait in the queue for a function that has time for them: most of what is
	// overdue then is late, not lost.
	backlogPatience = 5 * time.Minute
)

// FirstDue returns when engage-schedule shall look at a push that is accepted now.
func FirstDue(now, notBefore time.Time) time.Time {
	switch ahead := notBefore.Sub(now); {
	case ahead > EnqueueWithin:
		return notBefore.Add(-enqueueAhead)
	case ahead > sweepAhead:
		return clock.Later(now, notBefore.Add(-enqueueAhead))
	default:
		return NextLook(now, notBefore)
	}
}

// NextLook returns when engage-schedule shall look at a push again whose chunks are in the queue now: the longer it is
// due, the less often, from half a minute to five.
func NextLook(now, notBefore time.Time) time.Time {
	const share = 8 // of the time that it has been due
	wait := min(max(now.Sub(notBefore)/share, lookAgain), lookAtLeast)
	return clock.Later(now, notBefore).Add(wait)
}

// Outstanding returns a job for each chunk that is to be sent and whose job is not known to be on its way: before
// notBefore, of all that nobody has claimed; after it, of what is overdue for so long that its job must be lost. Jobs
// of chunks that were never claimed are first, the others again. backlog says that jobs wait in the queues for a
// function that has time for them.
func Outstanding(meta *Meta, now time.Time, backlog bool) (first, again []Job) {
	patience := lostAfter
	if backlog {
		patience = max(backlogPatience, now.Sub(meta.NotBefore)/2)
	}
	for i, chunk := range meta.Chunks {
		if meta.IsEnded(i) {
			continue
		}
		since := chunk.Until
		if chunk.Phase == Unclaimed {
			since = meta.NotBefore
		}
		switch since = clock.Later(since, meta.EnqueuedAt); {
		case chunk.Phase == Unclaimed && now.Before(meta.NotBefore):
			first = append(first, NewJob(meta.Tenant, meta.RequestID, i, meta.NotBefore))
		case now.Sub(since) < patience:
		case chunk.Phase == Unclaimed:
			first = append(first, NewJob(meta.Tenant, meta.RequestID, i, now))
		default:
			again = append(again, NewJob(meta.Tenant, meta.RequestID, i, now))
		}
	}
	return first, again
}
