package dynamo

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// ConditionFailed reports whether a write was refused because its condition did not hold. kept is the item as it is, if
// the write asked for it (ReturnValuesOnConditionCheckFailure); it is empty if there is no such item.
func ConditionFailed(err error) (kept Item, failed bool) {
	refused, ok := errors.AsType[*types.ConditionalCheckFailedException](err)
	if !ok {
		return nil, false
	}
	return refused.Item, true
}
