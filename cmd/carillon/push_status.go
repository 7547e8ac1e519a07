package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"carillon/shared/engage"
	"carillon/shared/engage/api"
)

// PushStatusCmd shows a push.
type PushStatusCmd struct {
	RequestID requestID `arg:"" name:"request-id" help:"The requestId that the batch was answered with."`
	Limit     int       `default:"20" placeholder:"NUMBER" help:"How many destinations to show, 1 to 1000 (${default})."`
	Next      string    `xor:"page" placeholder:"TOKEN" help:"Go on from here: what the page before ended with."`
	All       bool      `xor:"page" help:"Show every destination."`
	Output
}

// Help is the long help.
func (PushStatusCmd) Help() string {
	return `Shows any provider's push, with its counts and its destinations in the order in which they were sent. With -o json it is
what GET of the push answers. Times are UTC.

Example:

    carillon push status 329f83c4-38ca-4760-a18a-3fb44962c536
    carillon push status 329f83c4-38ca-4760-a18a-3fb44962c536 --all | grep failed`
}

// Validate refuses a page that cannot be read.
func (c *PushStatusCmd) Validate() error {
	if c.Limit < 1 || c.Limit > engage.MaxPage {
		return fmt.Errorf("--limit is a number from 1 to %d", engage.MaxPage)
	}
	return nil
}

// Run shows the push.
func (c *PushStatusCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	if c.json() {
		page, err := c.page(ctx, b, c.Next)
		for err == nil && c.All && page.Next != "" {
			var more *engage.Page
			if more, err = c.page(ctx, b, page.Next); err == nil {
				more.Rows = append(page.Rows, more.Rows...)
				page = more
			}
		}
		if err != nil {
			return explainPush(err, c.RequestID, b)
		}
		return printJSON(streams.Out, api.NewStatus(page))
	}
	return explainPush(c.show(ctx, streams, b), c.RequestID, b)
}

func (c *PushStatusCmd) page(ctx context.Context, b bundle, next string) (*engage.Page, error) {
	limit := c.Limit
	if c.All {
		limit = engage.MaxPage
	}
	return b.pushes().Page(ctx, "", string(c.RequestID), limit, next)
}

// show prints the push and its destinations, page by page.
func (c *PushStatusCmd) show(ctx context.Context, streams *Streams, b bundle) error {
	page, err := c.page(ctx, b, c.Next)
	if err != nil {
		return err
	}
	if err := showPush(streams.Out, page.Meta); err != nil {
		return err
	}
	for {
		if err := showDestinations(streams.Out, page.Rows); err != nil {
			return err
		}
		if page.Next == "" {
			return nil
		}
		if !c.All {
			note(streams, "More: the same with --next %s; all of them: with --all.", page.Next)
			return nil
		}
		if page, err = c.page(ctx, b, page.Next); err != nil {
			return err
		}
	}
}

func showPush(out io.Writer, m *engage.Meta) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"push", m.RequestID},
		{"state", string(m.State())},
		{"counts", countsText(m.Counts())},
		{"provider", printable(m.Tenant)},
		{"program", m.ProgramUUID},
		{"created", moment(m.CreatedAt)},
		{"not before", moment(m.NotBefore)},
		{"expires", moment(m.DeliverBefore())},
		{"cancelled", moment(m.CancelledAt)},
	} {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n"+destinationRow, "B NUMBER", "STATE", "DELIVERED", "TRACKING ID", "REASON")
	return err
}

// destinationRow has fixed columns, so that the pages of a large push line up without being held in memory.
const destinationRow = "%-16s  %-9s  %-24s  %-24s  %s\n"

func showDestinations(out io.Writer, rows []engage.Row) error {
	for _, row := range rows {
		delivered := ""
		if !row.DeliveredAt.IsZero() {
			delivered = engage.WireTime(row.DeliveredAt)
		}
		if _, err := fmt.Fprintf(out, destinationRow, row.BNumber, row.State,
			orDash(delivered), printable(row.CustomTrackingID), printable(row.Reason)); err != nil {
			return err
		}
	}
	return nil
}
