package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"carillon/local"
)

// LocalCmd runs the bundle on this machine until it is told to stop.
type LocalCmd struct {
	Port        int    `env:"PORT" default:"3000" placeholder:"NUMBER" help:"Port on 127.0.0.1 to serve at (${default}; $$${env}); 0 for a free one."`
	GatewayURL  string `name:"gateway-url" env:"GATEWAY_URL" placeholder:"URL" help:"A device gateway of your own instead of the stand-in ($$${env}); https, or http on this machine."`
	ProviderURL string `name:"provider-url" env:"PROVIDER_URL" placeholder:"URL" help:"An entitlement provider of your own instead of the stand-in ($$${env}); https, or http on this machine."`
}

// Help is shown by carillon local --help.
func (*LocalCmd) Help() string {
	return `It needs Go, make, Node.js with npm and Python 3 with venv, and neither an AWS account nor Docker. The first run installs emulators
under .local/; every run starts with empty tables and new secrets, and writes .local/demo.json once it serves. Ctrl-C stops it.

    carillon local --port 3100`
}

// Run returns nil when it was told to stop, and an error when the bundle could not start or could not go on.
func (c *LocalCmd) Run(ctx context.Context, streams *Streams) error {
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("PORT is %d, a port is a number from 0 to 65535", c.Port)
	}
	gateway, gerr := partnerURL("GATEWAY_URL", c.GatewayURL)
	provider, perr := partnerURL("PROVIDER_URL", c.ProviderURL)
	if err := errors.Join(gerr, perr); err != nil {
		return err
	}
	root, err := projectRoot()
	if err != nil {
		return err
	}
	start := time.Now()
	say := printer(streams.Err)
	bundle, err := local.Start(ctx, local.Options{
		Root: root, Port: c.Port, GatewayURL: gateway, ProviderURL: provider,
		DemoFile: filepath.Join(root, ".local", "demo.json"),
		Progress: func(line string) { say("carillon: " + line) },
		Log:      say,
	})
	switch {
	case ctx.Err() != nil: // told to stop while it started
		if bundle != nil {
			bundle.Close()
		}
		return nil
	case err != nil:
		return err
	}
	defer bundle.Close()
	say(
		fmt.Sprintf(
			"carillon: serving %s after %.1f s; what the partners receive: %s/_local/; Ctrl-C stops it",
			bundle.BaseURL,
			time.Since(start).Seconds(),
			bundle.BaseURL,
		),
	)
	if provider != "" {
		say(
			fmt.Sprintf(
				"carillon: your provider is called with user %s and password %s",
				bundle.ProviderUsername,
				bundle.ProviderPassword,
			),
		)
	}
	examples, err := bundle.Examples()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(streams.Out, "\n%s\n", examples)
	select {
	case <-ctx.Done():
		say("carillon: stopping")
		return nil
	case err := <-bundle.Failed():
		return err
	}
}

// printer prints lines whole, whoever says them.
func printer(w io.Writer) func(string) {
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(w, line)
	}
}

// partnerURL checks what replaces a stand-in: what is not on this machine must be https, as in a deployment.
func partnerURL(variable, value string) (string, error) {
	if value == "" {
		return "", nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%s is not a base URL: scheme, host and path, without user, query and fragment", variable)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return "", fmt.Errorf("%s must be https, or http to this machine (127.0.0.1, localhost)", variable)
	}
	return strings.TrimRight(value, "/"), nil
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// projectRoot is the folder with template.yaml and Makefile, here or above.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, terr := os.Stat(filepath.Join(dir, "template.yaml"))
		_, merr := os.Stat(filepath.Join(dir, "Makefile"))
		if terr == nil && merr == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New(
				"call this within the project: there is no folder with template.yaml and Makefile here or above",
			)
		}
		dir = parent
	}
}
