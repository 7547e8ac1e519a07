package ott

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
)

// Claim takes the lease of a message until a time, before anything of it is sent, and records that it was in the queue. It
// returns the message as it is then, or a fault Conflict with the message if there is nothing to claim: it is final, or
// may not be tried before its NotBefore. It returns a fault NotFound for a message that there is not, or AWS's error.
func (s *MessageStore) Claim(ctx context.Context, tenant, id string, now, until time.Time) (*StoredMessage, error) {
	lease := uuid.NewString()
	item, err := s.update(ctx, tenant, id,
		"attribute_exists(id) AND attribute_not_exists(sentAt) AND attribute_not_exists(failedAt) AND (attribute_not_exists(notBefore) OR notBefore <= :nowMs)",
		"SET lease = :lease, notBefore = :until, queuedAt = if_not_exists(queuedAt, :now)",
		dynamo.Item{
			":lease": dynamo.String(lease), ":until": dynamo.Int(until.UnixMilli()),
			":now": dynamo.Time(now), ":nowMs": dynamo.Int(now.UnixMilli()),
		})
	var refused *types.ConditionalCheckFailedException
	switch {
	case errors.As(err, &refused) && len(refused.Item) == 0:
		return nil, fault.Wrap(fault.NotFound, err)
	case errors.As(err, &refused) && dynamo.GetString(refused.Item, "lease") == lease:
		return storedMessage(refused.Item), nil // the SDK retried a claim that had been carried out
	case errors.As(err, &refused):
		return storedMessage(refused.Item), fault.Wrap(fault.Conflict, err)
	case err != nil:
		return nil, err
	}
	return storedMessage(item), nil
}

// Park ends the lease of a claimed message after a try that did not succeed: it may be claimed again from a time on. It
// returns a fault Conflict if the lease was lost.
func (s *MessageStore) Park(ctx context.Context, m *StoredMessage, at time.Time) error {
	_, err := s.update(ctx, m.Tenant, m.OttRequestID, "lease = :lease", "SET notBefore = :at, tries = :tries REMOVE lease",
		dynamo.Item{":lease": dynamo.String(m.lease), ":at": dynamo.Int(at.UnixMilli()), ":tries": dynamo.Int(m.Tries)})
	return conflictUnless(err)
}

// Sent records that the platform took a message, whoever holds its lease by now: it was sent all the same.
func (s *MessageStore) Sent(ctx context.Context, m *StoredMessage, at time.Time) error {
	_, err := s.update(ctx, m.Tenant, m.OttRequestID, "attribute_exists(id)",
		"SET sentAt = if_not_exists(sentAt, :at) REMOVE failedAt, reason, lease, notBefore", dynamo.Item{":at": dynamo.Time(at)})
	return err
}

// Failed gives a claimed message up. What is not printable of the reason, or behind its first 256 characters, is not
// kept. It returns a fault Conflict if the lease was lost.
func (s *MessageStore) Failed(ctx context.Context, m *StoredMessage, reason string, at time.Time) error {
	_, err := s.update(ctx, m.Tenant, m.OttRequestID, "lease = :lease", "SET failedAt = :at, reason = :reason REMOVE lease, notBefore",
		dynamo.Item{":lease": dynamo.String(m.lease), ":at": dynamo.Time(at), ":reason": dynamo.String(printable(reason))})
	return conflictUnless(err)
}

func conflictUnless(err error) error {
	var lost *types.ConditionalCheckFailedException
	if errors.As(err, &lost) {
		return fault.Wrap(fault.Conflict, err)
	}
	return err
}

func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > maxReason {
		text = string(runes[:maxReason-1]) + "…"
	}
	return text
}

// update writes to a message's item on a condition and returns the item as it is then.
func (s *MessageStore) update(ctx context.Context, tenant, id, condition, update string, values dynamo.Item) (dynamo.Item, error) {
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

func storedMessage(item dynamo.Item) *StoredMessage {
	m := &StoredMessage{
		OttRequestID: dynamo.GetString(item, "ottRequestId"),
		Tenant:       dynamo.GetString(item, "tenant"),
		Body:         []byte(dynamo.GetString(item, "body")),
		CreatedAt:    dynamo.GetTime(item, "createdAt"),
		QueuedAt:     dynamo.GetTime(item, "queuedAt"),
		SentAt:       dynamo.GetTime(item, "sentAt"),
		FailedAt:     dynamo.GetTime(item, "failedAt"),
		Reason:       dynamo.GetString(item, "reason"),
		Tries:        int(dynamo.GetInt(item, "tries")),
		lease:        dynamo.GetString(item, "lease"),
	}
	if ms := dynamo.GetInt(item, "notBefore"); ms > 0 {
		m.NotBefore = time.UnixMilli(ms)
	}
	return m
}
