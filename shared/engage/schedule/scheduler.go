// Package schedule brings the chunks of pushes to the delivery queue when it is time.
package schedule

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
)

const (
	// duePage is how many due pushes of a partition are read at a time.
	duePage = 50
	// sweepMargin is what is left of the function's time when a sweep ends; the next one goes on with the oldest.
	sweepMargin   = 5 * time.Second
	pushesAtOnce  = 8
	sweepsAtWorst = 50 * time.Second // without a deadline
	// setback is less than the time between two sweeps.
	setback = 30 * time.Second
	// indexLag is waited where the index shows only what was looked at a moment ago: DynamoDB's global indexes follow
	// their table, as a rule within a fraction of a second.
	indexLag = 500 * time.Millisecond
)

// Scheduler serves EventBridge's every minute: it enqueues what is due, and again what was committed and not finished.
type Scheduler struct {
	Pushes *store.Pushes
	Queue  *Queue
	Clock  clock.Clock
	Log    *slog.Logger
}

// Sweep works through the due index, oldest first, a page of each partition at a time, until nothing is due or its time
// is over. It returns an error if it could not read the index, or enqueue any push of a page; the next sweep tries
// again.
func (s *Scheduler) Sweep(ctx context.Context) error {
	end := s.Clock.Now().Add(sweepsAtWorst)
	if deadline, ok := ctx.Deadline(); ok {
		end = deadline.Add(-sweepMargin)
	}
	backlog, err := s.Queue.HasBacklog(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "whether jobs wait is unknown", "error", err)
	}
	var done tally
	var group errgroup.Group // a partition that fails must not end the others
	for partition := range store.DuePartitions {
		group.Go(func() error { return s.sweepPartition(ctx, partition, end, backlog, &done) })
	}
	err = group.Wait()
	s.Log.InfoContext(ctx, "sweep", "pushes", done.pushes.Load(), "jobs", done.jobs.Load())
	return err
}

// tally is what a sweep has done.
type tally struct{ pushes, jobs atomic.Int64 }

func (s *Scheduler) sweepPartition(
	ctx context.Context, partition int, end time.Time, backlog bool, done *tally,
) error {
	for s.Clock.Now().Before(end) {
		ids, err := s.Pushes.Due(ctx, partition, s.Clock.Now(), duePage)
		if err != nil || len(ids) == 0 {
			return err
		}
		var failed, looked atomic.Int64
		var group errgroup.Group
		group.SetLimit(pushesAtOnce)
		for _, id := range ids {
			group.Go(func() error {
				isDue, jobs, err := s.look(ctx, id, backlog)
				switch {
				case err != nil:
					// One push that fails must not hold up the others.
					failed.Add(1)
					s.Log.ErrorContext(ctx, "a push could not be enqueued", "pushId", id, "error", err)
				case isDue:
					looked.Add(1)
					done.pushes.Add(1)
					done.jobs.Add(int64(jobs))
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		switch {
		case looked.Load() > 0:
		case failed.Load() > 0:
			return fault.New(fault.Unavailable, "no due push could be enqueued")
		default:
			if err := s.Clock.Sleep(ctx, indexLag); err != nil {
				return err
			}
		}
	}
	return nil
}

// look sends a job for each chunk of a push whose job is not on its way, and says when to look again. In this order: a
// sweep that dies in between leaves the push due, and jobs that come twice do nothing. It reports whether the push is
// due, as the index said, and how many jobs there were.
func (s *Scheduler) look(ctx context.Context, id string, backlog bool) (isDue bool, jobs int, err error) {
	now := s.Clock.Now()
	meta, err := s.Pushes.Meta(ctx, "", id)
	switch {
	case fault.Is(err, fault.NotFound):
		return false, 0, nil // expired
	case err != nil:
		return false, 0, err
	case meta.DueAt.IsZero() || meta.DueAt.After(now):
		return false, 0, nil
	case meta.Finished():
		return true, 0, s.Pushes.Close(ctx, id)
	}
	first, again := engage.Outstanding(meta, now, backlog)
	var enqueued time.Time
	if len(first)+len(again) > 0 {
		enqueued = now
	}
	if err := errors.Join(s.Queue.Send(ctx, first...), s.Queue.SendAgain(ctx, again...)); err != nil {
		// Behind the others: the next sweep tries again.
		return true, 0, errors.Join(err, s.Pushes.Postpone(ctx, id, meta.DueAt, now.Add(setback), time.Time{}))
	}
	err = s.Pushes.Postpone(ctx, id, meta.DueAt, engage.NextLook(now, meta.NotBefore), enqueued)
	return true, len(first) + len(again), fault.Ignore(err, fault.Conflict)
}
