// Package lambda runs a function's real binary the way AWS Lambda does: behind the Runtime API, one process
// per concurrent request, started cold on demand and kept warm, with Lambda's environment and limits.
package lambda

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"carillon/local/process"
	"carillon/local/trace"
)

// DefaultMaxProcesses is how many processes a function has at most unless its Config says otherwise.
const DefaultMaxProcesses = 16

// OutOfMemory is the Type of the FunctionError of an invocation whose process was killed because it had more memory
// than the function's MemorySize. Only Linux tells how much a process has; elsewhere none is killed for that.
//
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
const OutOfMemory = "Runtime.OutOfMemory"

// Lambda's own limits.
const (
	// MaxRequest and MaxResponse are the payloads' sizes in bytes.
	MaxRequest  = 6 << 20
	MaxResponse = 6<<20 + 100
	// memoryCheck is how often a busy process is looked at. What counts is the most that it ever had, so a peak between
	// two looks is seen by the next one.
	memoryCheck = 25 * time.Millisecond
	// initTimeout is how long a process may take until it first polls.
	initTimeout = 10 * time.Second
)

// What can go wrong with an invocation. A function that answers with an error of its own gives a FunctionError; so does
// one that is killed for its memory.
var (
	// ErrThrottled says that every process the function may have stayed busy.
	ErrThrottled = errors.New("rate exceeded: every process of the function is busy")
	// ErrTooLarge says that the request is above MaxRequest.
	ErrTooLarge = errors.New("request payload above Lambda's 6 MB")
	// ErrResponseTooLarge says that the answer was above MaxResponse.
	ErrResponseTooLarge = errors.New("response payload above Lambda's 6 MB")
	// ErrTimeout says that the function took longer than its Timeout; its process was killed.
	ErrTimeout = errors.New("task timed out")
	// ErrCrashed says that the process ended before it answered.
	ErrCrashed = errors.New("runtime exited")
	// ErrInit says that the process ended, failed or took too long before it first polled.
	ErrInit = errors.New("initialization failed")
	// ErrClosed says that the run is ending.
	ErrClosed = errors.New("the function is closed")
)

// FunctionError is an error that the function itself answered, or that Lambda answers as if it had: see OutOfMemory.
type FunctionError struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

// Error is both members.
func (e *FunctionError) Error() string { return e.Type + ": " + e.Message }

// Config describes a function.
type Config struct {
	// Name is what the function learns as its own name; Label precedes its lines in the run's log.
	Name, Label string
	// Bootstrap is the path of the executable.
	Bootstrap string
	Timeout   time.Duration
	// MemoryMB is the MemorySize. A process that has more resident memory during an invocation is killed, on Linux; 0
	// for no limit.
	MemoryMB int
	// LogFormat is Text or JSON, LogLevel may be empty.
	LogFormat, LogLevel string
	Region, AccountID   string
	// Environment is the function's own variables and the endpoints of what stands for AWS.
	Environment map[string]string
	// MaxProcesses bounds the requests served at once (default DefaultMaxProcesses); more wait.
	MaxProcesses int
	// IdleAfter is how long an unused process is kept (default 5 minutes).
	IdleAfter time.Duration
	// Log takes the run's log, a line at a time; it must be safe for concurrent use.
	Log func(line string)
}

// Function is a deployed function. Its methods are safe for concurrent use.
type Function struct {
	config Config
	slots  chan struct{}

	mu          sync.Mutex
	environment map[string]string
	generation  int // of the environment: a process of an older one is not used again
	all         map[*instance]struct{}
	idle        []*instance // the last one was used last, and is used next
	coldStarts  []time.Duration
	closed      bool
	running     sync.WaitGroup
}

// New makes a function; it starts no process yet.
func New(config Config) *Function {
	if config.MaxProcesses == 0 {
		config.MaxProcesses = DefaultMaxProcesses
	}
	if config.IdleAfter == 0 {
		config.IdleAfter = 5 * time.Minute
	}
	return &Function{
		config:      config,
		slots:       make(chan struct{}, config.MaxProcesses),
		environment: maps.Clone(config.Environment),
		all:         map[*instance]struct{}{},
	}
}

// Name is the function's name.
func (f *Function) Name() string { return f.config.Name }

// Label is what precedes the function's lines in the log.
func (f *Function) Label() string { return f.config.Label }

// Timeout is the longest an invocation may take.
func (f *Function) Timeout() time.Duration { return f.config.Timeout }

// MemoryMB is the function's MemorySize.
func (f *Function) MemoryMB() int { return f.config.MemoryMB }

// Invoke hands the payload to a process and returns its answer. The process gets the tracing header that ctx has
// (trace.With), with this invocation counted in its Lineage. When ctx ends first the invocation goes on, as it does on
// AWS when a caller hangs up. It returns ErrTooLarge, ErrThrottled, ErrInit, ErrTimeout, ErrCrashed,
// ErrResponseTooLarge, ErrClosed, a FunctionError (OutOfMemory among them), or ctx's error.
func (f *Function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if len(payload) > MaxRequest {
		return nil, ErrTooLarge
	}
	if err := f.slot(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		<-f.slots
		return nil, ErrClosed
	}
	f.running.Add(1)
	f.mu.Unlock()

	inv := newInvocation(payload, trace.From(ctx).Invoked(f.config.Name))
	go func() {
		defer f.running.Done()
		f.serve(inv)
	}()
	select {
	case <-inv.done:
		return inv.response, inv.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// slot waits for the right to use a process, at most as long as the function may run.
func (f *Function) slot(ctx context.Context) error {
	select {
	case f.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(f.config.Timeout)
	defer timer.Stop()
	select {
	case f.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrThrottled
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve finds or starts a process, lets it answer, and keeps it or buries it. The process is back in the pool
// before the caller has the answer, so that a next request finds it warm.
func (f *Function) serve(inv *invocation) {
	var response []byte
	inst, err := f.take()
	if err == nil {
		response, err = inst.serve(inv)
		f.release(inst)
	}
	<-f.slots
	if err != nil && !errors.Is(err, ErrClosed) {
		f.logf("RequestId: %s Error: %v", inv.id, err)
	}
	inv.finish(response, err)
}

func (f *Function) take() (*instance, error) {
	f.mu.Lock()
	for len(f.idle) > 0 {
		inst := f.idle[len(f.idle)-1]
		f.idle = f.idle[:len(f.idle)-1]
		inst.reaper.Stop()
		if inst.alive() {
			f.mu.Unlock()
			return inst, nil
		}
		f.forget(inst)
	}
	closed, generation, environment := f.closed, f.generation, maps.Clone(f.environment)
	f.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	return f.start(generation, environment)
}

// start runs a new process and waits until it polls for the first time.
func (f *Function) start(generation int, environment map[string]string) (*instance, error) {
	inst, err := newInstance(f, generation, environment)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.all[inst] = struct{}{}
	closed := f.closed
	f.mu.Unlock()
	if closed { // Close did not see this one
		inst.kill()
		return nil, ErrClosed
	}
	took, err := inst.waitForPoll()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		inst.kill()
		f.forget(inst)
		if f.closed {
			return nil, ErrClosed
		}
		return nil, err
	}
	f.coldStarts = append(f.coldStarts, took)
	f.logf("cold start in %.1f ms", float64(took.Microseconds())/1000)
	return inst, nil
}

func (f *Function) release(inst *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !inst.alive() || inst.generation != f.generation || f.closed {
		inst.kill()
		f.forget(inst)
		return
	}
	f.idle = append(f.idle, inst)
	inst.reaper = time.AfterFunc(f.config.IdleAfter, func() { f.reap(inst) })
}

// reap ends a process that nobody needed for a while.
func (f *Function) reap(inst *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.idle, inst); i >= 0 {
		f.idle = slices.Delete(f.idle, i, i+1)
		inst.kill()
		f.forget(inst)
	}
}

// forget drops a dead process; f.mu is held.
func (f *Function) forget(inst *instance) { delete(f.all, inst) }

// Kill ends every process of the function at once, busy ones in the middle of their work, as a lost host would.
// It returns how many there were. The next request starts a new one.
func (f *Function) Kill() int {
	f.mu.Lock()
	instances := slices.Collect(maps.Keys(f.all))
	f.mu.Unlock()
	n := 0
	for _, inst := range instances {
		if inst.alive() {
			n++
		}
		inst.kill()
	}
	return n
}

// SetEnvironment overlays variables of the function from its next request on; an empty value removes one.
// A process that runs with the old ones answers the request it has and is not used again.
func (f *Function) SetEnvironment(variables map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation++
	for name, value := range variables {
		if value == "" {
			delete(f.environment, name)
			continue
		}
		f.environment[name] = value
	}
	for _, inst := range f.idle {
		inst.reaper.Stop()
		inst.kill()
		f.forget(inst)
	}
	f.idle = nil
}

// Environment returns the variables that the function's next process gets from the template and SetEnvironment.
func (f *Function) Environment() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.environment)
}

// ColdStarts returns the time from exec to first poll of every process started so far, oldest first.
func (f *Function) ColdStarts() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.coldStarts)
}

// Processes returns the process numbers that are alive now.
func (f *Function) Processes() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var pids []int
	for inst := range f.all {
		if inst.alive() {
			pids = append(pids, inst.process.PID())
		}
	}
	slices.Sort(pids)
	return pids
}

// Close ends every process and returns when all are gone.
func (f *Function) Close() {
	f.mu.Lock()
	f.closed = true
	for _, inst := range f.idle {
		inst.reaper.Stop()
	}
	f.idle = nil
	f.mu.Unlock()
	f.Kill()
	f.running.Wait()
}

func (f *Function) logf(format string, args ...any) {
	f.config.Log(f.config.Label + " | " + fmt.Sprintf(format, args...))
}

// variables is the whole environment of a process, as Lambda sets it. The credentials are nobody's.
func (f *Function) variables(runtimeAPI string, environment map[string]string) []string {
	c := f.config
	all := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          runtimeAPI,
		"AWS_LAMBDA_FUNCTION_NAME":        c.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(c.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + c.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      "local",
		"AWS_LAMBDA_LOG_FORMAT":           c.LogFormat,
		"AWS_REGION":                      c.Region,
		"AWS_DEFAULT_REGION":              c.Region,
		"AWS_ACCESS_KEY_ID":               "local",
		"AWS_SECRET_ACCESS_KEY":           "local",
		"AWS_SESSION_TOKEN":               "local",
		"_HANDLER":                        "bootstrap",
		"LAMBDA_TASK_ROOT":                filepath.Dir(c.Bootstrap),
		"LAMBDA_RUNTIME_DIR":              filepath.Dir(c.Bootstrap),
		"LANG":                            "en_US.UTF-8",
		"PATH":                            "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"TZ":                              ":UTC",
	}
	if c.LogLevel != "" {
		all["AWS_LAMBDA_LOG_LEVEL"] = c.LogLevel
	}
	maps.Copy(all, environment)
	list := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, name+"="+all[name])
	}
	return list
}

// spec says how to run one process whose Runtime API is at the address.
func (f *Function) spec(runtimeAPI string, environment map[string]string, output *process.Lines) process.Spec {
	return process.Spec{
		Path:   f.config.Bootstrap,
		Env:    f.variables(runtimeAPI, environment),
		Dir:    filepath.Dir(f.config.Bootstrap),
		Output: output,
	}
}
