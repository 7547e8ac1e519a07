package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"carillon/provision"
	"carillon/shared/stackname"
)

// ContentCmd groups what can be done to content.
type ContentCmd struct {
	Apply ContentApplyCmd `cmd:"" help:"Make the bundle serve what a content file says."`
}

// ContentApplyCmd applies a content file.
type ContentApplyCmd struct {
	File   string `required:"" short:"f" placeholder:"FILE" help:"The content file, YAML or JSON; - reads standard input."`
	DryRun bool   `help:"Only show what would change."`
	Output
}

// Help is the long help.
func (ContentApplyCmd) Help() string {
	return `The file is complete for each provider and each business that it names: what it does not list under them is
removed. Providers and businesses that it does not name are left alone. Applying the same file again changes
nothing. A file with faults changes nothing either; all faults are shown at once, with their lines.

content.example.yaml in the project shows every member.

Example:

    carillon content apply -f content.yaml --dry-run
    carillon content apply -f content.yaml`
}

// applied is what the command prints as JSON.
type applied struct {
	DryRun bool             `json:"dryRun"`
	Steps  []provision.Step `json:"steps"`
}

// Run applies the file.
func (c *ContentApplyCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	content, err := c.read(streams.In)
	if err != nil {
		return err
	}
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	plan, err := provision.PlanContent(ctx, b.ddb, stackname.ContentTable(b.stack), content)
	if err != nil {
		return err
	}
	if !c.DryRun {
		if err := plan.Apply(ctx, b.ddb); err != nil {
			return fmt.Errorf("not all of it was applied; applying the same file again completes it: %w", err)
		}
	}
	if c.json() {
		return printJSON(streams.Out, applied{DryRun: c.DryRun, Steps: plan.Steps})
	}
	return c.report(streams, b.where, plan.Summary)
}

func (c *ContentApplyCmd) read(stdin io.Reader) (provision.Content, error) {
	in, name := stdin, "standard input"
	if c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return provision.Content{}, err
		}
		defer func() { _ = file.Close() }()
		in, name = file, c.File
	}
	content, err := provision.ParseContent(in)
	if faults, ok := errors.AsType[provision.Faults](err); ok {
		return provision.Content{}, fmt.Errorf(
			"%s has %s, nothing was changed:\n%w",
			name,
			plural(len(faults), "fault"),
			err,
		)
	}
	if err != nil {
		return provision.Content{}, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return content, nil
}

// report lists what changes, one thing a line, and counts it.
func (c *ContentApplyCmd) report(streams *Streams, where string, s provision.Summary) error {
	for _, step := range s.Steps {
		if step.Action == provision.Keep {
			continue
		}
		if _, err := fmt.Fprintf(streams.Out, "%s %s: %s\n", step.Action, step.Owner, step.What); err != nil {
			return err
		}
	}
	format := "Applied to %s: %d created, %d updated, %d removed, %d unchanged.\n"
	if c.DryRun {
		format = "Dry run, nothing was changed in %s: %d to create, %d to update, %d to remove, %d unchanged.\n"
	}
	_, err := fmt.Fprintf(streams.Out, format, where, s.Count(provision.Create), s.Count(provision.Update),
		s.Count(provision.Remove), s.Count(provision.Keep))
	return err
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
