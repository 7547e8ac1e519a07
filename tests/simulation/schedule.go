package simulation

import (
	"context"
	"time"
)

// schedule is EventBridge Scheduler: it has engage-schedule sweep every minute, more or less.
func (w *world) schedule() {
	f := &w.scenario.faults
	offset := w.dice("schedule").between(0, time.Minute)
	next := beginning.Add(offset)
	for n := 0; ; n++ {
		if sleep(w.ctx, time.Until(next)) != nil {
			return
		}
		next = next.Add(time.Minute)
		d := w.dice("sweep", itoa(n))
		missed, twice, killed := d.chance(f.sweepMissed), d.chance(f.sweepTwice), d.chance(f.sweepKilled)
		killedAfter, again := d.between(0, 100*time.Millisecond), d.between(0, 3*time.Second)
		late := d.between(0, 8*time.Second)
		if !d.chance(f.sweepLate) {
			late = 0
		}
		if missed {
			w.hitAll("a sweep is missed")
			continue
		}
		w.start(func() { w.sweep(n, late, killed, killedAfter) })
		if twice {
			w.start(func() { w.sweep(n, late+again, false, 0) })
		}
	}
}

func (w *world) sweep(n int, late time.Duration, killed bool, killedAfter time.Duration) {
	if sleep(w.ctx, late) != nil {
		return
	}
	err := w.invoke(kindSchedule, w.dice("sweep id", itoa(n)).uuid(), nil, func(ctx context.Context, p *process) {
		if killed {
			w.start(func() {
				if sleep(ctx, killedAfter) == nil {
					p.kill("in the middle of a sweep")
				}
			})
		}
		if err := p.sweep(ctx); err != nil && ctx.Err() == nil {
			w.hitAll("a sweep fails: %v", err)
		}
	})
	if err != nil && w.ctx.Err() == nil {
		w.say("", "sweep: %v", err)
	}
}
