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

// maxReason is how much is kept of the reason that a message waits or was given up for, in characters.
const maxReason = sanitize.MaxReason + 64

// isOpen is the condition that a message is not final.
const isOpen = "attribute_not_exists(sentAt) AND attribute_not_exists(failedAt)"

// isDue is the condition that a message may be claimed at :now.
const isDue = isOpen + " AND (attribute_not_exists(notBefore) OR notBefore <= :now)"

// Claim takes the lease of a message until a time, before anything of it is sent, and counts the try that is begun. It
// completes m.Progress as it is then. It returns a fault Conflict if there is nothing to claim, with m.Progress as it
// stands: it is final, or may not be tried before its NotBefore; or DynamoDB's error.
func (s *Messages) Claim(ctx context.Context, m *ott.StoredMessage, now, until time.Time) error {
	lease := uuid.NewString()
	item, err := s.update(ctx, m, isDue,
		"SET lease = :lease, notBefore = :until, openSince = if_not_exists(openSince, :now), expiresAt = :expires "+
			"ADD opened :one", "", dynamo.Item{
			":lease": dynamo.String(lease), ":one": dynamo.Int(1),
			":until": dynamo.Int(until.UnixMilli()), ":now": dynamo.Int(now.UnixMilli()),
			":expires": dynamo.EpochSeconds(m.CreatedAt.Add(messageRetention)),
		})
	kept, refused := dynamo.ConditionFailed(err)
	switch {
	case refused && dynamo.GetString(kept, "lease") == lease:
		item = kept // the SDK retried a claim that had been carried out
	case refused:
		m.Progress = readProgress(kept)
		return fault.Wrap(fault.Conflict, err)
	case err != nil:
		return err
	}
	m.Progress = readProgress(item)
	return nil
}

// Release ends the lease of a claimed message after a try that did not succeed: it may be claimed again from a time on.
// It keeps m's Tries, Open and Reason, and lists the message among those that wait. It returns a fault Conflict if the
// lease was lost, or DynamoDB's error.
func (s *Messages) Release(ctx context.Context, m *ott.StoredMessage, at time.Time) error {
	remove := "REMOVE lease"
	if m.Progress.Open == 0 {
		remove += ", openSince"
	}
	return s.end(ctx, m, "SET notBefore = :at, tries = :tries, opened = :open, reason = :reason, waiting = :waiting, "+
		"createdAt = :created", remove, dynamo.Item{
		":at": dynamo.Int(at.UnixMilli()), ":tries": dynamo.Int(m.Progress.Tries), ":open": dynamo.Int(m.Progress.Open),
		":reason":  dynamo.String(sanitize.Text(m.Progress.Reason, maxReason)),
		":waiting": dynamo.String(registrationKey(m.Message.Platform, m.Message.SenderID)),
		":created": dynamo.Int(m.CreatedAt.UnixMilli()),
	})
}

// Wait lists a message that is not claimed among those that wait, with the reason, unless it has one already; until a
// time that may be changed by whoever comes first. It is m's OttRequestID, Tenant, CreatedAt, and of its Message the
// property, that count. It changes nothing of a message that is final, or whose lease somebody holds, and returns
// DynamoDB's error.
func (s *Messages) Wait(ctx context.Context, m *ott.StoredMessage, reason string) error {
	_, err := s.update(
		ctx,
		m,
		isOpen+" AND attribute_not_exists(lease)",
		"SET reason = if_not_exists(reason, :reason), waiting = :waiting, createdAt = :created, expiresAt = :expires",
		"",
		dynamo.Item{
			":reason":  dynamo.String(sanitize.Text(reason, maxReason)),
			":waiting": dynamo.String(registrationKey(m.Message.Platform, m.Message.SenderID)),
			":created": dynamo.Int(m.CreatedAt.UnixMilli()),
			":expires": dynamo.EpochSeconds(m.CreatedAt.Add(messageRetention)),
		},
	)
	if _, over := dynamo.ConditionFailed(err); over {
		return nil
	}
	return err
}

// Sent records that the platform took a message, by a call that began at m.Progress.BegunAt, and the ids that it gave
// it, whoever holds the lease by now: it was sent all the same. It returns DynamoDB's error.
func (s *Messages) Sent(ctx context.Context, m *ott.StoredMessage, at time.Time) error {
	set, values := "SET sentAt = if_not_exists(sentAt, :at), begunAt = if_not_exists(begunAt, :begun)", dynamo.Item{
		":at": dynamo.Int(at.UnixMilli()), ":begun": dynamo.Int(m.Progress.BegunAt.UnixMilli()),
	}
	if len(m.Progress.PlatformIDs) > 0 {
		set += ", platformIds = if_not_exists(platformIds, :ids)"
		values[":ids"] = dynamo.StringList(m.Progress.PlatformIDs)
	}
	_, err := s.update(ctx, m, "attribute_exists(id)", set,
		"REMOVE failedAt, reason, lease, notBefore, waiting, opened, openSince", values)
	return err
}

// Failed gives a claimed message up. The reason is kept as sanitize.Text has it. It returns a fault Conflict if the
// lease was lost, or DynamoDB's error.
func (s *Messages) Failed(ctx context.Context, m *ott.StoredMessage, reason string, at time.Time) error {
	return s.end(ctx, m, "SET failedAt = :at, reason = :reason",
		"REMOVE lease, notBefore, waiting, opened, openSince", dynamo.Item{
			":at": dynamo.Int(at.UnixMilli()), ":reason": dynamo.String(sanitize.Text(reason, maxReason)),
		})
}

// end writes to the item of a claimed message whose lease is not lost.
func (s *Messages) end(ctx context.Context, m *ott.StoredMessage, set, remove string, values dynamo.Item) error {
	values[":lease"] = dynamo.String(m.Progress.Lease)
	_, err := s.update(ctx, m, "lease = :lease", set, remove, values)
	if _, lost := dynamo.ConditionFailed(err); lost {
		return fault.Wrap(fault.Conflict, err)
	}
	return err
}

// update writes to the item of a message's progress on a condition and returns it as it is then.
func (s *Messages) update(
	ctx context.Context, m *ott.StoredMessage, condition, set, remove string, values dynamo.Item,
) (dynamo.Item, error) {
	update := set
	if remove != "" {
		update += " " + remove
	}
	input := &dynamodb.UpdateItemInput{
		TableName: aws.String(s.table),
		Key: dynamo.Item{
			"id": dynamo.String(progressID(m.Tenant, m.OttRequestID, m.CreatedAt)),
		},
		UpdateExpression:                    aws.String(update),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeValues:           values,
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	out, err := s.items.UpdateItem(ctx, input)
	if err != nil {
		return nil, err
	}
	return out.Attributes, nil
}

// progress reads what has become of a message; nothing yet if there is no item of it.
func (s *Messages) progress(ctx context.Context, m *ott.StoredMessage) (ott.Progress, error) {
	item, err := s.get(ctx, progressID(m.Tenant, m.OttRequestID, m.CreatedAt), true)
	if err != nil {
		return ott.Progress{}, fault.Ignore(err, fault.NotFound)
	}
	return readProgress(item), nil
}

func readProgress(item dynamo.Item) ott.Progress {
	return ott.Progress{
		Tries:       int(dynamo.GetInt(item, "tries")),
		Open:        int(dynamo.GetInt(item, "opened")),
		OpenSince:   getMilliseconds(item, "openSince"),
		Reason:      dynamo.GetString(item, "reason"),
		NotBefore:   getMilliseconds(item, "notBefore"),
		Lease:       dynamo.GetString(item, "lease"),
		BegunAt:     getMilliseconds(item, "begunAt"),
		SentAt:      getMilliseconds(item, "sentAt"),
		FailedAt:    getMilliseconds(item, "failedAt"),
		PlatformIDs: dynamo.GetStrings(item, "platformIds"),
	}
}
