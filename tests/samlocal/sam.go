package samlocal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	region = "us-east-1"
	// stopGrace is how long sam may take to remove its containers once it is interrupted.
	stopGrace = 30 * time.Second
	// startTimeout is how long it may take to listen.
	startTimeout = 2 * time.Minute
)

// CLI runs the SAM CLI on the bundle.
type CLI struct {
	// Path is the sam executable, Root the folder of template.yaml and samconfig.toml.
	Path, Root string
	// BuildDir is where `sam build` puts what it builds and the rest looks for it.
	BuildDir string
	// EnvVars is the file with the functions' variables.
	EnvVars string
	// AWS is where sam itself asks who is calling: an emulator, which answers at once.
	AWS string
	// Output gets what sam says.
	Output io.Writer
}

// Build builds every function for this machine's architecture.
func (c CLI) Build(ctx context.Context) error {
	cmd := c.command(ctx, "build", "--template-file", filepath.Join(c.Root, "template.yaml"), "--build-dir", c.BuildDir,
		"--parameter-overrides", "Architecture="+Architecture())
	cmd.Env = append(cmd.Env, "GOARCH="+map[string]string{"arm64": "arm64", "x86_64": "amd64"}[Architecture()])
	return run(cmd)
}

// Invoke runs one function on the event in a file and returns what it answered.
func (c CLI) Invoke(ctx context.Context, logicalID, eventFile string) ([]byte, error) {
	cmd := c.local(ctx, "invoke", logicalID, "--event", eventFile)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	err := run(cmd)
	return bytes.TrimSpace(stdout.Bytes()), err
}

// API is a running `sam local start-api`.
type API struct {
	// URL is its base URL.
	URL string

	cli    CLI
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// StartAPI starts `sam local start-api` on a port of 127.0.0.1 and returns when it listens. Port 0 is a free one.
func (c CLI) StartAPI(ctx context.Context, port int) (*API, error) {
	// A port that somebody else serves would look like this API.
	free, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("port %d is not free: %w", port, err)
	}
	port = free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	a := &API{URL: "http://" + address, cli: c, cancel: cancel, done: make(chan struct{})}
	cmd := c.local(
		running,
		"start-api",
		"--host",
		"127.0.0.1",
		"--port",
		strconv.Itoa(port),
		"--warm-containers",
		"LAZY",
	)
	cmd.Stdout = c.Output
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	go func() {
		a.err = cmd.Wait()
		close(a.done)
	}()
	timeout := time.After(startTimeout)
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			return a, conn.Close()
		}
		select {
		case <-a.done:
			cancel()
			return nil, fmt.Errorf("sam local start-api ended before it listened: %w", a.err)
		case <-timeout:
			a.Stop()
			return nil, fmt.Errorf("sam local start-api does not listen after %v", startTimeout)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Done is closed when the API ends.
func (a *API) Done() <-chan struct{} { return a.done }

// Stop ends the API and removes the containers it made.
func (a *API) Stop() {
	a.cancel()
	<-a.done
	a.cli.removeContainers()
}

// removeContainers removes what a sam that was stopped the hard way left: it mounts a folder of this build.
func (c CLI) removeContainers() {
	ctx := context.Background() // stopping is no part of what was cancelled
	folders, _ := filepath.Glob(filepath.Join(c.BuildDir, "*", "bootstrap"))
	for _, bootstrap := range folders {
		left, err := docker(ctx, nil, "ps", "--all", "--quiet", "--filter", "volume="+filepath.Dir(bootstrap))
		if err == nil && left != "" {
			_, _ = docker(ctx, nil, append([]string{"rm", "--force"}, strings.Fields(left)...)...)
		}
	}
}

func (c CLI) local(ctx context.Context, command string, args ...string) *exec.Cmd {
	return c.command(ctx, append([]string{
		// The overrides take every word up to the next option, so they do not stand last.
		"local",
		command,
		"--parameter-overrides",
		"Architecture=" + Architecture(),
		"--template-file",
		filepath.Join(c.BuildDir, "template.yaml"),
		"--env-vars",
		c.EnvVars,
		"--add-host",
		hostName + ":host-gateway",
		"--skip-pull-image",
	}, args...)...)
}

// command prepares sam with the project's samconfig.toml. It ends by an interrupt, so that sam can remove its
// containers.
func (c CLI) command(ctx context.Context, args ...string) *exec.Cmd {
	n := 1
	if args[0] == "local" {
		n = 2
	}
	args = append(
		append(append([]string{}, args[:n]...), "--config-file", filepath.Join(c.Root, "samconfig.toml")),
		args[n:]...)
	cmd := exec.CommandContext(ctx, c.Path, args...)
	cmd.Dir = c.Root
	cmd.Stderr = c.Output
	cmd.Env = append(
		os.Environ(),
		"AWS_DEFAULT_REGION="+region,
		"AWS_REGION="+region,
		"AWS_ACCESS_KEY_ID=local",
		"AWS_SECRET_ACCESS_KEY=local",
		"AWS_SESSION_TOKEN=",
		"AWS_ENDPOINT_URL="+c.AWS,
		"SAM_CLI_TELEMETRY=0",
		"NO_PROXY=127.0.0.1,localhost",
		"no_proxy=127.0.0.1,localhost",
	)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopGrace
	return cmd
}

func run(cmd *exec.Cmd) error {
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args[1:], " "), err)
	}
	return nil
}
