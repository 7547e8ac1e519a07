package engage

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"carillon/shared/fault"
)

const (
	// enqueueAhead is how long before its notBefore engage-schedule takes a push from the due index: more than two of its
	// minutes, so that one sweep may fail.
	enqueueAhead = 150 * time.Second
	// lookAgain is when engage-schedule looks at a push again whose chunks were enqueued: within the next sweep after a
	// chunk whose process died can be claimed again.
	lookAgain = 30 * time.Second
	duePage   = 50
	// sweepMargin is what is left of the function's time when a sweep ends; the next one goes on with the oldest.
	sweepMargin   = 5 * time.Second
	pushesAtOnce  = 8
	sweepsAtWorst = 50 * time.Second // without a deadline
)

// Scheduler serves EventBridge's every minute: it enqueues what is due, and again what was committed and not finished.
type Scheduler struct {
	Pushes *PushStore
	Queue  *DeliveryQueue
}

// FirstDue returns when engage-schedule shall look at a push that is accepted now, and whether its chunks are to be
// enqueued at once, because SQS can delay them until its notBefore.
func FirstDue(now, notBefore time.Time) (due time.Time, enqueue bool) {
	if notBefore.Sub(now) <= maxDelay {
		return later(now, notBefore).Add(lookAgain), true
	}
	return notBefore.Add(-enqueueAhead), false
}

// Sweep works through the due index, oldest first, a page of each partition at a time, until nothing is due or its time is
// over. It returns an error if it could not read the index, or enqueue any push of a page; the next sweep tries again.
func (s *Scheduler) Sweep(ctx context.Context) error {
	end := time.Now().Add(sweepsAtWorst)
	if deadline, ok := ctx.Deadline(); ok {
		end = deadline.Add(-sweepMargin)
	}
	var pushes, messages atomic.Int64
	var group errgroup.Group // a partition that fails must not end the others
	for partition := range duePartitions {
		group.Go(func() error { return s.sweepPartition(ctx, partition, end, &pushes, &messages) })
	}
	err := group.Wait()
	slog.InfoContext(ctx, "sweep", "pushes", pushes.Load(), "messages", messages.Load())
	return err
}

func (s *Scheduler) sweepPartition(ctx context.Context, partition int, end time.Time, pushes, messages *atomic.Int64) error {
	for time.Now().Before(end) {
		ids, err := s.Pushes.Due(ctx, partition, time.Now(), duePage)
		if err != nil || len(ids) == 0 {
			return err
		}
		var failed atomic.Int64
		var group errgroup.Group
		group.SetLimit(pushesAtOnce)
		for _, id := range ids {
			group.Go(func() error {
				count, err := s.enqueue(ctx, id)
				if err != nil {
					// One push that fails must not hold up the others.
					failed.Add(1)
					slog.ErrorContext(ctx, "a push could not be enqueued", "pushId", id, "error", err)
					return nil
				}
				pushes.Add(1)
				messages.Add(int64(count))
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if int(failed.Load()) == len(ids) {
			return fault.New(fault.Unavailable, "no due push could be enqueued")
		}
	}
	return nil
}

// enqueue leases a due push until its next look, and sends a message for each chunk that nobody is at. It returns how many.
func (s *Scheduler) enqueue(ctx context.Context, id string) (int, error) {
	now := time.Now()
	meta, err := s.Pushes.Meta(ctx, "", id)
	if fault.Is(err, fault.NotFound) {
		return 0, nil // expired
	}
	if err != nil {
		return 0, err
	}
	if meta.Finished() {
		return 0, s.Pushes.Close(ctx, id)
	}
	meta, err = s.Pushes.Postpone(ctx, id, now, later(now, meta.NotBefore).Add(lookAgain))
	if err != nil {
		return 0, ignoreConflict(err)
	}
	messages := outstanding(meta, now)
	return len(messages), s.Queue.Send(ctx, now, messages...)
}

// outstanding returns a message for each chunk that is to be sent and that no process holds.
func outstanding(meta *Meta, now time.Time) []Message {
	var messages []Message
	for i, chunk := range meta.Chunks {
		if chunk.Final != nil || meta.cancelled(chunk) || chunk.LeasedUntil.After(now) {
			continue
		}
		messages = append(messages, Message{RequestID: meta.RequestID, Chunk: i, NotBefore: millis(meta.NotBefore)})
	}
	return messages
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
