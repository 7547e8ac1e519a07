package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// PushRedriveCmd puts dead letters back into the delivery queue.
type PushRedriveCmd struct {
	DryRun bool `help:"Only show how many there are and some of them; nothing is moved."`
	Sample int  `default:"10" placeholder:"NUMBER" help:"How many dead letters to show (${default})."`
	Output
}

// Help is the long help.
func (PushRedriveCmd) Help() string {
	return `A message of the delivery queue becomes a dead letter when engage-deliver has failed on it five times. Find out why first:
the function's log has each failure under the request id. Once that is mended, this puts them back; every chunk that is
still in time is delivered, and what is not ends as expired. Nothing is sent twice: a chunk that was delivered meanwhile
is left alone.

Looking takes nothing out of the queue. SQS moves the messages itself and goes on if this is interrupted; the same
command again follows it. It needs sqs:GetQueueUrl, GetQueueAttributes, ReceiveMessage, ChangeMessageVisibility, DeleteMessage,
StartMessageMoveTask and ListMessageMoveTasks on the dead-letter queue, GetQueueUrl, GetQueueAttributes and SendMessage
on the delivery queue.

Example:

    carillon push redrive --dry-run
    carillon push redrive`
}

// Validate refuses what cannot be shown.
func (c *PushRedriveCmd) Validate() error {
	if c.Sample < 0 || c.Sample > 100 {
		return errors.New("--sample is a number from 0 to 100")
	}
	return nil
}

// redriven is what the command prints as JSON.
type redriven struct {
	Queue       string       `json:"queue"`
	DeadLetters int          `json:"deadLetters"` // before anything was moved; SQS counts approximately
	Sample      []deadLetter `json:"sample"`
	DryRun      bool         `json:"dryRun"`
	Moved       int          `json:"moved"`
	Refused     int          `json:"refused"` // still dead letters
}

// Run looks at the dead letters, and moves them unless it is a dry run.
func (c *PushRedriveCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	err = c.redrive(ctx, streams, b)
	return interrupted(
		ctx,
		err,
		"interrupted. What SQS has begun to move, it goes on to move; `carillon push redrive` again follows it and moves the rest",
	)
}

func (c *PushRedriveCmd) redrive(ctx context.Context, streams *Streams, b bundle) error {
	queues, err := findQueues(ctx, b)
	if err != nil {
		return err
	}
	count, sample, err := queues.look(ctx, c.Sample)
	if err != nil {
		return err
	}
	report := redriven{Queue: queues.dead.name, DeadLetters: count, Sample: sample, DryRun: c.DryRun}
	if !c.json() {
		if err := c.show(streams.Out, b.where, report); err != nil {
			return err
		}
	}
	if !c.DryRun {
		if err := c.move(ctx, streams, queues, &report); err != nil {
			return err
		}
	}
	if c.json() {
		if err := printJSON(streams.Out, report); err != nil {
			return err
		}
	}
	if report.Refused > 0 {
		return fmt.Errorf(
			"%s not moved and still there as dead letters; in a minute, `carillon push redrive` again",
			plural(report.Refused, "message"),
		)
	}
	return nil
}

func (c *PushRedriveCmd) move(ctx context.Context, streams *Streams, queues *queues, report *redriven) error {
	out := streams.Out
	if c.json() {
		out = streams.Err
	}
	bar := newProgress(out, "dead letters moved")
	err := queues.move(ctx, report.DeadLetters > 0, func(moved, refused, total int) {
		report.Moved, report.Refused = moved, refused
		bar.show(moved, max(total, report.DeadLetters, moved), "redriving")
	})
	bar.end()
	if err != nil && report.Moved > 0 {
		err = fmt.Errorf("%s moved, then: %w", plural(report.Moved, "message"), err)
	}
	if err != nil || report.Moved == 0 && report.DeadLetters == 0 {
		return err
	}
	if report.Moved+report.Refused < report.DeadLetters {
		// Others may be receiving, and SQS counts approximately, so this is no failure.
		note(
			streams,
			"SQS had counted %d. What somebody else has received comes back within a minute; then `carillon push redrive` again.",
			report.DeadLetters,
		)
	}
	if !c.json() {
		_, err = fmt.Fprintf(out, "Moved %s back to %s.\n", plural(report.Moved, "message"), queues.live.name)
	}
	return err
}

// show lists the sample, one message a line.
func (c *PushRedriveCmd) show(out io.Writer, where string, report redriven) error {
	if report.DeadLetters == 0 {
		_, err := fmt.Fprintf(out, "No dead letters in %s.\n", where)
		return err
	}
	shown := ""
	if n := len(report.Sample); n > 0 && n < report.DeadLetters {
		shown = fmt.Sprintf(", of which %d:", n)
	}
	if _, err := fmt.Fprintf(
		out,
		"%s in %s%s\n",
		plural(report.DeadLetters, "dead letter"),
		where,
		shown,
	); err != nil ||
		len(report.Sample) == 0 {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "REQUEST\tCHUNK\tNOT BEFORE\tQUEUED\tRECEIVED")
	for _, m := range report.Sample {
		if m.RequestID == "" {
			_, _ = fmt.Fprintf(
				table,
				"not a delivery: %s\t-\t-\t%s\t%d\n",
				printable(m.Body),
				moment(m.QueuedAt),
				m.Received,
			)
			continue
		}
		_, _ = fmt.Fprintf(
			table,
			"%s\t%d\t%s\t%s\t%d\n",
			printable(m.RequestID),
			m.Chunk,
			moment(m.NotBefore),
			moment(m.QueuedAt),
			m.Received,
		)
	}
	return table.Flush()
}

// deadLetter is a message of the dead-letter queue, as far as a person wants to know it.
type deadLetter struct {
	MessageID string `json:"messageId"`
	// RequestID is empty for a message that is no delivery; Body then shows the beginning of it.
	RequestID string    `json:"requestId,omitempty"`
	Chunk     int       `json:"chunk"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	Body      string    `json:"body,omitempty"`
	QueuedAt  time.Time `json:"queuedAt,omitzero"`
	Received  int       `json:"received"` // times, this look included
}
