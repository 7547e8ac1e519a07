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

// Cancelled is the fault of a chunk that cannot wait for another try because its push was cancelled.
const Cancelled fault.Code = "cancelled"

// Lease is the right to send a chunk, for one POST.
type Lease struct {
	RequestID string
	Chunk     int
	Until     time.Time
	Claims    int // a later lease of the chunk has the higher number
	// Before is the chunk as it was when it was claimed: what is known of it.
	Before engage.ChunkState

	text string // of the chunk's state while the lease holds: no other lease has the same
}

// Claim takes the lease of a chunk until a time, before anything of it is sent, and returns it with the push as it is
// then. A chunk that waits until later than due is not claimed: another job brings it back. It returns a fault Conflict
// when there is nothing to claim: the chunk has ended, is leased by another, waits until later, or was cancelled, with
// the push as it is, nil if another was faster a moment ago; NotFound for a push or chunk that is not there; or
// DynamoDB's error.
func (s *Pushes) Claim(
	ctx context.Context, requestID string, chunk int, due, now, until time.Time,
) (Lease, *engage.Meta, error) {
	const unclaimed = "attribute_exists(requestId) AND attribute_not_exists(#chunk) AND " +
		"attribute_not_exists(cancelledAt) AND chunks > :chunk"
	lease := Lease{RequestID: requestID, Chunk: chunk, Until: until}
	lease.text = encodeLease(engage.ChunkState{Until: until})
	meta, err := s.claim(ctx, lease, unclaimed, dynamo.Item{":chunk": dynamo.Int(chunk)})
	if err == nil {
		lease.Before = engage.ChunkState{Counts: meta.Chunks[chunk].Counts}
		return lease, meta, nil
	}
	kept, refused := dynamo.ConditionFailed(err)
	switch {
	case !refused:
		return Lease{}, nil, err
	case len(kept) == 0:
		return Lease{}, nil, fault.Wrap(fault.NotFound, err)
	}
	meta = decodeMeta(kept)
	if chunk >= len(meta.Chunks) {
		return Lease{}, nil, fault.Wrap(fault.NotFound, err)
	}
	if !isFree(meta, chunk, due, now) {
		return Lease{}, meta, fault.Wrap(fault.Conflict, err)
	}
	lease.Before = meta.Chunks[chunk]
	held := lease.Before
	held.Until = until
	held.Claims++
	lease.Claims = held.Claims
	lease.text = encodeLease(held)
	const asSeen = "#chunk = :seen AND attribute_not_exists(cancelledAt)"
	meta, err = s.claim(ctx, lease, asSeen, dynamo.Item{":seen": kept[chunkAttribute(chunk)]})
	if _, lost := dynamo.ConditionFailed(err); lost {
		return Lease{}, nil, fault.Wrap(fault.Conflict, err)
	}
	return lease, meta, err
}

// isFree reports whether a chunk that somebody claimed before can be claimed now by a job that is due at a time.
func isFree(meta *engage.Meta, chunk int, due, now time.Time) bool {
	c := meta.Chunks[chunk]
	if !meta.CancelledAt.IsZero() {
		return false
	}
	switch c.Phase {
	case engage.Waiting:
		return !c.Until.After(due)
	case engage.Leased:
		return !c.Until.After(now)
	default:
		return false
	}
}

func (s *Pushes) claim(
	ctx context.Context, lease Lease, condition string, values dynamo.Item,
) (*engage.Meta, error) {
	values[":lease"] = dynamo.String(lease.text)
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 partKey(lease.RequestID, partMeta),
		UpdateExpression:                    aws.String("SET #chunk = :lease"),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeNames:            map[string]string{"#chunk": chunkAttribute(lease.Chunk)},
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	kept, refused := dynamo.ConditionFailed(err)
	if refused && sameText(kept[chunkAttribute(lease.Chunk)], lease.text) {
		return decodeMeta(kept), nil // the SDK repeated a claim that had been carried out
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(out.Attributes), nil
}

// Wait ends a lease: the chunk is to be sent again from state.Until on, with what state says of it. It returns a fault
// Conflict if the lease was lost, Cancelled if the push was cancelled meanwhile, or DynamoDB's error.
func (s *Pushes) Wait(ctx context.Context, lease Lease, state engage.ChunkState) error {
	state.Claims = lease.Claims
	const unlessCancelled = " AND attribute_not_exists(cancelledAt)"
	_, err := s.underLease(ctx, lease, unlessCancelled, "", encodeWaiting(state))
	return err
}

// Finish ends a chunk: own are the counts of the destinations whose results SaveProgress kept, rest is what became of
// all others. With the last chunk of a push it takes the push out of the due index as well. It returns the push as it
// is then, a fault Conflict if the lease was lost, or DynamoDB's error.
func (s *Pushes) Finish(
	ctx context.Context, lease Lease, notBefore time.Time, own engage.Counts, rest engage.Result, last bool,
) (*engage.Meta, error) {
	removal := ""
	if last {
		removal = " REMOVE duePartition, dueAt"
	}
	return s.underLease(ctx, lease, "", removal, encodeFinal(own, rest, notBefore))
}

// underLease writes a chunk's state if the lease still holds, and has not ended before the push was cancelled: then the
// chunk was cancelled with it.
func (s *Pushes) underLease(
	ctx context.Context, lease Lease, condition, removal, text string,
) (*engage.Meta, error) {
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:        aws.String(s.table),
		Key:              partKey(lease.RequestID, partMeta),
		UpdateExpression: aws.String("SET #chunk = :text" + removal),
		ConditionExpression: aws.String(
			"#chunk = :lease AND (attribute_not_exists(cancelledAt) OR cancelledAt <= :until)" + condition),
		ExpressionAttributeNames: map[string]string{"#chunk": chunkAttribute(lease.Chunk)},
		ExpressionAttributeValues: dynamo.Item{
			":text":  dynamo.String(text),
			":lease": dynamo.String(lease.text),
			":until": dynamo.Int(engage.Millis(lease.Until)),
		},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if kept, refused := dynamo.ConditionFailed(err); refused {
		switch state := kept[chunkAttribute(lease.Chunk)]; {
		case sameText(state, text):
			return decodeMeta(kept), nil // the SDK repeated a write that had been carried out
		case sameText(state, lease.text) && dynamo.GetInt(kept, "cancelledAt") <= engage.Millis(lease.Until):
			return nil, fault.Wrap(Cancelled, err)
		default:
			return nil, fault.Wrap(fault.Conflict, err)
		}
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(out.Attributes), nil
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
	claims := dynamo.Int(lease.Claims)
	_, err = s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(s.table),
		Item: dynamo.Item{
			"requestId": dynamo.String(lease.RequestID),
			"part":      dynamo.String(partResult(lease.Chunk)),
			"attempt":   dynamo.Int(progress.Attempt),
			"results":   dynamo.Bytes(encoded),
			"claims":    claims,
			"expiresAt": dynamo.EpochSeconds(expires.Add(retention)),
		},
		ConditionExpression:       aws.String("attribute_not_exists(claims) OR claims <= :claims"),
		ExpressionAttributeValues: dynamo.Item{":claims": claims},
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
