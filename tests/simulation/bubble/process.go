package bubble

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"carillon/shared/awsconfig"
)

// Process is a running instance of a function: its own clients, caches and clock. It serves one event at a time.
type Process struct {
	World  *World
	Kind   string // the function
	ID     string
	Clock  SkewedClock
	Serves any // what World.Start makes of it

	ctx     context.Context //nolint:containedctx // over when the process is
	stop    context.CancelFunc
	mu      sync.Mutex
	dead    bool
	serving []string // the ids that it is at
}

// ErrKilled is the result of an invocation whose process died.
var ErrKilled = errors.New("the process died")

// Take returns the process of a function that was used last and is idle, or a new one. Who takes several at the same
// time does so in one goroutine, so that the seed says which is for what.
func (w *World) Take(kind string) (p *Process, isNew bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if idle := w.pools[kind]; len(idle) > 0 {
		p, w.pools[kind] = idle[len(idle)-1], idle[:len(idle)-1]
		return p, false
	}
	n := w.seen["process "+kind]
	w.seen["process "+kind]++
	p = &Process{World: w, Kind: kind, ID: kind + "-" + strconv.Itoa(n)}
	if skew := w.Faults.Skew; skew > 0 {
		p.Clock.Skew = Throw(w.Seed, "skew", p.ID).Between(-skew, skew)
	}
	p.ctx, p.stop = context.WithCancel(w.Ctx)
	w.Start(p)
	return p, true
}

// Invoke has a process of a function serve something. It returns ErrKilled if the process dies meanwhile, by a fault or
// by the function's time-out.
func (w *World) Invoke(kind, lambdaID string, serving []string, serve func(ctx context.Context, p *Process)) error {
	p, isNew := w.Take(kind)
	return w.InvokeProcess(p, isNew, lambdaID, serving, serve)
}

// InvokeProcess is Invoke with a process that was taken.
func (w *World) InvokeProcess(
	p *Process, isNew bool, lambdaID string, serving []string, serve func(ctx context.Context, p *Process),
) error {
	if isNew {
		start := w.Dice("cold start", p.ID).Between(50*time.Millisecond, w.Faults.ColdStart)
		if err := Sleep(w.Ctx, start); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.serving = serving
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx, w.Timeouts[p.Kind])
	defer cancel()
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: lambdaID})
	done := make(chan struct{})
	w.Go(func() {
		defer close(done)
		serve(ctx, p)
	})
	select {
	case <-done:
	case <-ctx.Done():
		if p.ctx.Err() == nil {
			p.Kill("the function's time is over")
		}
	}
	p.mu.Lock()
	dead := p.dead
	p.serving = nil
	p.mu.Unlock()
	if dead {
		return ErrKilled
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pools[p.Kind] = append(w.pools[p.Kind], p)
	return nil
}

// Kill ends the process: nothing that it does from now on has an effect, and nobody hears of it.
func (p *Process) Kill(why string) {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.dead = true
	serving := p.serving
	p.mu.Unlock()
	for _, id := range serving {
		p.World.Hit(id, "%s dies: %s", p.ID, why)
	}
	if p.World.Died != nil {
		p.World.Died(p, why)
	}
	p.stop()
}

// Hit notes that the platform's trouble met the subject of an id, or, if the call that it met is of none, all that the
// process serves.
func (p *Process) Hit(id, format string, args ...any) {
	if _, known := p.World.Owner(id); known {
		p.World.Hit(id, format, args...)
		return
	}
	p.mu.Lock()
	serving := p.serving
	p.mu.Unlock()
	for _, id := range serving {
		p.World.Hit(id, format, args...)
	}
	if len(serving) == 0 {
		p.World.Say("", "fault: "+format, args...)
	}
}

// Serving returns the ids of what the process serves.
func (p *Process) Serving() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving
}

// IsDead reports whether the process has died.
func (p *Process) IsDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// Log returns the process's log, of warnings and worse: part of the trace where that is kept.
func (p *Process) Log() *slog.Logger {
	return slog.New(slog.NewTextHandler(logWriter{p}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// logWriter makes trace of what a process logs.
type logWriter struct{ process *Process }

// Write implements io.Writer.
func (l logWriter) Write(line []byte) (int, error) {
	if l.process.World.Traced {
		l.process.World.Say("", "log of %s: %s", l.process.ID, line)
	}
	return len(line), nil
}

// AWSConfig is the configuration of a function's clients, on a transport of the run, and with waits without jitter.
func AWSConfig(transport http.RoundTripper) aws.Config {
	config := awsconfig.New("us-east-1", credentials.NewStaticCredentialsProvider("test", "test", ""))
	config.HTTPClient = &http.Client{Transport: transport}
	config.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = 8
			o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
				return min(25*time.Millisecond<<min(attempt, 10), 2*time.Second), nil
			})
		})
	}
	return config
}
