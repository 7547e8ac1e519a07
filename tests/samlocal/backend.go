// Package samlocal runs the bundle under `sam local`, in Docker, against the emulators of the local run: what the SAM
// CLI does with template.yaml, samconfig.toml and events/ is then seen to work rather than believed to.
package samlocal

import (
	"context"
	"encoding/json"
	"os"
	"strings"

	"carillon/local"
	"carillon/local/standin"
)

// Backend is all that the functions need: the emulators and stand-ins of a local run, provisioned, each reachable from
// a container.
type Backend struct {
	// Environment is the functions' variables by logical id, as `sam local --env-vars` takes them.
	Environment map[string]map[string]string
	// Values are what FillEvent puts into the events: the members of the run's demo.json, such as ott.clientSecret.
	Values map[string]string
	// AWS is the emulators' endpoint on loopback.
	AWS string

	bundle    *local.Bundle
	forwarder *Forwarder
}

// NewBackend starts it for the bundle in root. On an error nothing is left running.
func NewBackend(ctx context.Context, root string, say func(string)) (_ *Backend, err error) {
	b := &Backend{Environment: map[string]map[string]string{}, Values: map[string]string{}}
	if b.bundle, err = local.Start(ctx, local.Options{Root: root, Progress: say}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	b.AWS = b.bundle.Demo.AWS.Endpoint
	if b.forwarder, err = NewForwarder(ctx); err != nil {
		return nil, err
	}
	for id, function := range b.bundle.Functions() {
		variables := function.Environment()
		for name, value := range variables {
			if !strings.HasPrefix(value, "http://127.0.0.1:") {
				continue
			}
			// An emulator or a stand-in: on loopback for a process of this machine, not for a container.
			if variables[name], err = b.forwarder.Reach(value); err != nil {
				return nil, err
			}
		}
		b.Environment[id] = variables
	}
	if b.Values, err = b.bundle.Demo.Values(); err != nil {
		return nil, err
	}
	return b, nil
}

// HoldQueues leaves messages where they are and runs no schedule, so that a test sees what `sam local` alone does.
// Without it the run's own processes deliver what functions of `sam local` accept.
func (b *Backend) HoldQueues() {
	b.bundle.PauseSchedules()
	b.bundle.PauseQueues()
}

// Mails is every mail that SES accepted, oldest first.
func (b *Backend) Mails() []standin.Message { return b.bundle.Mail.Messages() }

// Close stops everything and returns when it is gone.
func (b *Backend) Close() {
	if b.forwarder != nil {
		b.forwarder.Close()
	}
	b.bundle.Close()
}

// WriteEnvVars writes the functions' variables to a file for `sam local --env-vars`.
func (b *Backend) WriteEnvVars(file string) error {
	raw, err := json.MarshalIndent(b.Environment, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o600)
}
