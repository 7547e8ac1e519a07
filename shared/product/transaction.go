package product

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/clock"
	"carillon/shared/fault"
)

// The waits between the tries of a transaction that others got in the way of.
const (
	minConflictWait = 5 * time.Millisecond
	maxConflictWait = 200 * time.Millisecond
)

// errAgain says that a transaction came too late, and that it is to be tried again from its reading on.
var errAgain = errors.New("product: others were faster")

// transact runs a transaction until others are no longer in its way: the SDK leaves such conflicts to its caller. It
// returns a fault Unavailable if they still are when ctx is over, else the transaction's error.
func transact(ctx context.Context, try func() error) error {
	for tries := 0; ; tries++ {
		err := try()
		if !errors.Is(err, errAgain) && !slices.ContainsFunc(cancellations(err), isConflict) {
			return err
		}
		wait := min(minConflictWait<<min(tries, 10), maxConflictWait)
		if overdue := (clock.System{}).Sleep(ctx, rand.N(wait)+time.Millisecond); overdue != nil {
			return &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: errors.Join(err, overdue)}
		}
	}
}

// cancellations returns why DynamoDB cancelled a transaction, a reason for each of its items, or nil if it did not.
func cancellations(err error) []types.CancellationReason {
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) {
		return cancelled.CancellationReasons
	}
	return nil
}

func isConditionFailed(reason types.CancellationReason) bool {
	return aws.ToString(reason.Code) == "ConditionalCheckFailed"
}

// isConflict reports whether a transaction that was cancelled for that reason may succeed a moment later.
func isConflict(reason types.CancellationReason) bool {
	switch aws.ToString(reason.Code) {
	case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
		return true
	}
	return false
}
