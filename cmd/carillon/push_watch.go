package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"carillon/shared/engage"
	"carillon/shared/engage/api"
)

// PushWatchCmd follows a push.
type PushWatchCmd struct {
	RequestID requestID     `arg:"" name:"request-id" help:"The requestId that the batch was answered with."`
	Every     time.Duration `default:"1s" placeholder:"DURATION" help:"How often to look (${default}); a look reads one small item."`
	Output
}

// Help is the long help.
func (PushWatchCmd) Help() string {
	return `Shows a bar on a terminal, and a line for each change where the output goes elsewhere; with -o json each line is the
requestId, state and counts of the push. It ends when the push is final, with status 0 if it was completed, whatever
became of its destinations, and 1 otherwise: cancelled, unknown, or Ctrl-C. Watching changes nothing about the push.

Example:

    carillon push watch 329f83c4-38ca-4760-a18a-3fb44962c536
    carillon push watch 329f83c4-38ca-4760-a18a-3fb44962c536 && carillon push status 329f83c4-38ca-4760-a18a-3fb44962c536`
}

// Validate refuses to look without a pause.
func (c *PushWatchCmd) Validate() error {
	if c.Every < 10*time.Millisecond {
		return errors.New("--every is a duration of at least 10ms, as in 2s")
	}
	return nil
}

// Run follows the push until it is final.
func (c *PushWatchCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	final, err := c.watch(ctx, streams, b)
	if err != nil {
		return interrupted(
			ctx,
			err,
			"stopped watching; the push goes on. `carillon push watch "+string(c.RequestID)+"` again follows it",
		)
	}
	counts := final.Counts()
	if !c.json() {
		if _, err := fmt.Fprintf(
			streams.Out,
			"Push %s is %s: %s.\n",
			c.RequestID,
			final.State(),
			countsText(counts),
		); err != nil {
			return err
		}
	}
	if final.State() != engage.PushCompleted {
		return fmt.Errorf(
			"push %s was %s: %d of %s",
			c.RequestID,
			final.State(),
			counts.Cancelled,
			plural(counts.Total, "destination"),
		)
	}
	return nil
}

func (c *PushWatchCmd) watch(ctx context.Context, streams *Streams, b bundle) (*engage.Meta, error) {
	pushes := b.pushes()
	bar := newProgress(streams.Out, "destinations final")
	defer bar.end()
	var last api.Summary
	for {
		meta, err := pushes.Meta(ctx, "", string(c.RequestID))
		if err != nil {
			return nil, explainPush(err, c.RequestID, b)
		}
		now := api.NewSummary(meta)
		switch {
		case !c.json():
			bar.show(now.Counts.Total-now.Counts.Pending, now.Counts.Total, watchText(meta))
		case now != last:
			if err := json.NewEncoder(streams.Out).Encode(now); err != nil {
				return nil, err
			}
		}
		last = now
		if meta.Finished() {
			return meta, nil
		}
		if !sleep(ctx, c.Every) {
			return nil, ctx.Err()
		}
	}
}

// watchText is the state of a push with what a person should know while it goes on.
func watchText(m *engage.Meta) string {
	text := string(m.State())
	if m.State() == engage.PushScheduled {
		return text + " for " + moment(m.NotBefore)
	}
	counts := m.Counts()
	for _, bad := range []struct {
		n    int
		what string
	}{{counts.Rejected, "rejected"}, {counts.Failed, "failed"}, {counts.Expired, "expired"}} {
		if bad.n > 0 {
			text += fmt.Sprintf(", %d %s", bad.n, bad.what)
		}
	}
	return text
}
