// Package idempotency lets a request be sent twice and be done once. A record in DynamoDB holds the request's key, a
// hash of its body, the id it is done under, and at last its answer. What is done under that id must itself be safe to
// do again: a process that dies in between leaves the record locked for a few seconds, then the next sender takes it over.
package idempotency

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/go-json-experiment/json"

	"carillon/shared/attribute"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

const (
	retention  = 24 * time.Hour
	lockTime   = 10 * time.Second
	pollPeriod = 200 * time.Millisecond
)

// Store keeps records in a table whose hash key is key and whose time to live is expiresAt.
type Store struct {
	client *dynamodb.Client
	table  string
}

// NewStore returns a Store on that table.
func NewStore(client *dynamodb.Client, table string) *Store {
	return &Store{client: client, table: table}
}

// Operation is a request that was begun.
type Operation struct {
	// ID is what to do the request under: that of the first sender, whoever finishes it.
	ID string
	// Answer is the first answer, if the request is done already, else nil.
	Answer *httpapi.Response

	store *Store
	key   string
}

// Begin claims a request; id is unique to the sending of it. Who finds it done gets its answer; who finds it being done waits, and takes it over when its
// lock ends. A key counts for 24 hours. Begin returns a fault Conflict if the key came with another body, and
// Unavailable if the request is still being done when ctx is nearly over.
func (s *Store) Begin(ctx context.Context, key string, bodyHash [32]byte, id string) (*Operation, error) {
	for {
		now := time.Now()
		kept, err := s.claim(ctx, key, bodyHash, id, now)
		switch {
		case err != nil:
			return nil, err
		case kept == nil:
			return &Operation{ID: id, store: s, key: key}, nil
		case string(attribute.GetBytes(kept, "bodyHash")) != string(bodyHash[:]):
			return nil, fault.New(fault.Conflict, "")
		}
		operation := &Operation{ID: attribute.GetString(kept, "requestId"), store: s, key: key}
		if answer := attribute.GetString(kept, "answer"); answer != "" {
			operation.Answer = new(httpapi.Response)
			return operation, json.Unmarshal([]byte(answer), operation.Answer)
		}
		if lockedUntil := attribute.GetInt(kept, "lockedUntil"); lockedUntil <= now.UnixMilli() {
			taken, err := s.takeOver(ctx, key, lockedUntil, now)
			if err != nil || taken {
				return operation, err
			}
		}
		select {
		case <-time.After(pollPeriod):
		case <-ctx.Done():
			return nil, &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: ctx.Err()}
		}
	}
}

// claim writes a fresh record, or returns the one that is there.
func (s *Store) claim(ctx context.Context, key string, bodyHash [32]byte, id string, now time.Time) (attribute.Item, error) {
	_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(s.table),
		Item: attribute.Item{
			"key":         attribute.String(key),
			"bodyHash":    attribute.Bytes(bodyHash[:]),
			"requestId":   attribute.String(id),
			"lockedUntil": attribute.Int(now.Add(lockTime).UnixMilli()),
			"expiresAt":   attribute.EpochSeconds(now.Add(retention)),
		},
		// The time to live deletes late, so an expired record counts as none. A retry of this very call finds its own record.
		ConditionExpression:                 aws.String("attribute_not_exists(#key) OR expiresAt <= :now"),
		ExpressionAttributeNames:            map[string]string{"#key": "key"},
		ExpressionAttributeValues:           attribute.Item{":now": attribute.EpochSeconds(now)},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var exists *types.ConditionalCheckFailedException
	if errors.As(err, &exists) {
		if attribute.GetString(exists.Item, "requestId") == id && attribute.GetString(exists.Item, "answer") == "" {
			return nil, nil //nolint:nilnil // the SDK retried a write that had reached the table: the claim is ours
		}
		return exists.Item, nil
	}
	return nil, err
}

func (s *Store) takeOver(ctx context.Context, key string, lockedUntil int64, now time.Time) (bool, error) {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(s.table),
		Key:                 attribute.Item{"key": attribute.String(key)},
		UpdateExpression:    aws.String("SET lockedUntil = :until"),
		ConditionExpression: aws.String("lockedUntil = :seen AND attribute_not_exists(answer)"),
		ExpressionAttributeValues: attribute.Item{
			":until": attribute.Int(now.Add(lockTime).UnixMilli()),
			":seen":  attribute.Int(lockedUntil),
		},
	})
	var lost *types.ConditionalCheckFailedException
	if errors.As(err, &lost) {
		return false, nil
	}
	return err == nil, err
}

// Complete stores the answer for those who send the request again. If it fails the request is done all the same:
// the next sender does it again under the same id.
func (o *Operation) Complete(ctx context.Context, answer *httpapi.Response) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = o.store.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 aws.String(o.store.table),
		Key:                       attribute.Item{"key": attribute.String(o.key)},
		UpdateExpression:          aws.String("SET answer = if_not_exists(answer, :answer)"),
		ConditionExpression:       aws.String("requestId = :id"), // an abandoned key may be another request's by now
		ExpressionAttributeValues: attribute.Item{":answer": attribute.String(string(text)), ":id": attribute.String(o.ID)},
	})
	return err
}

// Abandon forgets a request that was refused and did nothing, so that its key can be used for a corrected one.
func (o *Operation) Abandon(ctx context.Context) error {
	_, err := o.store.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName:                 aws.String(o.store.table),
		Key:                       attribute.Item{"key": attribute.String(o.key)},
		ConditionExpression:       aws.String(underWay),
		ExpressionAttributeValues: attribute.Item{":id": attribute.String(o.ID)},
	})
	return unlessPast(err)
}

// Release ends the lock of a request that failed midway, so that the same request again goes on at once.
func (o *Operation) Release(ctx context.Context) error {
	_, err := o.store.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 aws.String(o.store.table),
		Key:                       attribute.Item{"key": attribute.String(o.key)},
		UpdateExpression:          aws.String("SET lockedUntil = :now"),
		ConditionExpression:       aws.String(underWay),
		ExpressionAttributeValues: attribute.Item{":id": attribute.String(o.ID), ":now": attribute.Int(int64(0))},
	})
	return unlessPast(err)
}

// underWay is the condition that a request is still the one with :id, and not done.
const underWay = "requestId = :id AND attribute_not_exists(answer)"

// unlessPast returns the error of a call on the condition underWay, or nil if the condition no longer held: then there is
// nothing left to do.
func unlessPast(err error) error {
	var past *types.ConditionalCheckFailedException
	if errors.As(err, &past) {
		return nil
	}
	return err
}
