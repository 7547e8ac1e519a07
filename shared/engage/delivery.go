package engage

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
)

// Lease is the right to send a chunk until its time is over. A chunk is only claimed at or after the end of its last lease,
// so every later lease is claimed later, and an older holder is told from a newer one by that, whatever their clocks say.
type Lease struct {
	RequestID string
	Chunk     int
	Claimed   time.Time
	Until     time.Time
}

// Claim takes the lease of a chunk, before anything of it is sent. It returns the push as it is then and first, whether
// nobody has held a lease of the chunk before. It returns a fault Conflict when there is nothing to claim: the chunk is
// final, leased by another, or was cancelled; and NotFound for a push that is not committed or has expired.
func (s *PushStore) Claim(ctx context.Context, requestID string, chunk int, now, until time.Time) (lease Lease, meta *Meta, first bool, err error) {
	meta, err = s.claim(ctx, requestID, chunk, until,
		"attribute_exists(requestId) AND attribute_not_exists(#chunk) AND attribute_not_exists(cancelledAt) AND chunks > :chunk",
		"SET #chunk = :until ADD claimed :one", dynamo.Item{":one": dynamo.Int(1), ":chunk": dynamo.Int(chunk)})
	if err == nil {
		return Lease{requestID, chunk, now, until}, meta, true, nil
	}
	var refused *types.ConditionalCheckFailedException
	if !errors.As(err, &refused) {
		return Lease{}, nil, false, err
	}
	if len(refused.Item) == 0 {
		return Lease{}, nil, false, fault.Wrap(fault.NotFound, err)
	}
	kept := decodeMeta(refused.Item)
	if chunk >= len(kept.Chunks) || kept.Chunks[chunk].Final != nil || kept.Chunks[chunk].LeasedUntil.IsZero() || kept.Chunks[chunk].LeasedUntil.After(now) {
		return Lease{}, kept, false, fault.Wrap(fault.Conflict, err)
	}
	seen := kept.Chunks[chunk].LeasedUntil
	if !until.After(seen) {
		until = seen.Add(time.Millisecond)
	}
	meta, err = s.claim(ctx, requestID, chunk, until, "#chunk = :seen", "SET #chunk = :until", dynamo.Item{":seen": dynamo.Int(millis(seen))})
	if errors.As(err, &refused) {
		return Lease{}, nil, false, fault.Wrap(fault.Conflict, err)
	}
	return Lease{requestID, chunk, now, until}, meta, false, err
}

func (s *PushStore) claim(ctx context.Context, requestID string, chunk int, until time.Time, condition, update string, values dynamo.Item) (*Meta, error) {
	values[":until"] = dynamo.Int(millis(until))
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 partKey(requestID, partMeta),
		UpdateExpression:                    aws.String(update),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeNames:            map[string]string{"#chunk": chunkAttribute(chunk)},
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) && dynamo.GetInt(refused.Item, chunkAttribute(chunk)) == millis(until) {
		return decodeMeta(refused.Item), nil // the SDK retried a claim that had been carried out
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(out.Attributes), nil
}

// Park ends a lease early: the chunk can be claimed again from a time on, which must not be before it was claimed. It
// returns a fault Conflict if the lease was lost.
func (s *PushStore) Park(ctx context.Context, lease Lease, at time.Time) error {
	_, err := s.underLease(ctx, lease, "", dynamo.Int(millis(at)))
	return err
}

// Finish writes a chunk's final counts. With the last chunk of a push it takes the push out of the due index as well. It
// returns the push as it is then, or a fault Conflict if the lease was lost.
func (s *PushStore) Finish(ctx context.Context, lease Lease, counts Counts, last bool) (*Meta, error) {
	removal := ""
	if last {
		removal = " REMOVE duePartition, dueAt"
	}
	return s.underLease(ctx, lease, removal, dynamo.String(encodeFinal(counts)))
}

// underLease writes a chunk's state if the lease still holds.
func (s *PushStore) underLease(ctx context.Context, lease Lease, removal string, value types.AttributeValue) (*Meta, error) {
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 partKey(lease.RequestID, partMeta),
		UpdateExpression:                    aws.String("SET #chunk = :value" + removal),
		ConditionExpression:                 aws.String("#chunk = :lease"),
		ExpressionAttributeNames:            map[string]string{"#chunk": chunkAttribute(lease.Chunk)},
		ExpressionAttributeValues:           dynamo.Item{":value": value, ":lease": dynamo.Int(millis(lease.Until))},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var lost *types.ConditionalCheckFailedException
	switch {
	case errors.As(err, &lost) && sameValue(lost.Item[chunkAttribute(lease.Chunk)], value):
		return decodeMeta(lost.Item), nil // the SDK retried a write that had been carried out
	case errors.As(err, &lost):
		return nil, fault.Wrap(fault.Conflict, err)
	case err != nil:
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

// Close takes a push that is final out of the due index. Doing it again is harmless.
func (s *PushStore) Close(ctx context.Context, requestID string) error {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(s.table),
		Key:                 partKey(requestID, partMeta),
		UpdateExpression:    aws.String("REMOVE duePartition, dueAt"),
		ConditionExpression: aws.String("attribute_exists(duePartition)"),
	})
	var closed *types.ConditionalCheckFailedException
	if errors.As(err, &closed) {
		return nil
	}
	return err
}

// Progress is how far the sending of a chunk has come. Attempt is the number of the next POST with another webhook-id: 0
// is that of the whole chunk, the later ones carry what the gateway wants again.
type Progress struct {
	Attempt int
	Results []Result // in the order of the chunk's destinations
}

// SaveProgress keeps what is known of a chunk, before the next attempt is sent and before it is final. It returns a
// fault Conflict if a later lease has written.
func (s *PushStore) SaveProgress(ctx context.Context, lease Lease, progress Progress, expires time.Time) error {
	encoded, err := encodeResults(progress.Results)
	if err != nil {
		return err
	}
	_, err = s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(s.table),
		Item: dynamo.Item{
			"requestId": dynamo.String(lease.RequestID),
			"part":      dynamo.String(partResult(lease.Chunk)),
			"attempt":   dynamo.Int(progress.Attempt),
			"results":   dynamo.Bytes(encoded),
			"claimed":   dynamo.Int(millis(lease.Claimed)),
			"expiresAt": dynamo.EpochSeconds(expires.Add(retention)),
		},
		ConditionExpression:       aws.String("attribute_not_exists(claimed) OR claimed <= :claimed"),
		ExpressionAttributeValues: dynamo.Item{":claimed": dynamo.Int(millis(lease.Claimed))},
	})
	var lost *types.ConditionalCheckFailedException
	if errors.As(err, &lost) {
		return fault.Wrap(fault.Conflict, err)
	}
	return err
}

// Progress returns what SaveProgress kept of a chunk, and whether it kept anything.
func (s *PushStore) Progress(ctx context.Context, requestID string, chunk int) (Progress, bool, error) {
	item, err := s.part(ctx, requestID, partResult(chunk))
	if err != nil || item == nil {
		return Progress{}, false, err
	}
	results, err := decodeResults(dynamo.GetBytes(item, "results"))
	return Progress{Attempt: int(dynamo.GetInt(item, "attempt")), Results: results}, true, err
}

// Content is what all chunks of a push have in common.
type Content struct {
	Program  Program
	ANumbers []string
}

// Content returns what handsets show, or a fault NotFound.
func (s *PushStore) Content(ctx context.Context, requestID string) (*Content, error) {
	item, err := s.part(ctx, requestID, partContent)
	if err != nil {
		return nil, err
	}
	if item == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	aNumbers, err := decodeNumbers(dynamo.GetBytes(item, "aNumbers"))
	if err != nil {
		return nil, err
	}
	return &Content{ANumbers: aNumbers, Program: Program{
		UUID:    dynamo.GetString(item, "programUuid"),
		Name:    dynamo.GetString(item, "programName"),
		Content: jsontext.Value(dynamo.GetString(item, "content")),
	}}, nil
}

// Destinations returns a chunk's destinations, or a fault NotFound.
func (s *PushStore) Destinations(ctx context.Context, requestID string, chunk int) ([]Destination, error) {
	item, err := s.part(ctx, requestID, partChunk(chunk))
	if err != nil {
		return nil, err
	}
	if item == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	return DecodeChunk(dynamo.GetBytes(item, "destinations"))
}

// part reads a part of a push, nil if there is none.
func (s *PushStore) part(ctx context.Context, requestID, part string) (dynamo.Item, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.table),
		Key:            partKey(requestID, part),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

func partKey(requestID, part string) dynamo.Item {
	return dynamo.Item{"requestId": dynamo.String(requestID), "part": dynamo.String(part)}
}

// Meta returns the push of a tenant, of any if tenant is empty. It returns a fault NotFound for another tenant's as for none.
func (s *PushStore) Meta(ctx context.Context, tenant, requestID string) (*Meta, error) {
	item, err := s.part(ctx, requestID, partMeta)
	if err != nil {
		return nil, err
	}
	if item == nil || tenant != "" && dynamo.GetString(item, "tenant") != tenant {
		return nil, fault.New(fault.NotFound, "")
	}
	return decodeMeta(item), nil
}

// Cancel cancels every chunk of a push that has not been claimed, in one conditional write, so that it and a claim never
// both succeed. Doing it again returns the push as it is. It returns a fault Conflict if nothing was left to cancel, and
// NotFound as Meta does.
func (s *PushStore) Cancel(ctx context.Context, tenant, requestID string, now time.Time) (*Meta, error) {
	meta, err := s.Meta(ctx, tenant, requestID)
	if err != nil || !meta.CancelledAt.IsZero() {
		return meta, err
	}
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 partKey(requestID, partMeta),
		UpdateExpression:                    aws.String("SET cancelledAt = :now"),
		ConditionExpression:                 aws.String("attribute_not_exists(cancelledAt) AND (attribute_not_exists(claimed) OR claimed < chunks)"),
		ExpressionAttributeValues:           dynamo.Item{":now": dynamo.Int(millis(now))},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var refused *types.ConditionalCheckFailedException
	switch {
	case errors.As(err, &refused):
		if kept := decodeMeta(refused.Item); !kept.CancelledAt.IsZero() {
			return kept, nil
		}
		return nil, fault.Wrap(fault.Conflict, err)
	case err != nil:
		return nil, err
	}
	if meta = decodeMeta(out.Attributes); meta.Finished() {
		return meta, s.Close(ctx, requestID)
	}
	return meta, nil
}

// Due returns the ids of pushes of a partition of the due index whose time has come, oldest first, at most limit of them.
func (s *PushStore) Due(ctx context.Context, partition int, now time.Time, limit int32) ([]string, error) {
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

// Postpone leases a due push to the caller: nobody else finds it due before next. It returns a fault Conflict if another
// was faster, or the push is closed.
func (s *PushStore) Postpone(ctx context.Context, requestID string, now, next time.Time) (*Meta, error) {
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 aws.String(s.table),
		Key:                       partKey(requestID, partMeta),
		UpdateExpression:          aws.String("SET dueAt = :next"),
		ConditionExpression:       aws.String("dueAt <= :now"),
		ExpressionAttributeValues: dynamo.Item{":next": dynamo.Int(millis(next)), ":now": dynamo.Int(now.UnixMilli())},
		ReturnValues:              types.ReturnValueAllNew,
	})
	var lost *types.ConditionalCheckFailedException
	if errors.As(err, &lost) {
		return nil, fault.Wrap(fault.Conflict, err)
	}
	if err != nil {
		return nil, err
	}
	return decodeMeta(out.Attributes), nil
}
