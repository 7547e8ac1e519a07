package store

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/store/columns"
	"carillon/shared/fault"
)

// Lease is the right to send a chunk until its time is over. A chunk is only claimed at or after the end of its last
// lease, so every later lease is claimed later, and an older holder is told from a newer one by that, whatever their
// clocks say.
type Lease struct {
	RequestID string
	Chunk     int
	Claimed   time.Time
	Until     time.Time
	state     types.AttributeValue // of the chunk while the lease holds: no other lease has the same
}

// Claim takes the lease of a chunk, before anything of it is sent. It returns the push as it is then and first, whether
// nobody has held a lease of the chunk before. It returns a fault Conflict when there is nothing to claim: the chunk is
// final, leased by another, or was cancelled (with the push as it is, unless another was faster a moment ago); NotFound
// for a push that is not committed or has expired; or DynamoDB's error.
func (s *Pushes) Claim(
	ctx context.Context, requestID string, chunk int, now, until time.Time,
) (lease Lease, meta *engage.Meta, first bool, err error) {
	const neverClaimed = "attribute_exists(requestId) AND attribute_not_exists(#chunk) AND " +
		"attribute_not_exists(cancelledAt) AND chunks > :chunk"
	lease = Lease{RequestID: requestID, Chunk: chunk, Claimed: now, Until: until, state: encodeLease(until)}
	meta, err = s.claim(ctx, lease, neverClaimed, "SET #chunk = :lease ADD claimed :one",
		dynamo.Item{":one": dynamo.Int(1), ":chunk": dynamo.Int(chunk)})
	if err == nil {
		return lease, meta, true, nil
	}
	kept, refused := dynamo.ConditionFailed(err)
	switch {
	case !refused:
		return Lease{}, nil, false, err
	case len(kept) == 0:
		return Lease{}, nil, false, fault.Wrap(fault.NotFound, err)
	}
	if meta = decodeMeta(kept); !wasLeased(meta, chunk) || meta.Chunks[chunk].LeasedUntil.After(now) {
		return Lease{}, meta, false, fault.Wrap(fault.Conflict, err)
	}
	seen := meta.Chunks[chunk].LeasedUntil
	if !until.After(seen) {
		lease.Until = seen.Add(time.Millisecond)
		lease.state = encodeLease(lease.Until)
	}
	meta, err = s.claim(ctx, lease, "#chunk = :seen", "SET #chunk = :lease",
		dynamo.Item{":seen": kept[chunkAttribute(chunk)]})
	if _, lost := dynamo.ConditionFailed(err); lost {
		return Lease{}, nil, false, fault.Wrap(fault.Conflict, err)
	}
	return lease, meta, false, err
}

// wasLeased reports whether there is such a chunk, it was claimed, and it is not final.
func wasLeased(meta *engage.Meta, chunk int) bool {
	return chunk < len(meta.Chunks) && !meta.Chunks[chunk].LeasedUntil.IsZero()
}

func (s *Pushes) claim(
	ctx context.Context, lease Lease, condition, update string, values dynamo.Item,
) (*engage.Meta, error) {
	values[":lease"] = lease.state
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 partKey(lease.RequestID, partMeta),
		UpdateExpression:                    aws.String(update),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeNames:            map[string]string{"#chunk": chunkAttribute(lease.Chunk)},
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	kept, refused := dynamo.ConditionFailed(err)
	if refused && sameValue(kept[chunkAttribute(lease.Chunk)], lease.state) {
		return decodeMeta(kept), nil // the SDK retried a claim that had been carried out
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(out.Attributes), nil
}

// Release ends a lease early: the chunk can be claimed again from a time on, which must not be before it was claimed.
// It returns a fault Conflict if the lease was lost, or DynamoDB's error.
func (s *Pushes) Release(ctx context.Context, lease Lease, at time.Time) error {
	_, err := s.underLease(ctx, lease, "", dynamo.Int(engage.Millis(at)))
	return err
}

// Finish writes a chunk's final counts. With the last chunk of a push it takes the push out of the due index as well.
// It returns the push as it is then, a fault Conflict if the lease was lost, or DynamoDB's error.
func (s *Pushes) Finish(ctx context.Context, lease Lease, counts engage.Counts, last bool) (*engage.Meta, error) {
	removal := ""
	if last {
		removal = " REMOVE duePartition, dueAt"
	}
	return s.underLease(ctx, lease, removal, dynamo.String(encodeFinal(counts)))
}

// underLease writes a chunk's state if the lease still holds.
func (s *Pushes) underLease(
	ctx context.Context, lease Lease, removal string, value types.AttributeValue,
) (*engage.Meta, error) {
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 partKey(lease.RequestID, partMeta),
		UpdateExpression:                    aws.String("SET #chunk = :value" + removal),
		ConditionExpression:                 aws.String("#chunk = :lease"),
		ExpressionAttributeNames:            map[string]string{"#chunk": chunkAttribute(lease.Chunk)},
		ExpressionAttributeValues:           dynamo.Item{":value": value, ":lease": lease.state},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if kept, lost := dynamo.ConditionFailed(err); lost {
		if sameValue(kept[chunkAttribute(lease.Chunk)], value) {
			return decodeMeta(kept), nil // the SDK retried a write that had been carried out
		}
		return nil, fault.Wrap(fault.Conflict, err)
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(out.Attributes), nil
}

func sameValue(a, b types.AttributeValue) bool {
	switch b := b.(type) {
	case *types.AttributeValueMemberN:
		a, ok := a.(*types.AttributeValueMemberN)
		return ok && a.Value == b.Value
	case *types.AttributeValueMemberS:
		a, ok := a.(*types.AttributeValueMemberS)
		return ok && a.Value == b.Value
	}
	return false
}

// Progress is how far the sending of a chunk has come. Attempt is the number of the next POST with another webhook-id:
// 0 is that of the whole chunk, the later ones carry what the gateway wants again.
type Progress struct {
	Attempt int
	Results []engage.Result // in the order of the chunk's destinations
}

// SaveProgress keeps what is known of a chunk, before the next attempt is sent and before it is final. It returns a
// fault Conflict if a later lease has written, or DynamoDB's error.
func (s *Pushes) SaveProgress(ctx context.Context, lease Lease, progress Progress, expires time.Time) error {
	encoded, err := columns.EncodeResults(progress.Results)
	if err != nil {
		return err
	}
	claimed := dynamo.Int(engage.Millis(lease.Claimed))
	_, err = s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(s.table),
		Item: dynamo.Item{
			"requestId": dynamo.String(lease.RequestID),
			"part":      dynamo.String(partResult(lease.Chunk)),
			"attempt":   dynamo.Int(progress.Attempt),
			"results":   dynamo.Bytes(encoded),
			"claimed":   claimed,
			"expiresAt": dynamo.EpochSeconds(expires.Add(retention)),
		},
		ConditionExpression:       aws.String("attribute_not_exists(claimed) OR claimed <= :claimed"),
		ExpressionAttributeValues: dynamo.Item{":claimed": claimed},
	})
	if _, lost := dynamo.ConditionFailed(err); lost {
		return fault.Wrap(fault.Conflict, err)
	}
	return err
}

// Progress returns what SaveProgress kept of a chunk, and whether it kept anything. It returns engage.ErrChunk, or
// DynamoDB's error.
func (s *Pushes) Progress(ctx context.Context, requestID string, chunk int) (Progress, bool, error) {
	item, err := s.part(ctx, requestID, partResult(chunk))
	if err != nil || item == nil {
		return Progress{}, false, err
	}
	results, err := columns.DecodeResults(dynamo.GetBytes(item, "results"))
	return Progress{Attempt: int(dynamo.GetInt(item, "attempt")), Results: results}, true, err
}
