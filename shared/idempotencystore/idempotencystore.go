// Package idempotencystore keeps the records of package idempotency in DynamoDB, and locks beside them.
package idempotencystore

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/go-json-experiment/json"

	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
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
	clock  clock.Clock
}

// New returns a Store on that table.
func New(client *dynamodb.Client, table string, clock clock.Clock) *Store {
	return &Store{client: client, table: table, clock: clock}
}

// Open returns a Store on the table that IDEMPOTENCY_TABLE names.
func Open(env *environment.Variables, config aws.Config) *Store {
	return New(dynamodb.NewFromConfig(config), env.String("IDEMPOTENCY_TABLE"), clock.System{})
}

// Begin claims a request; id is unique to the sending of it. Who finds it done gets its answer; who finds it being done
// waits, and takes it over when its lock ends, ten seconds after it was taken. A key counts for 24 hours. Begin returns
// a fault Conflict if the key came with another body, Unavailable if the request is still being done when ctx is nearly
// over, or DynamoDB's error.
func (s *Store) Begin(ctx context.Context, key string, bodyHash [32]byte, id string) (*idempotency.Operation, error) {
	for {
		now := s.clock.Now()
		item := dynamo.Item{
			"bodyHash":  dynamo.Bytes(bodyHash[:]),
			"expiresAt": dynamo.EpochSeconds(now.Add(retention)),
		}
		kept, err := s.claim(ctx, key, id, item, now)
		switch {
		case err != nil:
			return nil, err
		case kept == nil:
			return s.operation(key, id), nil
		case string(dynamo.GetBytes(kept, "bodyHash")) != string(bodyHash[:]):
			return nil, fault.New(fault.Conflict, "")
		}
		operation := s.operation(key, dynamo.GetString(kept, "requestId"))
		if answer := dynamo.GetString(kept, "answer"); answer != "" {
			operation.Answer = new(httpapi.Response)
			return operation, json.Unmarshal([]byte(answer), operation.Answer)
		}
		if lockedUntil := dynamo.GetInt(kept, "lockedUntil"); lockedUntil <= now.UnixMilli() {
			taken, err := s.takeOver(ctx, key, lockedUntil, now)
			if err != nil || taken {
				return operation, err
			}
		}
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// Lock waits until nobody else holds the lock of that key, and takes it; holder is unique to the taking of it. A holder
// that dies keeps it for ten seconds. Lock returns a fault Unavailable if another one holds it still when ctx is over,
// or DynamoDB's error. unlock works though ctx is over by then; it returns DynamoDB's error.
func (s *Store) Lock(ctx context.Context, key, holder string) (unlock func(context.Context) error, err error) {
	for {
		now := s.clock.Now()
		// A lock that is over is one that nobody holds, so it expires with its time.
		item := dynamo.Item{"expiresAt": dynamo.EpochSeconds(now.Add(lockTime + time.Second))}
		kept, err := s.claim(ctx, key, holder, item, now)
		if err != nil {
			return nil, err
		}
		if kept == nil {
			held := &record{store: s, key: key, id: holder}
			return func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), idempotency.EndTime)
				defer cancel()
				return held.Forget(ctx)
			}, nil
		}
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (s *Store) wait(ctx context.Context) error {
	if err := s.clock.Sleep(ctx, pollPeriod); err != nil {
		return &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: err}
	}
	return nil
}

func (s *Store) operation(key, id string) *idempotency.Operation {
	return &idempotency.Operation{ID: id, Record: &record{store: s, key: key, id: id}}
}

// claim writes a fresh record with the members of item, or returns the one that is there.
func (s *Store) claim(ctx context.Context, key, id string, item dynamo.Item, now time.Time) (dynamo.Item, error) {
	item["key"], item["requestId"] = dynamo.String(key), dynamo.String(id)
	item["lockedUntil"] = dynamo.Int(now.Add(lockTime).UnixMilli())
	_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(s.table),
		Item:      item,
		// The time to live deletes late, so an expired record counts as none; and so does a lock that nobody gave back.
		ConditionExpression: aws.String("attribute_not_exists(#key) OR expiresAt <= :now OR " +
			"attribute_not_exists(bodyHash) AND lockedUntil <= :nowMs"),
		ExpressionAttributeNames: map[string]string{"#key": "key"},
		ExpressionAttributeValues: dynamo.Item{
			":now": dynamo.EpochSeconds(now), ":nowMs": dynamo.Int(now.UnixMilli()),
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if kept, exists := dynamo.ConditionFailed(err); exists {
		if dynamo.GetString(kept, "requestId") == id && dynamo.GetString(kept, "answer") == "" {
			return nil, nil //nolint:nilnil // the SDK retried a write that had reached the table: the claim is ours
		}
		return kept, nil
	}
	return nil, err
}

func (s *Store) takeOver(ctx context.Context, key string, lockedUntil int64, now time.Time) (bool, error) {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(s.table),
		Key:                 dynamo.Item{"key": dynamo.String(key)},
		UpdateExpression:    aws.String("SET lockedUntil = :until"),
		ConditionExpression: aws.String("lockedUntil = :seen AND attribute_not_exists(answer)"),
		ExpressionAttributeValues: dynamo.Item{
			":until": dynamo.Int(now.Add(lockTime).UnixMilli()),
			":seen":  dynamo.Int(lockedUntil),
		},
	})
	if _, lost := dynamo.ConditionFailed(err); lost {
		return false, nil
	}
	return err == nil, err
}

// record is an operation's place in the table. It is an idempotency.Record.
type record struct {
	store   *Store
	key, id string
}

// underWay is the condition that a record is still the one with :id, and not done.
const underWay = "requestId = :id AND attribute_not_exists(answer)"

// Complete keeps the answer, unless there is one or the key is another request's by now.
func (r *record) Complete(ctx context.Context, answer *httpapi.Response) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return r.update(ctx, "SET answer = :answer", dynamo.Item{":answer": dynamo.String(string(text))})
}

// Release ends the lock.
func (r *record) Release(ctx context.Context) error {
	return r.update(ctx, "SET lockedUntil = :past", dynamo.Item{":past": dynamo.Int(0)})
}

// Forget deletes the record.
func (r *record) Forget(ctx context.Context) error {
	_, err := r.store.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName:                 aws.String(r.store.table),
		Key:                       dynamo.Item{"key": dynamo.String(r.key)},
		ConditionExpression:       aws.String(underWay),
		ExpressionAttributeValues: dynamo.Item{":id": dynamo.String(r.id)},
	})
	return unlessPast(err)
}

func (r *record) update(ctx context.Context, update string, values dynamo.Item) error {
	values[":id"] = dynamo.String(r.id)
	_, err := r.store.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 aws.String(r.store.table),
		Key:                       dynamo.Item{"key": dynamo.String(r.key)},
		UpdateExpression:          aws.String(update),
		ConditionExpression:       aws.String(underWay),
		ExpressionAttributeValues: values,
	})
	return unlessPast(err)
}

// unlessPast returns the error of a call on the condition underWay, or nil if the condition no longer held: then there
// is nothing left to do.
func unlessPast(err error) error {
	if _, past := dynamo.ConditionFailed(err); past {
		return nil
	}
	return err
}
