package engagetest

import (
	"context"
	"slices"
	"sync"

	"carillon/shared/engage"
)

// Jobs stand in for the two queues of engage-deliver, so that a test decides when a job comes. They are safe for
// concurrent use.
type Jobs struct {
	// Err is what sending fails with, if it is not nil.
	Err error

	mu      sync.Mutex
	waiting []engage.Job
}

// Send keeps jobs of chunks that were never claimed.
func (j *Jobs) Send(_ context.Context, jobs ...engage.Job) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.Err != nil {
		return j.Err
	}
	j.waiting = append(j.waiting, jobs...)
	return nil
}

// SendAgain keeps jobs of chunks that wait for another try.
func (j *Jobs) SendAgain(ctx context.Context, jobs ...engage.Job) error {
	for i := range jobs {
		jobs[i].Again = true
	}
	return j.Send(ctx, jobs...)
}

// Waiting returns the jobs that were sent and not taken, in the order in which they are due.
func (j *Jobs) Waiting() []engage.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	slices.SortStableFunc(j.waiting, func(a, b engage.Job) int { return a.DueAt().Compare(b.DueAt()) })
	return slices.Clone(j.waiting)
}

func (j *Jobs) take() (engage.Job, bool) {
	waiting := j.Waiting()
	if len(waiting) == 0 {
		return engage.Job{}, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = j.waiting[1:]
	return waiting[0], true
}
