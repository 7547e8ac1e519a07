package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"carillon/shared/engage"
	"carillon/shared/engage/api"
	"carillon/shared/fault"
)

// PushCancelCmd cancels a push.
type PushCancelCmd struct {
	RequestID requestID `arg:"" name:"request-id" help:"The requestId that the batch was answered with."`
	Output
}

// Help is the long help.
func (PushCancelCmd) Help() string {
	return `Cancels every destination that is not on its way yet. A push travels in chunks of up to 500 destinations: a chunk that
engage-deliver has claimed is delivered to its end, every other one is never sent. Cancelling again changes nothing and
shows how it stands. It fails when nothing was left to cancel. There is no way back.

Example:

    carillon push cancel 329f83c4-38ca-4760-a18a-3fb44962c536`
}

// Run cancels the push.
func (c *PushCancelCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	meta, err := b.pushes().Cancel(ctx, "", string(c.RequestID), time.Now())
	switch {
	case fault.Is(err, fault.Conflict):
		return fmt.Errorf(
			"nothing was left to cancel of push %s: all of it is delivered or on its way. `carillon push status %[1]s` shows it",
			c.RequestID,
		)
	case err != nil:
		return explainPush(err, c.RequestID, b)
	}
	if c.json() {
		return printJSON(streams.Out, api.NewSummary(meta))
	}
	_, err = fmt.Fprintf(streams.Out, "Cancelled push %s in %s: %s.\n", c.RequestID, b.where, countsText(meta.Counts()))
	return err
}

// countsText says how many destinations there are and what became of them.
func countsText(c engage.Counts) string {
	var parts []string
	for _, one := range []struct {
		n    int
		what string
	}{
		{c.Delivered, "delivered"}, {c.Rejected, "rejected"}, {c.Failed, "failed"},
		{c.Expired, "expired"}, {c.Cancelled, "cancelled"}, {c.Pending, "pending"},
	} {
		if one.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", one.n, one.what))
		}
	}
	return plural(c.Total, "destination") + ": " + strings.Join(parts, ", ")
}
