package lambda

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"carillon/local/process"
	"carillon/local/trace"
)

// runtimePath precedes every path of the Runtime API.
const runtimePath = "/2018-06-01/runtime/"

// invocation is one request on its way through a process.
type invocation struct {
	id      string
	payload []byte
	trace   trace.Header
	// answered takes what the process says about it, once.
	answered chan answer
	// done is closed after response and err are set.
	done     chan struct{}
	response []byte
	err      error
}

type answer struct {
	response []byte
	err      error
}

func newInvocation(payload []byte, header trace.Header) *invocation {
	return &invocation{
		id:       uuid.NewString(),
		payload:  payload,
		trace:    header,
		answered: make(chan answer, 1),
		done:     make(chan struct{}),
	}
}

func (i *invocation) finish(response []byte, err error) {
	i.response, i.err = response, err
	close(i.done)
}

// instance is one process of a function and the Runtime API that it alone talks to.
type instance struct {
	function   *Function
	generation int
	process    *process.Process
	server     *http.Server
	started    time.Time
	polled     chan time.Time // the first poll
	failed     chan error     // what the process says about its own initialization
	work       chan *invocation
	reaper     *time.Timer // set while idle, under the function's lock

	mu       sync.Mutex
	current  *invocation
	deadline time.Time
	first    bool
}

func newInstance(f *Function, generation int, environment map[string]string) (*instance, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the Runtime API: %w", err)
	}
	i := &instance{
		function:   f,
		generation: generation,
		polled:     make(chan time.Time, 1),
		failed:     make(chan error, 1),
		work:       make(chan *invocation),
		first:      true,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+runtimePath+"invocation/next", i.next)
	mux.HandleFunc("POST "+runtimePath+"invocation/{id}/response", i.response)
	mux.HandleFunc("POST "+runtimePath+"invocation/{id}/error", i.failure)
	mux.HandleFunc("POST "+runtimePath+"init/error", i.initFailure)
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = i.server.Serve(listener) }() // ends with Close

	output := process.NewLines(func(line string) { f.logf("%s", line) })
	i.started = time.Now()
	i.process, err = process.Start(f.spec(listener.Addr().String(), environment, output))
	if err != nil {
		_ = i.server.Close()
		return nil, fmt.Errorf("%w: %w", ErrInit, err)
	}
	go func() {
		<-i.process.Done()
		output.Flush()
		_ = i.server.Close()
	}()
	return i, nil
}

func (i *instance) alive() bool {
	select {
	case <-i.process.Done():
		return false
	default:
		return true
	}
}

func (i *instance) kill() { i.process.Kill() }

// waitForPoll returns how long the process took from exec until it asked for work.
func (i *instance) waitForPoll() (time.Duration, error) {
	timer := time.NewTimer(initTimeout)
	defer timer.Stop()
	select {
	case at := <-i.polled:
		return at.Sub(i.started), nil
	case err := <-i.failed:
		return 0, fmt.Errorf("%w: %w", ErrInit, err)
	case <-i.process.Done():
		return 0, fmt.Errorf("%w: the process ended before it asked for work: %s", ErrInit, i.process.Exit())
	case <-timer.C:
		return 0, fmt.Errorf("%w: the process did not ask for work within %v", ErrInit, initTimeout)
	}
}

// serve lets the process answer; after an error other than the function's own, or one of memory, it is dead.
func (i *instance) serve(inv *invocation) ([]byte, error) {
	timeout := i.function.config.Timeout
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	i.mu.Lock()
	i.current, i.deadline = inv, time.Now().Add(timeout)
	i.mu.Unlock()
	defer func() {
		i.mu.Lock()
		i.current = nil
		i.mu.Unlock()
	}()
	memory := time.NewTicker(memoryCheck)
	defer memory.Stop()
	work := i.work
	for {
		select {
		case work <- inv:
			work = nil
		case <-memory.C:
			if err := i.killLarge(); err != nil {
				return nil, err
			}
		case a := <-inv.answered:
			if err := i.killLarge(); err != nil {
				return nil, err
			}
			return a.response, a.err
		case <-i.process.Done():
			select { // it may have answered with its last breath
			case a := <-inv.answered:
				return a.response, a.err
			default:
			}
			return nil, fmt.Errorf("%w: %s", ErrCrashed, i.process.Exit())
		case <-timer.C:
			i.kill()
			return nil, fmt.Errorf("%w after %.2f seconds", ErrTimeout, timeout.Seconds())
		}
	}
}

// killLarge kills the process if it has had more memory than the function may have.
func (i *instance) killLarge() error {
	limit := int64(i.function.config.MemoryMB) << 20
	peak := i.process.PeakMemory()
	if limit == 0 || peak <= limit {
		return nil
	}
	i.kill()
	i.function.logf("the process had %.1f MB of memory: MemorySize is %d", float64(peak)/(1<<20), limit>>20)
	return &FunctionError{Type: OutOfMemory, Message: "Runtime exited with error: " + i.process.Exit()}
}

// next hands out work, and keeps the poll open until there is some.
func (i *instance) next(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	if i.first {
		i.first = false
		i.polled <- time.Now()
	}
	i.mu.Unlock()
	var inv *invocation
	select {
	case inv = <-i.work:
	case <-r.Context().Done():
		return
	}
	i.mu.Lock()
	deadline := i.deadline
	i.mu.Unlock()
	config := i.function.config
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(deadline.UnixMilli(), 10))
	h.Set(
		"Lambda-Runtime-Invoked-Function-Arn",
		fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", config.Region, config.AccountID, config.Name),
	)
	h.Set("Lambda-Runtime-Trace-Id", inv.trace.String())
	_, _ = w.Write(inv.payload) // a process that is gone is noticed by serve
}

func (i *instance) response(w http.ResponseWriter, r *http.Request) {
	inv := i.pending(w, r)
	if inv == nil {
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxResponse+1))
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "InvalidRequest")
	case len(body) > MaxResponse:
		i.settle(inv, answer{err: ErrResponseTooLarge})
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge")
	default:
		i.settle(inv, answer{response: body})
		accept(w)
	}
}

func (i *instance) failure(w http.ResponseWriter, r *http.Request) {
	if inv := i.pending(w, r); inv != nil {
		i.settle(inv, answer{err: functionError(r)})
		accept(w)
	}
}

func (i *instance) initFailure(w http.ResponseWriter, r *http.Request) {
	select {
	case i.failed <- functionError(r):
	default:
	}
	accept(w)
}

// pending finds the invocation that the path names, and refuses one that this process does not have.
func (i *instance) pending(w http.ResponseWriter, r *http.Request) *invocation {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current == nil || i.current.id != r.PathValue("id") {
		refuse(w, http.StatusBadRequest, "InvalidRequestID")
		return nil
	}
	return i.current
}

// settle takes the first answer; a process that answers twice is ignored the second time.
func (i *instance) settle(inv *invocation, a answer) {
	select {
	case inv.answered <- a:
	default:
	}
}

func functionError(r *http.Request) *FunctionError {
	e := &FunctionError{}
	body, _ := io.ReadAll(io.LimitReader(r.Body, MaxResponse))
	if err := json.Unmarshal(body, e); err != nil || e.Type == "" && e.Message == "" {
		e.Type, e.Message = r.Header.Get("Lambda-Runtime-Function-Error-Type"), "the function gave no description"
	}
	return e
}

func accept(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}

func refuse(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errorMessage":"refused","errorType":%q}`, kind)
}
