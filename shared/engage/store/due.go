package store

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/fault"
)

// DuePartitions spread what is due at the same time over the due index. They count from 0.
const DuePartitions = 4

func duePartition(requestID string) string {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(requestID)) // never fails
	return partitionName(int(hash.Sum32() % DuePartitions))
}

func partitionName(i int) string { return fmt.Sprintf("due#%d", i) }

// Due returns the ids of pushes of a partition of the due index whose time has come, oldest first, at most limit of
// them. It returns DynamoDB's error.
func (s *Pushes) Due(ctx context.Context, partition int, now time.Time, limit int32) ([]string, error) {
	out, err := s.client.Query(ctx, &dynamodb.QueryInput{
		TableName:              aws.String(s.table),
		IndexName:              aws.String("due"),
		KeyConditionExpression: aws.String("duePartition = :partition AND dueAt <= :now"),
		ExpressionAttributeValues: dynamo.Item{
			":partition": dynamo.String(partitionName(partition)),
			":now":       dynamo.Int(now.UnixMilli()),
		},
		Limit: aws.Int32(limit),
	})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(out.Items))
	for i, item := range out.Items {
		ids[i] = dynamo.GetString(item, "requestId")
	}
	return ids, nil
}

// Postpone says when engage-schedule looks at a push again, whose due time was seen, and when jobs of it were sent, if
// any were. It returns a fault Conflict if another has changed the due time, or the push is closed; or DynamoDB's
// error.
func (s *Pushes) Postpone(ctx context.Context, requestID string, seen, next, enqueued time.Time) error {
	update, values := "SET dueAt = :next", dynamo.Item{
		":next": dynamo.Int(engage.Millis(next)), ":seen": dynamo.Int(engage.Millis(seen)),
	}
	if !enqueued.IsZero() {
		update += ", enqueuedAt = :enqueued"
		values[":enqueued"] = dynamo.Int(engage.Millis(enqueued))
	}
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 partKey(requestID, partMeta),
		UpdateExpression:                    aws.String(update),
		ConditionExpression:                 aws.String("dueAt = :seen"),
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	kept, changed := dynamo.ConditionFailed(err)
	if changed && dynamo.GetInt(kept, "dueAt") != engage.Millis(next) {
		return fault.Wrap(fault.Conflict, err)
	}
	if changed {
		return nil // the SDK repeated a write that had been carried out
	}
	return err
}

// Close takes a push that is final out of the due index. Doing it again is harmless. It returns DynamoDB's error.
func (s *Pushes) Close(ctx context.Context, requestID string) error {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(s.table),
		Key:                 partKey(requestID, partMeta),
		UpdateExpression:    aws.String("REMOVE duePartition, dueAt"),
		ConditionExpression: aws.String("attribute_exists(duePartition)"),
	})
	if _, closed := dynamo.ConditionFailed(err); closed {
		return nil
	}
	return err
}
