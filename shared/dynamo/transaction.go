package dynamo

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/fault"
)

// conflicts is how long Transact waits before it tries again what met other transactions: the SDK leaves these to its
// caller. They last a few milliseconds each.
var conflicts = backoff.Policy{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}

// maxTries bounds a transaction that always meets others, for callers without a deadline: some six seconds in all.
const maxTries = 40

// ErrAgain is for Transact's try: what it read was written by others before it wrote. It is to begin again with its
// reading.
var ErrAgain = errors.New("dynamo: others were faster")

// Transact runs a transaction until no other one is in its way. A try must be safe to do again, also after it
// succeeded: its answer may have been lost. Transact returns a fault Unavailable if others still are in the way when
// ctx is over, or after 40 tries; else the try's error.
func Transact(ctx context.Context, c clock.Clock, try func() error) error {
	for tries := 1; ; tries++ {
		err := try()
		if !errors.Is(err, ErrAgain) && !metOthers(err) {
			return err
		}
		if tries == maxTries {
			return unavailable(err)
		}
		if overdue := conflicts.Sleep(ctx, c, tries); overdue != nil {
			return unavailable(errors.Join(err, overdue))
		}
	}
}

func unavailable(cause error) error {
	return &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: cause}
}

// ConditionFailedAt is ConditionFailed for the item of a transaction that has this index: it reports whether the
// transaction was cancelled because that item's condition did not hold.
func ConditionFailedAt(err error, index int) (kept Item, failed bool) {
	cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
	if !ok || index >= len(cancelled.CancellationReasons) {
		return nil, false
	}
	reason := cancelled.CancellationReasons[index]
	if aws.ToString(reason.Code) != "ConditionalCheckFailed" {
		return nil, false
	}
	return reason.Item, true
}

// metOthers reports whether a transaction may succeed a moment later as it is. One that is cancelled for several
// reasons is tried again too: a condition that does not hold will say so then.
func metOthers(err error) bool {
	if _, ok := errors.AsType[*types.TransactionConflictException](err); ok {
		return true
	}
	// Of a call that the SDK repeated while its first try was still under way.
	if _, ok := errors.AsType[*types.TransactionInProgressException](err); ok {
		return true
	}
	cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
	return ok && slices.ContainsFunc(cancelled.CancellationReasons, func(reason types.CancellationReason) bool {
		switch aws.ToString(reason.Code) {
		case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
			return true
		}
		return false
	})
}
