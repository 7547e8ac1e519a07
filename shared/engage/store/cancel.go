package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/fault"
)

// cancelledAtOnce is how many of the chunks that wait a cancellation names: one that still waits is enough, and they
// are claimed in no order.
const cancelledAtOnce = 20

// Cancel cancels every chunk of a push that waits: what was never claimed, what is to be sent again, and what a process
// left that died. It is one conditional write, so that it and a claim never both succeed. Doing it again returns the
// push as it is. It returns a fault Conflict if nothing was left to cancel, NotFound as Meta does, or DynamoDB's error.
func (s *Pushes) Cancel(ctx context.Context, tenant, requestID string, now time.Time) (*engage.Meta, error) {
	for {
		item, err := s.metaItem(ctx, tenant, requestID)
		if err != nil {
			return nil, err
		}
		meta := decodeMeta(item)
		if err := s.countLeft(ctx, meta, now); err != nil {
			return nil, err
		}
		if !meta.CancelledAt.IsZero() {
			return meta, nil
		}
		meta, err = s.cancel(ctx, item, meta, now)
		if _, claimed := dynamo.ConditionFailed(err); claimed {
			continue // all that was to be cancelled was claimed a moment ago: there may be more
		}
		if err == nil {
			err = s.countLeft(ctx, meta, now)
		}
		if err != nil || !meta.Finished() {
			return meta, err
		}
		return meta, s.Close(ctx, requestID)
	}
}

// countLeft corrects the counts of chunks that a process left when it died: it may have kept results of which it did
// not come to say so in meta.
func (s *Pushes) countLeft(ctx context.Context, meta *engage.Meta, now time.Time) error {
	for i := range meta.Chunks {
		chunk := &meta.Chunks[i]
		if chunk.Phase != engage.Leased || !chunk.Waits(now) {
			continue
		}
		results, err := s.results(ctx, meta.RequestID, i, *chunk)
		if err != nil {
			return err
		}
		chunk.Counts = engage.Count(results)
	}
	return nil
}

// cancel cancels a push if one of the chunks that wait still does.
func (s *Pushes) cancel(
	ctx context.Context, item dynamo.Item, meta *engage.Meta, now time.Time,
) (*engage.Meta, error) {
	names, values := map[string]string{}, dynamo.Item{":now": dynamo.Int(engage.Millis(now))}
	var waits []string
	for i, chunk := range meta.Chunks {
		if !chunk.Waits(now) || chunk.Counts.Pending == 0 || len(waits) == cancelledAtOnce {
			continue
		}
		n := strconv.Itoa(i)
		names["#c"+n] = chunkAttribute(i)
		if seen, claimed := item[chunkAttribute(i)]; claimed {
			values[":c"+n] = seen
			waits = append(waits, "#c"+n+" = :c"+n)
		} else {
			waits = append(waits, "attribute_not_exists(#c"+n+")")
		}
	}
	if len(waits) == 0 {
		return nil, fault.New(fault.Conflict, "")
	}
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:        aws.String(s.table),
		Key:              partKey(meta.RequestID, partMeta),
		UpdateExpression: aws.String("SET cancelledAt = :now"),
		ConditionExpression: aws.String(
			"attribute_not_exists(cancelledAt) AND (" + strings.Join(waits, " OR ") + ")",
		),
		ExpressionAttributeNames:            names,
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if kept, _ := dynamo.ConditionFailed(err); kept != nil && kept["cancelledAt"] != nil {
		return decodeMeta(kept), nil // another did, or the SDK repeated a write that had been carried out
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(out.Attributes), nil
}

// EndAbandoned ends a chunk of a cancelled push that a process left in a POST when it died: what has no result is
// cancelled. Nothing happens if the chunk is not so, or is already ended. It returns the push as it is then, or
// DynamoDB's error.
func (s *Pushes) EndAbandoned(ctx context.Context, requestID string, chunk int, now time.Time) (*engage.Meta, error) {
	item, err := s.metaItem(ctx, "", requestID)
	if err != nil {
		return nil, err
	}
	meta := decodeMeta(item)
	if !meta.IsAbandoned(chunk, now) {
		return meta, nil
	}
	if err := s.countLeft(ctx, meta, now); err != nil {
		return nil, err
	}
	own := meta.Chunks[chunk].Counts
	rest := engage.Result{
		State:  engage.StateCancelled,
		Reason: "cancelled; a POST was under way, and what came of it is unknown",
	}
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                aws.String(s.table),
		Key:                      partKey(requestID, partMeta),
		UpdateExpression:         aws.String("SET #chunk = :final"),
		ConditionExpression:      aws.String("#chunk = :seen"),
		ExpressionAttributeNames: map[string]string{"#chunk": chunkAttribute(chunk)},
		ExpressionAttributeValues: dynamo.Item{
			":seen":  item[chunkAttribute(chunk)],
			":final": dynamo.String(encodeFinal(own, rest, meta.NotBefore)),
		},
		ReturnValues: types.ReturnValueAllNew,
	})
	if _, ended := dynamo.ConditionFailed(err); ended {
		return meta, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(out.Attributes), nil
}
