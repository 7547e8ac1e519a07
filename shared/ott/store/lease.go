package store

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/sanitize"
)

// isDue is the condition that a message may be claimed at :nowMs.
const isDue = "attribute_exists(id) AND attribute_not_exists(sentAt) AND attribute_not_exists(failedAt) AND " +
	"(attribute_not_exists(notBefore) OR notBefore <= :nowMs)"

// Claim takes the lease of a message until a time, before anything of it is sent, and records that it was in the queue.
// It returns the message as it is then, to be sent. It returns a fault Conflict, and how the message stands, if there
// is nothing to claim: it is final, or may not be tried before its NotBefore. It returns a fault NotFound for a message
// that there is not, an error for one that cannot be read, or DynamoDB's error.
func (s *Messages) Claim(ctx context.Context, tenant, id string, now, until time.Time) (*ott.StoredMessage, error) {
	lease := uuid.NewString()
	item, err := s.update(ctx, tenant, id, isDue,
		"SET lease = :lease, notBefore = :until, queuedAt = if_not_exists(queuedAt, :now)",
		dynamo.Item{
			":lease": dynamo.String(lease), ":until": dynamo.Int(until.UnixMilli()),
			":now": dynamo.Time(now), ":nowMs": dynamo.Int(now.UnixMilli()),
		})
	kept, refused := dynamo.ConditionFailed(err)
	switch {
	case refused && len(kept) == 0:
		return nil, fault.Wrap(fault.NotFound, err)
	case refused && dynamo.GetString(kept, "lease") == lease:
		item = kept // the SDK retried a claim that had been carried out
	case refused:
		return storedMessage(kept), fault.Wrap(fault.Conflict, err)
	case err != nil:
		return nil, err
	}
	m := storedMessage(item)
	if err := readMessage(m, item); err != nil {
		return nil, err
	}
	return m, nil
}

// Release ends the lease of a claimed message early, after a try that did not succeed: it may be claimed again from a
// time on. It keeps m.Tries. It returns a fault Conflict if the lease was lost, or DynamoDB's error.
func (s *Messages) Release(ctx context.Context, m *ott.StoredMessage, at time.Time) error {
	return s.end(ctx, m, "SET notBefore = :at, tries = :tries REMOVE lease", dynamo.Item{
		":at": dynamo.Int(at.UnixMilli()), ":tries": dynamo.Int(m.Tries),
	})
}

// Sent records that the platform took a message, whoever holds its lease by now: it was sent all the same. It returns
// DynamoDB's error.
func (s *Messages) Sent(ctx context.Context, m *ott.StoredMessage, at time.Time) error {
	_, err := s.update(ctx, m.Tenant, m.OttRequestID, "attribute_exists(id)",
		"SET sentAt = if_not_exists(sentAt, :at) REMOVE failedAt, reason, lease, notBefore",
		dynamo.Item{":at": dynamo.Time(at)})
	return err
}

// Failed gives a claimed message up. The reason is kept as sanitize.Text has it, sanitize.MaxReason characters of it.
// It returns a fault Conflict if the lease was lost, or DynamoDB's error.
func (s *Messages) Failed(ctx context.Context, m *ott.StoredMessage, reason string, at time.Time) error {
	return s.end(ctx, m, "SET failedAt = :at, reason = :reason REMOVE lease, notBefore", dynamo.Item{
		":at": dynamo.Time(at), ":reason": dynamo.String(sanitize.Text(reason, sanitize.MaxReason)),
	})
}

// end writes to the item of a claimed message whose lease is not lost.
func (s *Messages) end(ctx context.Context, m *ott.StoredMessage, update string, values dynamo.Item) error {
	values[":lease"] = dynamo.String(m.Lease)
	_, err := s.update(ctx, m.Tenant, m.OttRequestID, "lease = :lease", update, values)
	if _, lost := dynamo.ConditionFailed(err); lost {
		return fault.Wrap(fault.Conflict, err)
	}
	return err
}

// update writes to a message's item on a condition and returns the item as it is then.
func (s *Messages) update(
	ctx context.Context, tenant, id, condition, update string, values dynamo.Item,
) (dynamo.Item, error) {
	out, err := s.items.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 dynamo.Item{"id": dynamo.String(messageID(tenant, id))},
		UpdateExpression:                    aws.String(update),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err != nil {
		return nil, err
	}
	return out.Attributes, nil
}
