package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/provision"
	"carillon/shared/ott/store"
)

// OttSweepCmd deletes orphaned secrets.
type OttSweepCmd struct {
	OlderThan time.Duration `default:"1h" placeholder:"DURATION" help:"Leave alone what is younger (${default}): its registering may be under way."`
	DryRun    bool          `help:"Only show what would be deleted."`
	Output
}

// Help is the long help.
func (OttSweepCmd) Help() string {
	return `Each registering of a page or channel writes its credentials to a secret of their own and then the registration that
names it; the one before is deleted. When a function dies in between, a secret stays that nothing uses. This finds them
under <stack>/ott/ and deletes them. Secrets Manager keeps what is deleted for 7 days, in which
` + "`aws secretsmanager restore-secret --secret-id NAME`" + ` brings it back.

It needs secretsmanager:ListSecrets and DeleteSecret, and dynamodb:Scan on the registrations table, and reads no secret.

Example:

    carillon ott sweep --dry-run
    carillon ott sweep --older-than 24h -o json`
}

// minOlderThan is far more than a registering takes: its function has ten seconds.
const minOlderThan = time.Minute

// Validate refuses an age at which a registering can be under way.
func (c *OttSweepCmd) Validate() error {
	if c.OlderThan < minOlderThan {
		return errors.New(
			"--older-than is a duration of at least 1m, as in 1h: what is younger may be about to be registered",
		)
	}
	return nil
}

// swept is what the command prints as JSON.
type swept struct {
	DryRun  bool           `json:"dryRun"`
	Orphans []store.Orphan `json:"orphans"`
	Deleted int            `json:"deleted"`
	InUse   int            `json:"inUse"`
	Young   int            `json:"young"`
}

// Run looks for orphans, and deletes them unless it is a dry run.
func (c *OttSweepCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	err = c.sweep(ctx, streams, b)
	return interrupted(ctx, err, "interrupted. What is deleted is deleted; `carillon ott sweep` again deletes the rest")
}

func (c *OttSweepCmd) sweep(ctx context.Context, streams *Streams, b bundle) error {
	registrations := b.registrations()
	survey, err := c.look(ctx, streams, registrations)
	if missing, ok := errors.AsType[*types.ResourceNotFoundException](err); ok && missing != nil {
		return fmt.Errorf("table %s-registrations: %w", b.stack, provision.ErrNoStack)
	}
	if err != nil {
		return err
	}
	report := swept{DryRun: c.DryRun, Orphans: survey.Orphans, InUse: survey.InUse, Young: survey.Young}
	if report.Orphans == nil {
		report.Orphans = []store.Orphan{}
	}
	if !c.DryRun {
		if report.Deleted, err = remove(ctx, streams, registrations, survey.Orphans); err != nil {
			return err
		}
	}
	if c.json() {
		return printJSON(streams.Out, report)
	}
	return c.show(streams.Out, b.where, report)
}

// Progress is shown for what takes a while, in steps that do not fill a log: a page of secrets, and some deletions.
const (
	readStep   = 100
	deleteStep = 10
)

func (c *OttSweepCmd) look(
	ctx context.Context,
	streams *Streams,
	registrations *store.Registrations,
) (store.Survey, error) {
	bar := newProgress(streams.Err, "secrets and registrations read")
	defer bar.end()
	return registrations.Orphans(ctx, time.Now().Add(-c.OlderThan), func(read int) {
		if read >= readStep {
			bar.show(read, read, "looking")
		}
	})
}

func remove(
	ctx context.Context,
	streams *Streams,
	registrations *store.Registrations,
	orphans []store.Orphan,
) (deleted int, err error) {
	bar := newProgress(streams.Err, "orphaned secrets deleted")
	defer bar.end()
	for _, orphan := range orphans {
		if err := registrations.DeleteOrphan(ctx, orphan); err != nil {
			return deleted, fmt.Errorf(
				"%d of %s deleted, then: %w",
				deleted,
				plural(len(orphans), "orphaned secret"),
				err,
			)
		}
		if deleted++; deleted%deleteStep == 0 {
			bar.show(deleted, len(orphans), "sweeping")
		}
	}
	return deleted, nil
}

// show lists the orphans, one a line, and says what became of them.
func (c *OttSweepCmd) show(out io.Writer, where string, report swept) error {
	if len(report.Orphans) > 0 {
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(table, "SECRET\tPROPERTY\tCREATED")
		for _, orphan := range report.Orphans {
			_, _ = fmt.Fprintf(
				table,
				"%s\t%s\t%s\n",
				orphan.SecretName,
				printable(orphan.Property),
				moment(orphan.CreatedAt),
			)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("Deleted %s in %s", plural(report.Deleted, "orphaned secret"), where)
	switch {
	case len(report.Orphans) == 0:
		what = "No orphaned secrets in " + where
	case report.DryRun:
		what = fmt.Sprintf(
			"Dry run, nothing was deleted in %s: %s to delete",
			where,
			plural(len(report.Orphans), "orphaned secret"),
		)
	}
	_, err := fmt.Fprintf(out, "%s; %d in use, %d younger than %s.\n", what, report.InUse, report.Young, c.OlderThan)
	return err
}
