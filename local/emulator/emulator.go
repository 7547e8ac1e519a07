// Package emulator installs and runs what stands for AWS on one machine: dynoxide for DynamoDB, moto for the rest.
// Both keep everything in memory, so every start is empty.
package emulator

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"carillon/local/process"
)

const (
	// startTimeout is how long an emulator may take until it answers; Python on a slow disk takes a while.
	startTimeout = 60 * time.Second
	// stopGrace is how long it may take to end by itself.
	stopGrace = 2 * time.Second
	// tailLines is how much of its log is shown when it dies.
	tailLines = 20
	// portTries bounds how often another port is tried: dynoxide cannot say which free port it took.
	portTries = 5
)

// AccountID is the AWS account that the emulators are: part of every ARN and of the queues' URLs.
const AccountID = "000000000000"

// motoFIFO is the Python that mends moto's FIFO queues, and motoLauncher a program that mends the rest and runs moto's
// server. They are one program, in this order.
var (
	//go:embed fifo.py
	motoFIFO string
	//go:embed moto.py
	motoLauncher string
)

// Set is the running emulators.
type Set struct {
	// DynamoDB and AWS are the endpoints, as in http://127.0.0.1:34567. AWS serves everything but DynamoDB.
	DynamoDB, AWS string

	children []*child
	died     chan error
	closing  chan struct{}
	once     sync.Once
}

// child is one emulator.
type child struct {
	name    string
	process *process.Process
	tail    *process.Tail
	lines   chan string // its log until it is ready
}

// Start runs both emulators on free ports of 127.0.0.1 and returns when both answer. On an error nothing is left
// running. The error of one that ends holds the end of its log.
func Start(ctx context.Context, tools Tools) (*Set, error) {
	s := &Set{died: make(chan error, 2), closing: make(chan struct{})}
	var dynamodb, moto *child
	var derr, merr error
	var group sync.WaitGroup
	group.Go(func() { dynamodb, s.DynamoDB, derr = startDynoxide(ctx, tools) })
	group.Go(func() { moto, s.AWS, merr = startMoto(ctx, tools) })
	group.Wait()
	for _, c := range []*child{dynamodb, moto} {
		if c != nil {
			s.children = append(s.children, c)
		}
	}
	if err := errors.Join(derr, merr); err != nil {
		s.Close()
		return nil, err
	}
	for _, c := range s.children {
		go s.watch(c)
	}
	return s, nil
}

// Died delivers an error when an emulator ends although nobody closed it.
func (s *Set) Died() <-chan error { return s.died }

// PIDs are the process numbers by name: dynoxide, moto.
func (s *Set) PIDs() map[string]int {
	pids := map[string]int{}
	for _, c := range s.children {
		pids[c.name] = c.process.PID()
	}
	return pids
}

// Close ends the emulators and returns when they are gone.
func (s *Set) Close() {
	s.once.Do(func() { close(s.closing) })
	var group sync.WaitGroup
	for _, c := range s.children {
		group.Go(func() { c.process.Stop(stopGrace) })
	}
	group.Wait()
}

func (s *Set) watch(c *child) {
	<-c.process.Done()
	select {
	case <-s.closing:
	default:
		s.died <- c.death()
	}
}

func (c *child) death() error {
	return fmt.Errorf(
		"the emulator %s ended (%s); the end of its log:\n%s",
		c.name,
		c.process.Exit(),
		indent(c.tail.String()),
	)
}

func indent(text string) string {
	if text == "" {
		return "  (nothing)"
	}
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

func start(name, path string, args ...string) (*child, error) {
	c := &child{name: name, tail: process.NewTail(tailLines), lines: make(chan string, 64)}
	output := process.NewLines(func(line string) {
		c.tail.Add(line)
		select {
		case c.lines <- line:
		default: // nobody reads once it is ready
		}
	})
	// Credentials or proxies of the person who runs this have no place in an emulator.
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8", "PYTHONUNBUFFERED=1",
		"MOTO_ACCOUNT_ID=" + AccountID,
		// AWS purges a queue once a minute; tests cannot wait for that.
		"MOTO_SQS_ENFORCE_STRICT_QUEUE_PURGE_BEHAVIOUR=false",
	}
	var err error
	c.process, err = process.Start(process.Spec{Path: path, Args: args, Env: env, Output: output})
	return c, err
}

// errPortTaken says that another process was quicker to take the port.
var errPortTaken = errors.New("the port was taken")

func startDynoxide(ctx context.Context, tools Tools) (*child, string, error) {
	for try := 1; ; try++ {
		port, err := freePort()
		if err != nil {
			return nil, "", err
		}
		c, err := start("dynoxide", tools.dynoxide, "--host", "127.0.0.1", "--port", strconv.Itoa(port))
		if err != nil {
			return nil, "", err
		}
		_, err = c.waitForLine(ctx, regexp.MustCompile(`listening on`))
		if err == nil {
			endpoint := fmt.Sprintf("http://127.0.0.1:%d", port)
			err = c.waitForAnswer(ctx, endpoint)
			return c, endpoint, err
		}
		c.process.Kill()
		if !errors.Is(err, errPortTaken) || try == portTries {
			return nil, "", err
		}
	}
}

var motoAddress = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

func startMoto(ctx context.Context, tools Tools) (*child, string, error) {
	c, err := start("moto", tools.python, "-c", motoFIFO+motoLauncher, "-H", "127.0.0.1", "-p", "0")
	if err != nil {
		return nil, "", err
	}
	found, err := c.waitForLine(ctx, motoAddress)
	if err != nil {
		return c, "", err
	}
	return c, found[1], c.waitForAnswer(ctx, found[1]+"/moto-api/data.json")
}

// waitForLine waits for the line that says that the emulator has its port.
func (c *child) waitForLine(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	for {
		select {
		case line := <-c.lines:
			if found := pattern.FindStringSubmatch(line); found != nil {
				return found, nil
			}
		case <-c.process.Done():
			if strings.Contains(c.tail.String(), "already in use") {
				return nil, fmt.Errorf("%w: %w", errPortTaken, c.death())
			}
			return nil, c.death()
		case <-timer.C:
			return nil, fmt.Errorf(
				"the emulator %s did not start within %v; its log:\n%s",
				c.name,
				startTimeout,
				indent(c.tail.String()),
			)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// waitForAnswer waits until the emulator answers HTTP, whatever it says.
func (c *child) waitForAnswer(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			return res.Body.Close()
		}
		select {
		case <-c.process.Done():
			return c.death()
		case <-ctx.Done():
			return fmt.Errorf("the emulator %s does not answer: %w; its log:\n%s", c.name, err, indent(c.tail.String()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}
