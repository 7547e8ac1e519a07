package emulator

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"carillon/local/process"
)

// The pinned versions. What moto needs for Secrets Manager, SQS, SES and EventBridge is in requirements.txt; the extra
// moto[server] would bring three times as much, for services that nothing here uses.
const (
	dynoxideVersion = "1.2.1"
	motoVersion     = "5.2.5"
)

//go:embed requirements.txt
var requirements string

const (
	// marker is the file that says what a folder holds; without it the folder is half an installation.
	marker = ".installed"
	// lockRetry is how often a run that waits for another one's installation looks again.
	lockRetry = 200 * time.Millisecond
	// heartbeat is how often a long installation says that it is still at it.
	heartbeat = 10 * time.Second
)

// Tools are the installed emulators.
type Tools struct {
	dynoxide string // the executable
	python   string // of the virtual environment that has moto
}

// tool is one thing to install: a folder under the tools' own, whose marker must hold exactly version.
type tool struct {
	name, folder, version, hint string
	needs                       []string
	install                     func(ctx context.Context, into string) error
}

// Install puts the emulators under dir unless they are there at the pinned versions. It is atomic, and runs side by
// side wait for each other. It says through say what it does. Its error names everything that is missing on this
// machine and how to get it, or hold the end of the failing installer's output.
func Install(ctx context.Context, dir string, say func(string)) (Tools, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Tools{}, err
	}
	all, tools, err := pinned(dir)
	if err != nil {
		return Tools{}, err
	}
	if len(missing(dir, all)) == 0 {
		return tools, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Tools{}, fmt.Errorf("making the tools' folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, ".lock"), say)
	if err != nil {
		return Tools{}, err
	}
	defer unlock()
	rest := missing(dir, all) // another run may have installed them while this one waited
	if err := prerequisites(rest); err != nil {
		return Tools{}, err
	}
	errs := make([]error, len(rest))
	var group sync.WaitGroup
	for i, t := range rest {
		group.Go(func() { errs[i] = t.installInto(ctx, dir, say) })
	}
	group.Wait()
	return tools, errors.Join(errs...)
}

// Prerequisites names everything that is missing on this machine to install what is not yet installed under dir, and
// how to get it; nil when nothing is.
func Prerequisites(dir string) error {
	all, _, err := pinned(dir)
	if err != nil {
		return err
	}
	return prerequisites(missing(dir, all))
}

// pinned is everything to install under dir, and where it will be.
func pinned(dir string) ([]tool, Tools, error) {
	platform, err := npmPlatform()
	if err != nil {
		return nil, Tools{}, err
	}
	npmPackage := "@dynoxide/" + platform
	all := []tool{
		{
			name:    "dynoxide " + dynoxideVersion + " (DynamoDB)",
			folder:  "dynoxide",
			version: npmPackage + "@" + dynoxideVersion,
			hint:    "from npm, a few seconds",
			needs:   []string{"npm"},
			install: func(ctx context.Context, into string) error {
				return run(
					ctx,
					"npm",
					"install",
					"--prefix",
					into,
					"--no-save",
					"--no-package-lock",
					"--no-audit",
					"--no-fund",
					"--ignore-scripts",
					"--loglevel=error",
					npmPackage+"@"+dynoxideVersion,
				)
			},
		},
		{
			name:    "moto " + motoVersion + " (Secrets Manager and the rest of AWS)",
			folder:  "moto",
			version: requirements,
			hint:    "from PyPI, about a minute",
			needs:   []string{"python3"},
			install: installMoto,
		},
	}
	return all, Tools{
		dynoxide: filepath.Join(dir, "dynoxide", "node_modules", filepath.FromSlash(npmPackage), "dynoxide"),
		python:   filepath.Join(dir, "moto", "bin", "python"),
	}, nil
}

func npmPlatform() (string, error) {
	arch, ok := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if !ok || runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		return "", fmt.Errorf(
			"there is no dynoxide for %s/%s: the local run needs Linux or macOS on x86-64 or arm64",
			runtime.GOOS,
			runtime.GOARCH,
		)
	}
	return runtime.GOOS + "-" + arch, nil
}

func missing(dir string, all []tool) []tool {
	var rest []tool
	for _, t := range all {
		held, err := os.ReadFile(filepath.Join(dir, t.folder, marker))
		if err != nil || string(held) != t.version {
			rest = append(rest, t)
		}
	}
	return rest
}

// howToGet says where each prerequisite comes from.
var howToGet = map[string]string{
	"npm":     "npm is missing: install Node.js 20 or newer (https://nodejs.org, or your system's package nodejs with npm)",
	"python3": "python3 is missing: install Python 3.10 or newer with venv (https://python.org; on Debian and Ubuntu: apt-get install python3 python3-venv)",
}

func prerequisites(rest []tool) error {
	var errs []error
	for _, t := range rest {
		for _, program := range t.needs {
			if _, err := exec.LookPath(program); err != nil {
				errs = append(errs, errors.New(howToGet[program]))
			}
		}
	}
	return errors.Join(errs...)
}

func lock(ctx context.Context, path string, say func(string)) (unlock func(), err error) {
	fileLock := flock.New(path)
	held, err := fileLock.TryLock()
	if err == nil && !held {
		say("another run is installing, waiting for it")
		held, err = fileLock.TryLockContext(ctx, lockRetry)
	}
	if err != nil || !held {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { _ = fileLock.Unlock() }, nil
}

// installInto installs beside the tool's folder and renames, so that an interrupted installation is never taken for
// one.
func (t tool) installInto(ctx context.Context, dir string, say func(string)) error {
	say(fmt.Sprintf("installing %s, %s", t.name, t.hint))
	start := time.Now()
	stop := beat(func() { say(fmt.Sprintf("still installing %s (%d s)", t.name, int(time.Since(start).Seconds()))) })
	defer stop()
	temporary, err := os.MkdirTemp(dir, t.folder+"-*")
	if err != nil {
		return fmt.Errorf("installing %s: %w", t.name, err)
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	if err := t.install(ctx, temporary); err != nil {
		return fmt.Errorf("installing %s: %w", t.name, err)
	}
	final := filepath.Join(dir, t.folder)
	err = errors.Join(
		os.WriteFile(filepath.Join(temporary, marker), []byte(t.version), 0o644),
		os.Chmod(temporary, 0o755),
		os.RemoveAll(final),
		os.Rename(temporary, final),
	)
	if err != nil {
		return fmt.Errorf("installing %s: %w", t.name, err)
	}
	say(fmt.Sprintf("installed %s in %d s", t.name, int(time.Since(start).Seconds())))
	return nil
}

func beat(tick func()) (stop func()) {
	done := make(chan struct{})
	ticker := time.NewTicker(heartbeat)
	go func() {
		for {
			select {
			case <-ticker.C:
				tick()
			case <-done:
				ticker.Stop()
				return
			}
		}
	}()
	return func() { close(done) }
}

func installMoto(ctx context.Context, into string) error {
	if err := run(ctx, "python3", "-m", "venv", into); err != nil {
		return fmt.Errorf(
			"python3 cannot make a virtual environment (on Debian and Ubuntu: apt-get install python3-venv): %w",
			err,
		)
	}
	list := filepath.Join(into, "requirements.txt")
	if err := os.WriteFile(list, []byte(requirements), 0o644); err != nil {
		return err
	}
	return run(
		ctx,
		filepath.Join(into, "bin", "python"),
		"-m",
		"pip",
		"install",
		"--quiet",
		"--disable-pip-version-check",
		"-r",
		list,
	)
}

// run runs an installer with this process's environment; its error holds the end of its output.
func run(ctx context.Context, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	var output bytes.Buffer
	child, err := process.Start(process.Spec{Path: path, Args: args, Env: os.Environ(), Output: &output})
	if err != nil {
		return err
	}
	select {
	case <-child.Done():
	case <-ctx.Done():
		child.Kill()
		return ctx.Err()
	}
	if exit := child.Exit(); exit != "exit status 0" {
		return fmt.Errorf(
			"%s: %s\n%s",
			strings.Join(append([]string{name}, args...), " "),
			exit,
			lastLines(output.String(), 15),
		)
	}
	return nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
