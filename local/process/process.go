// Package process runs child processes that end with the one that started them, however that one ends.
package process

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// outputGrace is how long the output of a dead process is waited for: a grandchild may hold the pipe open.
const outputGrace = time.Second

// Spec says what to run.
type Spec struct {
	// Path is the executable, Args what follows it.
	Path string
	Args []string
	// Env is the whole environment; nil means none of the parent's either.
	Env []string
	// Dir is the working directory.
	Dir string
	// Output takes standard output and standard error, nil drops them.
	Output io.Writer
}

// Process is a child in a process group of its own, so that Ctrl-C in a terminal reaches only the parent and
// the parent decides in which order its children end. Its methods are safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex // held while signalling: a reaped child's number may be someone else's
	gone bool
	err  error
}

// Start runs a process. On Linux the kernel kills it when this process dies, by kill -9 too.
func Start(spec Spec) (*Process, error) {
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = spec.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Dir = spec.Dir
	cmd.Stdout, cmd.Stderr = spec.Output, spec.Output
	cmd.WaitDelay = outputGrace
	cmd.SysProcAttr = attributes()
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Path, err)
	}
	return p, nil
}

// run keeps its thread until the child is dead: Linux sends the parent-death signal when the thread that
// started the child ends, not the process.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = p.cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	p.mu.Lock()
	p.gone, p.err = true, err
	p.mu.Unlock()
	close(p.done)
}

// PID is the process's number, and its group's.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how the process ended, as in "exit status 1" or "signal: killed". It is empty while it runs.
func (p *Process) Exit() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.gone:
		return ""
	case p.err != nil:
		return p.err.Error()
	}
	return "exit status 0"
}

// Kill ends the process and its group at once and waits until it is gone.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end (SIGTERM) and kills it after the grace period. It returns when it is gone.
func (p *Process) Stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.Kill()
	}
}

func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		// The only error is that it has just ended by itself.
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}
