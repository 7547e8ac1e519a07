package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/provision"
	"carillon/shared/clock"
	"carillon/shared/ott"
	"carillon/shared/ott/store"
	"carillon/shared/stackname"
)

// OttMessagesCmd lists the messages that wait.
type OttMessagesCmd struct {
	Property string `required:"" placeholder:"PLATFORM/ID" help:"The page or channel: messenger/PAGEID or line/CHANNELID."`
	Limit    int    `default:"50" placeholder:"NUMBER" help:"How many to show at most (${default})."`
	Output
}

// Help is the long help.
func (OttMessagesCmd) Help() string {
	return `Lists the messages of a page or channel that wait, any tenant's, the oldest first: those that the platform or the
endpoint did not take so far, with what it said last, and those that are not tried because others came to trouble. A
message behind one of these in its conversation waits for it, and is not listed. What waits for nothing but its turn is
not listed either. Times are UTC.

It needs dynamodb:Query on the index waiting of the messages table, and dynamodb:GetItem on the table.

Example:

    carillon ott messages --property messenger/1732555047025799
    carillon ott messages --property line/23493453984234345 -o json`
}

// Validate refuses what names no property.
func (c *OttMessagesCmd) Validate() error {
	if _, _, err := c.property(); err != nil {
		return err
	}
	if c.Limit < 1 {
		return errors.New("--limit is a number from 1 on")
	}
	return nil
}

func (c *OttMessagesCmd) property() (ott.Platform, string, error) {
	platform, id, _ := strings.Cut(c.Property, "/")
	if p := ott.Platform(platform); (p == ott.Messenger || p == ott.LINE) && ott.IsPropertyID(id) {
		return p, id, nil
	}
	return "", "", errors.New("--property is messenger/PAGEID or line/CHANNELID")
}

// waitingMessage is a message as the command prints it.
type waitingMessage struct {
	OttRequestID string     `json:"ottRequestId"`
	Tenant       string     `json:"tenant"`
	MessageKey   string     `json:"messageKey"`
	CreatedAt    time.Time  `json:"createdAt"`
	ValidUntil   time.Time  `json:"validUntil"`
	Tries        int        `json:"tries"`
	NextTry      *time.Time `json:"nextTry"` // null if that is not decided
	Expired      bool       `json:"expired"` // nothing sends it any more
	Reason       string     `json:"reason"`
}

// waitingMessages is what the command prints as JSON.
type waitingMessages struct {
	Messages []waitingMessage `json:"messages"`
	More     bool             `json:"more"` // there are others than these
}

// Run lists the messages.
func (c *OttMessagesCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	platform, id, err := c.property()
	if err != nil {
		return err
	}
	messages := store.NewMessages(b.ddb, stackname.MessagesTable(b.stack), clock.System{})
	list := waitingMessages{Messages: []waitingMessage{}}
	now := time.Now()
	err = messages.Waiting(ctx, platform, id, func(m *ott.StoredMessage) (bool, error) {
		if len(list.Messages) == c.Limit {
			list.More = true
			return false, nil
		}
		one := waitingMessage{
			OttRequestID: m.OttRequestID, Tenant: m.Tenant, MessageKey: m.Message.Key, CreatedAt: m.CreatedAt,
			ValidUntil: m.ValidUntil, Tries: m.Progress.Tries, Reason: m.Progress.Reason, Expired: m.IsExpired(now),
		}
		if !m.Progress.NotBefore.IsZero() && m.Progress.Lease == "" {
			one.NextTry = &m.Progress.NotBefore
		}
		list.Messages = append(list.Messages, one)
		return true, nil
	})
	if missing, ok := errors.AsType[*types.ResourceNotFoundException](err); ok && missing != nil {
		return fmt.Errorf("table %s: %w", stackname.MessagesTable(b.stack), provision.ErrNoStack)
	}
	if err != nil {
		return err
	}
	if c.json() {
		return printJSON(streams.Out, list)
	}
	return list.print(streams.Out, c.Property)
}

func (l waitingMessages) print(out io.Writer, property string) error {
	if len(l.Messages) == 0 {
		_, err := fmt.Fprintf(out, "No message of %s waits for another try.\n", property)
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	const row = "%s\t%s\t%s\t%v\t%s\t%s\n"
	_, err := fmt.Fprintf(table, row, "OTTREQUESTID", "TENANT", "SINCE", "TRIES", "NEXT TRY", "REASON")
	for _, m := range l.Messages {
		next := "undecided"
		switch {
		case m.Expired:
			next = "none: expired"
		case m.NextTry != nil:
			next = moment(*m.NextTry)
		}
		if err == nil {
			_, err = fmt.Fprintf(table, row, m.OttRequestID, m.Tenant, moment(m.CreatedAt), m.Tries, next, m.Reason)
		}
	}
	if err == nil {
		err = table.Flush()
	}
	if err == nil && l.More {
		_, err = fmt.Fprintf(out, "There are more: --limit shows them.\n")
	}
	return err
}
