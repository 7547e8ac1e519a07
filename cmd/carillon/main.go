// Command carillon provisions the clients and the content of a bundle, on AWS or on this machine, and runs the
// bundle on this machine.
//
// It exits with 0 when it did what was asked, 1 when it could not, and 2 when it did not understand what was asked.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"carillon/cmd/carillon/version"
)

// The exit statuses.
const (
	exitFailure = 1
	exitUsage   = 2
)

// CLI is the whole command line.
type CLI struct {
	Target

	Version kong.VersionFlag `help:"Print the version and exit."`

	Client  ClientCmd  `cmd:"" help:"The API clients that may call the bundle."`
	Content ContentCmd `cmd:"" help:"What the bundle serves: programs, numbers, groups, products."`
	Push    PushCmd    `cmd:"" help:"The pushes that were accepted: look, cancel, follow, and redrive what failed."`
	Ott     OttCmd     `cmd:"" help:"The OTT registrations: try one's callback, and clear away what crashes leave behind."`
	Local   LocalCmd   `cmd:"" name:"local" help:"Run the bundle on this machine: no AWS account, no Docker."`
}

// Streams are where a command reads and writes. What a script may want goes to Out, words for a person to Err.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], &Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, streams *Streams) int {
	var cli CLI
	parser := kong.Must(&cli,
		kong.Name("carillon"),
		kong.Description("Provisions and runs the Carillon bundle. Each command has a --help with an example."),
		kong.Vars{"version": versionLine()},
		kong.Writers(streams.Out, streams.Err),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams, &cli.Target),
	)
	command, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(streams.Err, "carillon: %s\n%s\n", err, usageHint(err))
		return exitUsage
	}
	if err := command.Run(); err != nil {
		_, _ = fmt.Fprintf(streams.Err, "carillon: %s\n", explain(err))
		return exitFailure
	}
	return 0
}

// usageHint points at the help of the command that was meant, as far as it was understood.
func usageHint(err error) string {
	command := "carillon"
	if bad, ok := errors.AsType[*kong.ParseError](err); ok && bad.Context != nil {
		for _, part := range bad.Context.Path {
			if part.Command != nil {
				command += " " + part.Command.Name
			}
		}
	}
	return fmt.Sprintf("See `%s --help`.", command)
}

func versionLine() string {
	info, _ := debug.ReadBuildInfo() // nil without one
	return "carillon " + version.Text(info)
}
