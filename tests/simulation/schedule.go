package simulation

import (
	"context"
	"strconv"
	"time"

	"carillon/tests/simulation/bubble"
)

// schedule is EventBridge Scheduler: it has engage-schedule sweep every minute, more or less.
func (w *world) schedule() {
	f := &w.scenario.faults
	offset := w.Dice("schedule").Between(0, time.Minute)
	next := bubble.Beginning.Add(offset)
	for n := 0; ; n++ {
		if bubble.Sleep(w.Ctx, time.Until(next)) != nil {
			return
		}
		next = next.Add(time.Minute)
		d := w.Dice("sweep", strconv.Itoa(n))
		missed, twice, killed := d.Chance(f.sweepMissed), d.Chance(f.sweepTwice), d.Chance(f.sweepKilled)
		killedAfter, again := d.Between(0, 100*time.Millisecond), d.Between(0, 3*time.Second)
		late := d.Between(0, 8*time.Second)
		if !d.Chance(f.sweepLate) {
			late = 0
		}
		if missed {
			w.HitAll("a sweep is missed")
			continue
		}
		w.Go(func() { w.sweep(n, late, killed, killedAfter) })
		if twice {
			w.Go(func() { w.sweep(n, late+again, false, 0) })
		}
	}
}

func (w *world) sweep(n int, late time.Duration, killed bool, killedAfter time.Duration) {
	if bubble.Sleep(w.Ctx, late) != nil {
		return
	}
	err := w.Invoke(
		kindSchedule,
		w.Dice("sweep id", strconv.Itoa(n)).UUID(),
		nil,
		func(ctx context.Context, p *bubble.Process) {
			if killed {
				w.Go(func() {
					if bubble.Sleep(ctx, killedAfter) == nil {
						p.Kill("in the middle of a sweep")
					}
				})
			}
			if err := serves(p).sweep(ctx); err != nil && ctx.Err() == nil {
				w.HitAll("a sweep fails: %v", err)
			}
		},
	)
	if err != nil && w.Ctx.Err() == nil {
		w.Say("", "sweep: %v", err)
	}
}
