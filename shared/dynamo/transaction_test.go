package dynamo_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
)

// cancelled is a transaction that was cancelled for these reasons, as the SDK returns it.
func cancelled(codes ...string) error {
	err := &types.TransactionCanceledException{}
	for _, code := range codes {
		err.CancellationReasons = append(err.CancellationReasons, types.CancellationReason{Code: aws.String(code)})
	}
	return &smithy.OperationError{ServiceID: "DynamoDB", OperationName: "TransactWriteItems", Err: err}
}

func TestTransactTriesAgainWhatMetOthers(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		again bool
	}{
		"done":                            {nil, false},
		"others were faster":              {dynamo.ErrAgain, true},
		"met another transaction":         {cancelled("None", "TransactionConflict"), true},
		"throttled":                       {cancelled("ThrottlingError"), true},
		"over its provision":              {cancelled("ProvisionedThroughputExceeded"), true},
		"a conflict and a condition":      {cancelled("ConditionalCheckFailed", "TransactionConflict"), true},
		"met another write":               {&types.TransactionConflictException{}, true},
		"its own first try is under way":  {&types.TransactionInProgressException{}, true},
		"a condition that does not hold":  {cancelled("ConditionalCheckFailed", "None"), false},
		"a malformed transaction":         {cancelled("ValidationError"), false},
		"any other error":                 {errors.New("access denied"), false},
		"a throttled call, as the SDK is": {fault.New(fault.Unavailable, ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			now, tries := clocktest.New(), 0
			err := dynamo.Transact(t.Context(), now, func() error {
				if tries++; tries == 1 {
					return test.err
				}
				return nil
			})
			if test.again {
				require.NoError(t, err)
				assert.Equal(t, 2, tries)
				return
			}
			assert.Equal(t, test.err, err)
			assert.Equal(t, 1, tries)
			assert.Empty(t, now.Slept())
		})
	}
}

func TestTransactThatAlwaysMeetsOthers(t *testing.T) {
	t.Run("until its time is over", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tries := 0
		err := dynamo.Transact(ctx, clocktest.New(), func() error {
			if tries++; tries == 3 {
				cancel()
			}
			return dynamo.ErrAgain
		})
		failure, ok := errors.AsType[*fault.Error](err)
		require.True(t, ok)
		assert.Equal(t, fault.Unavailable, failure.Code)
		assert.Equal(t, time.Second, failure.RetryAfter)
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 3, tries)
	})
	t.Run("without a deadline", func(t *testing.T) {
		now, tries := clocktest.New(), 0
		start := now.Now()
		err := dynamo.Transact(t.Context(), now, func() error { tries++; return cancelled("TransactionConflict") })
		assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
		assert.Equal(t, 40, tries)
		assert.Less(t, now.Now().Sub(start), 8*time.Second)
	})
}

func TestConditionFailed(t *testing.T) {
	item := dynamo.Item{"id": dynamo.String("1")}
	operation := func(err error) error { return &smithy.OperationError{OperationName: "PutItem", Err: err} }
	kept, failed := dynamo.ConditionFailed(operation(&types.ConditionalCheckFailedException{Item: item}))
	assert.True(t, failed)
	assert.Equal(t, item, kept)
	kept, failed = dynamo.ConditionFailed(operation(&types.ConditionalCheckFailedException{}))
	assert.True(t, failed)
	assert.Empty(t, kept)
	for _, err := range []error{nil, errors.New("x"), cancelled("ConditionalCheckFailed")} {
		_, failed = dynamo.ConditionFailed(err)
		assert.False(t, failed, "%v", err)
	}
}

func TestConditionFailedAt(t *testing.T) {
	err := cancelled("None", "ConditionalCheckFailed", "TransactionConflict")
	for index, want := range []bool{false, true, false, false} {
		_, failed := dynamo.ConditionFailedAt(err, index)
		assert.Equal(t, want, failed, index)
	}
	_, failed := dynamo.ConditionFailedAt(&types.ConditionalCheckFailedException{}, 0)
	assert.False(t, failed)
	_, failed = dynamo.ConditionFailedAt(nil, 0)
	assert.False(t, failed)
}
