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

	"carillon/shared/attribute"
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
		attribute.Item{
			":lease": attribute.String(lease), ":until": attribute.Int(until.UnixMilli()),
			":now": attribute.Time(now), ":nowMs": attribute.Int(now.UnixMilli()),
		})
	var refused *types.ConditionalCheckFailedException
	switch {
	case errors.As(err, &refused) && len(refused.Item) == 0:
		return nil, fault.Wrap(fault.NotFound, err)
	case errors.As(err, &refused) && attribute.GetString(refused.Item, "lease") == lease:
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
		attribute.Item{":lease": attribute.String(m.lease), ":at": attribute.Int(at.UnixMilli()), ":tries": attribute.Int(m.Tries)})
	return conflictUnless(err)
}

// Sent records that the platform took a message, whoever holds its lease by now: it was sent all the same.
func (s *MessageStore) Sent(ctx context.Context, m *StoredMessage, at time.Time) error {
	_, err := s.update(ctx, m.Tenant, m.OttRequestID, "attribute_exists(id)",
		"SET sentAt = if_not_exists(sentAt, :at) REMOVE failedAt, reason, lease, notBefore", attribute.Item{":at": attribute.Time(at)})
	return err
}

// Failed gives a claimed message up. What is not printable of the reason, or behind its first 256 characters, is not
// kept. It returns a fault Conflict if the lease was lost.
func (s *MessageStore) Failed(ctx context.Context, m *StoredMessage, reason string, at time.Time) error {
	_, err := s.update(ctx, m.Tenant, m.OttRequestID, "lease = :lease", "SET failedAt = :at, reason = :reason REMOVE lease, notBefore",
		attribute.Item{":lease": attribute.String(m.lease), ":at": attribute.Time(at), ":reason": attribute.String(printable(reason))})
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
func (s *MessageStore) update(ctx context.Context, tenant, id, condition, update string, values attribute.Item) (attribute.Item, error) {
	out, err := s.items.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 attribute.Item{"id": attribute.String(messageID(tenant, id))},
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

func storedMessage(item attribute.Item) *StoredMessage {
	m := &StoredMessage{
		OttRequestID: attribute.GetString(item, "ottRequestId"),
		Tenant:       attribute.GetString(item, "tenant"),
		Body:         []byte(attribute.GetString(item, "body")),
		CreatedAt:    attribute.GetTime(item, "createdAt"),
		QueuedAt:     attribute.GetTime(item, "queuedAt"),
		SentAt:       attribute.GetTime(item, "sentAt"),
		FailedAt:     attribute.GetTime(item, "failedAt"),
		Reason:       attribute.GetString(item, "reason"),
		Tries:        int(attribute.GetInt(item, "tries")),
		lease:        attribute.GetString(item, "lease"),
	}
	if ms := attribute.GetInt(item, "notBefore"); ms > 0 {
		m.NotBefore = time.UnixMilli(ms)
	}
	return m
}
