package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"carillon/local/process"
)

// builder builds functions the way SAM does, through make build-<logical id>, for this machine.
type builder struct {
	root string // has the Makefile
	dir  string // keeps what was built, so that building again is quick
	into string // this run's own links to it
}

const (
	// runFolder begins the name of a run's own folder under the build folder.
	runFolder = "run-"
	// runLock is the file in it that the run keeps locked for as long as it lives.
	runLock = ".lock"
)

// runDir makes this run's own folder and removes those of runs that were killed. It is beside what was built, on the
// same file system, so that links work. Close removes it.
func runDir(buildDir string) (dir string, lock *flock.Flock, err error) {
	if err := os.MkdirAll(buildDir, 0o755); err != nil {
		return "", nil, err
	}
	left, err := filepath.Glob(filepath.Join(buildDir, runFolder+"*", runLock))
	if err != nil {
		return "", nil, err
	}
	for _, path := range left {
		abandoned := flock.New(path)
		if held, err := abandoned.TryLock(); err == nil && held {
			_ = os.RemoveAll(filepath.Dir(path))
			_ = abandoned.Unlock()
		}
	}
	if dir, err = os.MkdirTemp(buildDir, runFolder+"*"); err != nil {
		return "", nil, err
	}
	lock = flock.New(filepath.Join(dir, runLock))
	if held, err := lock.TryLock(); err != nil || !held {
		return "", nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return dir, lock, nil
}

// prerequisites says everything that is missing to build.
func (b builder) prerequisites() error {
	var errs []error
	for _, p := range []struct{ program, hint string }{
		{"go", "go is missing: install Go 1.26 or newer (https://go.dev/dl)"},
		{"make", "make is missing: install GNU make (on Debian and Ubuntu: apt-get install make)"},
	} {
		if _, err := exec.LookPath(p.program); err != nil {
			errs = append(errs, errors.New(p.hint))
		}
	}
	return errors.Join(errs...)
}

// build builds every function and returns the executable of each. Runs side by side build one after the other, and each
// keeps its own link to the result: a later run's build changes nothing under a run that serves. The error of a build
// that fails holds the compiler's output.
func (b builder) build(ctx context.Context, ids []string) (map[string]string, error) {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(b.dir, ".lock"))
	if held, err := lock.TryLockContext(ctx, lockRetry); err != nil || !held {
		return nil, fmt.Errorf("waiting for another run's build: %w", err)
	}
	defer func() { _ = lock.Unlock() }()
	sources, err := b.fingerprint(ctx)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	bootstraps := map[string]string{}
	for _, id := range ids {
		bootstrap := filepath.Join(b.into, id, "bootstrap")
		bootstraps[id] = bootstrap
		group.Go(func() error {
			if err := b.one(ctx, id, sources); err != nil {
				return err
			}
			return keep(filepath.Join(b.dir, id, "bootstrap"), bootstrap)
		})
	}
	return bootstraps, group.Wait()
}

// fingerprint stands for all that a build depends on: every file of the project and the toolchain. The go command finds
// out by itself whether it has something to do, but takes half a second for each function.
func (b builder) fingerprint(ctx context.Context) (string, error) {
	sum := sha256.New()
	toolchain, err := exec.CommandContext(ctx, "go", "env",
		"GOVERSION", "GOFLAGS", "GOEXPERIMENT", "GOWORK", "GOAMD64", "GOARM64").
		Output()
	if err != nil {
		return "", fmt.Errorf("asking go for its version: %w", err)
	}
	sum.Write(toolchain)
	err = filepath.WalkDir(b.root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != b.root && (path == b.dir || strings.HasPrefix(entry.Name(), ".")):
			return filepath.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // an editor's file of a moment
			return nil
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n", path, len(raw))
		sum.Write(raw)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// built is the file beside a bootstrap that holds the fingerprint of what it was built from.
const built = ".built"

// one builds one function unless its sources are those it was last built from.
func (b builder) one(ctx context.Context, id, sources string) error {
	artifacts := filepath.Join(b.dir, id)
	mark := filepath.Join(artifacts, built)
	_, missing := os.Stat(filepath.Join(artifacts, "bootstrap"))
	if last, err := os.ReadFile(mark); err == nil && missing == nil && string(last) == sources {
		return nil
	}
	if err := os.MkdirAll(artifacts, 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(mark); err != nil {
		return err
	}
	var output bytes.Buffer
	path, err := exec.LookPath("make")
	if err != nil {
		return err
	}
	// The variables on make's command line override the Makefile's, which builds for Lambda.
	child, err := process.Start(process.Spec{
		Path: path,
		Args: []string{
			"--no-print-directory", "--silent", "build-" + id,
			"ARTIFACTS_DIR=" + artifacts, "GOOS=" + runtime.GOOS, "GOARCH=" + runtime.GOARCH,
		},
		Env: environWithout("MAKEFLAGS", "MAKELEVEL", "MFLAGS"), // of the make that runs us
		Dir: b.root, Output: &output,
	})
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
		return fmt.Errorf("%s does not build (%s):\n%s", id, exit, strings.TrimRight(output.String(), "\n"))
	}
	return os.WriteFile(mark, []byte(sources), 0o644)
}

// keep gives this run its own name for the built file, or a copy where there are no hard links.
func keep(bootstrap, own string) error {
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		return err
	}
	if err := os.Link(bootstrap, own); err == nil {
		return nil
	}
	raw, err := os.ReadFile(bootstrap)
	if err != nil {
		return fmt.Errorf("the build made no bootstrap: %w", err)
	}
	return os.WriteFile(own, raw, 0o755)
}

// environWithout is this process's environment without some variables.
func environWithout(names ...string) []string {
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		drop := false
		for _, n := range names {
			drop = drop || n == name
		}
		if !drop {
			env = append(env, variable)
		}
	}
	return env
}

var wordBreak = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// label is a function's folder, by its logical id: OauthTokenFunction is oauth-token.
func label(logicalID string) string {
	return strings.ToLower(wordBreak.ReplaceAllString(strings.TrimSuffix(logicalID, "Function"), "$1-$2"))
}
