package main

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"carillon/provision"
	"carillon/shared/clock"
	"carillon/shared/engage/store"
	"carillon/shared/fault"
	"carillon/shared/stackname"
)

// PushCmd groups what an operator can do about pushes.
type PushCmd struct {
	Status  PushStatusCmd  `cmd:"" help:"Show a push: its state, its counts, and what became of each destination."`
	Cancel  PushCancelCmd  `cmd:"" help:"Cancel what of a push is not on its way yet."`
	Watch   PushWatchCmd   `cmd:"" help:"Follow a push until it is final."`
	Redrive PushRedriveCmd `cmd:"" help:"Look at the dead letters of the delivery queue and put them back."`
}

// requestID names a push on the command line.
type requestID string

var _ encoding.TextUnmarshaler = (*requestID)(nil)

// UnmarshalText takes a UUID and refuses what cannot be one, before anything is called.
func (id *requestID) UnmarshalText(text []byte) error {
	parsed, err := uuid.ParseBytes(text)
	if err != nil || len(text) != len(parsed.String()) { // Parse takes urn: and {} as well
		return fmt.Errorf(
			"%q is not a request id: it is the UUID that the batch was answered with, as in 329f83c4-38ca-4760-a18a-3fb44962c536",
			text,
		)
	}
	*id = requestID(parsed.String())
	return nil
}

// pushes is the store of the stack's pushes.
func (b bundle) pushes() *store.Pushes {
	return store.NewPushes(b.ddb, stackname.PushesTable(b.stack), clock.System{})
}

// explainPush says what to do about the errors of the store: no such table, push or page.
func explainPush(err error, id requestID, b bundle) error {
	if missing, ok := errors.AsType[*types.ResourceNotFoundException](err); ok && missing != nil {
		return fmt.Errorf("table %s-pushes: %w", b.stack, provision.ErrNoStack)
	}
	switch {
	case fault.Is(err, fault.Invalid):
		return errors.New("--next is what the page before ended with, of the same push")
	case fault.Is(err, fault.NotFound):
		return fmt.Errorf(
			"no push %s in %s. The id is the requestId that the batch was answered with, and a push is kept for 30 days after its content has expired. "+
				"If another stack is meant, name it with --stack, --region, --profile or --local",
			id,
			b.where,
		)
	}
	return err
}

// interrupted replaces the error of a call that Ctrl-C has ended.
func interrupted(ctx context.Context, err error, message string) error {
	if err != nil && ctx.Err() != nil {
		return errors.New(message)
	}
	return err
}

// printable makes text of a partner's harmless for a terminal.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		text = strconv.Quote(text)
		text = text[1 : len(text)-1]
	}
	return orDash(text)
}

// sleep waits, or returns false when the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
