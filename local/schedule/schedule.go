// Package schedule invokes functions at a rate as EventBridge Scheduler does.
package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Function answers events; a *lambda.Function is one.
type Function interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
	Label() string
}

// Schedule says when a function is invoked, and with what.
type Schedule struct {
	// Name is the schedule's.
	Name string
	// Every is the time between two runs, and before the first one.
	Every time.Duration
	// Input is the payload; empty for the scheduler's own event.
	Input string
	// Disabled schedules run only when they are triggered.
	Disabled bool
	// Function is invoked. A run that fails is not repeated.
	Function Function
}

// Options describe the scheduler.
type Options struct {
	Region, AccountID string
	// Manual runs nothing until Resume.
	Manual bool
	// Log takes what went wrong, a line at a time; it must be safe for concurrent use.
	Log func(line string)
}

// Scheduler runs schedules until Close. Its methods are safe for concurrent use.
type Scheduler struct {
	options   Options
	schedules []Schedule
	ctx       context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup

	mu     sync.Mutex
	paused bool
}

// Start starts the schedules.
func Start(schedules []Schedule, options Options) *Scheduler {
	s := &Scheduler{options: options, schedules: schedules, paused: options.Manual}
	s.ctx, s.stop = context.WithCancel(context.Background())
	for _, schedule := range schedules {
		if !schedule.Disabled {
			s.running.Go(func() { s.run(schedule) })
		}
	}
	return s
}

// Close stops the schedules and returns when no invocation of theirs is waited for any more.
func (s *Scheduler) Close() {
	s.stop()
	s.running.Wait()
}

// Pause lets every run pass by until Resume; one under way goes on.
func (s *Scheduler) Pause() { s.set(true) }

// Resume lets the schedules run again, at the times that they would have without Pause.
func (s *Scheduler) Resume() { s.set(false) }

func (s *Scheduler) set(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = paused
}

// Trigger runs every schedule now, also one that is disabled, and returns when all have ended. It returns what the
// functions failed with, or ctx's error.
func (s *Scheduler) Trigger(ctx context.Context) error {
	errs := make([]error, len(s.schedules))
	var group sync.WaitGroup
	for i, schedule := range s.schedules {
		group.Go(func() { errs[i] = s.invoke(ctx, schedule, time.Now()) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// run invokes on time, whether or not an earlier run has ended, as the scheduler does.
func (s *Scheduler) run(schedule Schedule) {
	ticker := time.NewTicker(schedule.Every)
	defer ticker.Stop()
	for {
		select {
		case at := <-ticker.C:
			s.mu.Lock()
			paused := s.paused
			s.mu.Unlock()
			if paused {
				continue
			}
			s.running.Go(func() {
				if err := s.invoke(s.ctx, schedule, at); err != nil && s.ctx.Err() == nil {
					s.options.Log(fmt.Sprintf("%s | schedule: %v", schedule.Function.Label(), err))
				}
			})
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Scheduler) invoke(ctx context.Context, schedule Schedule, at time.Time) error {
	payload := []byte(schedule.Input)
	if schedule.Input == "" {
		var err error
		if payload, err = s.event(schedule, at); err != nil {
			return err
		}
	}
	if _, err := schedule.Function.Invoke(ctx, payload); err != nil {
		return fmt.Errorf("%s: %w", schedule.Name, err)
	}
	return nil
}

// event is what the scheduler sends where a schedule has no Input.
func (s *Scheduler) event(schedule Schedule, at time.Time) ([]byte, error) {
	return json.Marshal(map[string]any{
		"version":     "0",
		"id":          uuid.NewString(),
		"detail-type": "Scheduled Event",
		"source":      "aws.scheduler",
		"account":     s.options.AccountID,
		"time":        at.UTC().Format(time.RFC3339),
		"region":      s.options.Region,
		"resources": []string{
			fmt.Sprintf(
				"arn:aws:scheduler:%s:%s:schedule/default/%s",
				s.options.Region,
				s.options.AccountID,
				schedule.Name,
			),
		},
		"detail": "{}",
	})
}
