package samlocal

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

const (
	repository = "public.ecr.aws/lambda/provided"
	// pullTimeout bounds the attempt to fetch the real image: where no registry can be reached, that shows early.
	pullTimeout = 90 * time.Second
)

// Architecture is the template's name for the architecture of this machine.
func Architecture() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}

// BaseImage makes sure that the engine has Lambda's base image: it is there, or it is pulled, or, where no registry can
// be reached, a stand-in takes its name: a static busybox is all that the SAM CLI needs below the runtime interface
// emulator that it adds itself. Release takes the stand-in away again, so that nobody mistakes it for Lambda's image.
func BaseImage(ctx context.Context, say func(string)) (release func(), err error) {
	tags := []string{repository + ":al2023", repository + ":al2023-" + Architecture()}
	lambdas := tags[1]
	if _, err := docker(ctx, nil, "image", "inspect", "--format", "{{.Id}}", lambdas); err == nil {
		return func() {}, nil
	}
	say("pulling " + lambdas)
	pulling, cancel := context.WithTimeout(ctx, pullTimeout)
	_, err = docker(pulling, nil, "pull", "--quiet", lambdas)
	cancel()
	if err == nil {
		return func() {}, nil
	}
	say("no registry can be reached; a stand-in takes the image's place")
	root, err := busyboxRoot()
	if err != nil {
		return nil, err
	}
	id, err := docker(ctx, root, "import", "--change", "ENV PATH=/bin LAMBDA_TASK_ROOT=/var/task", "-")
	if err != nil {
		return nil, err
	}
	// What the SAM CLI builds on top is named like this; it would outlive its base and be taken for the real one's.
	rapid := repository + ":al2023-rapid-" + Architecture()
	release = func() {
		for _, image := range append([]string{rapid}, tags...) {
			_, _ = docker(context.WithoutCancel(ctx), nil, "image", "rm", "--force", image)
		}
	}
	for _, tag := range tags {
		if _, err := docker(ctx, nil, "tag", id, tag); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// busyboxRoot is the tar of a root file system that holds a busybox and the names by which it is called.
func busyboxRoot() ([]byte, error) {
	const advice = "install a static busybox (apt-get install busybox-static)"
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("no busybox for the stand-in image: %s", advice)
	}
	program, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", path, err, advice)
	}
	libraries, err := program.ImportedLibraries()
	if err := errors.Join(err, program.Close()); err != nil || len(libraries) > 0 {
		return nil, fmt.Errorf("%s needs shared libraries (%v, %w): %s", path, libraries, err, advice)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	for _, folder := range []string{"bin/", "tmp/", "opt/", "var/", "var/task/", "var/runtime/"} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o777}))
	}
	err = errors.Join(
		err,
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755, Size: int64(len(binary))}),
	)
	if err == nil {
		_, err = w.Write(binary)
	}
	for _, name := range []string{"sh", "mv", "chmod", "ls", "cat"} {
		err = errors.Join(
			err,
			w.WriteHeader(
				&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777},
			),
		)
	}
	return root.Bytes(), errors.Join(err, w.Close())
}

// docker runs a docker command and returns what it printed. The error of one that fails holds what it complained of.
func docker(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Engine says why there is no Docker engine to run containers with; nil if there is one.
func Engine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := docker(ctx, nil, "info", "--format", "{{.ServerVersion}}")
	return err
}
