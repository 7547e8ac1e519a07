package ott

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
)

const (
	messageRetention = 30 * 24 * time.Hour
	keyReuse         = 24 * time.Hour // how long a messageKey stands for its first message
	maxReason        = 256            // characters
	// overdue is how late a try may be before a repeat of the request puts the message into the queue again: later than SQS
	// brings back what a process died with.
	overdue = 10 * time.Minute
)

// MessageStore keeps messages in DynamoDB: an item for each message, and one for each messageKey that names its latest
// message. Both are written in one transaction, which is where a message becomes durable. It is safe for concurrent use.
type MessageStore struct {
	items *dynamodb.Client
	table string
}

// NewMessageStore returns a store on a table whose hash key is id and whose time to live is expiresAt.
func NewMessageStore(items *dynamodb.Client, table string) *MessageStore {
	return &MessageStore{items: items, table: table}
}

// StoredMessage is a message as it is kept.
type StoredMessage struct {
	OttRequestID string
	Tenant       string
	Body         []byte // SendBody.Kept of its request
	CreatedAt    time.Time
	QueuedAt     time.Time // zero until it is in the queue
	SentAt       time.Time // zero until the platform has taken it
	FailedAt     time.Time // zero until it is given up
	Reason       string    // why it was given up
	Tries        int       // that did not succeed, for the backoff
	NotBefore    time.Time // when the next try may be made: none before, for another is at it or the wait is not over
	lease        string
}

// Final reports whether there is nothing left to do for a message.
func (m *StoredMessage) Final() bool { return !m.SentAt.IsZero() || !m.FailedAt.IsZero() }

// lost reports whether a message should have been tried long since, as it would have been if the queue still had it. One
// that is in the queue twice is sent once: see Claim.
func (m *StoredMessage) lost(now time.Time) bool {
	due := m.QueuedAt
	if m.NotBefore.After(due) {
		due = m.NotBefore
	}
	return !m.Final() && now.After(due.Add(overdue))
}

// Accepted says under which id a message is durable, and whether it is in the queue, or has no more need to be.
type Accepted struct {
	OttRequestID string
	Queued       bool
}

// Put makes a message durable under an id that is unique to the request. If its key stands for a message with the same body it
// returns that one; if the body is another one it returns a fault Conflict. Else it returns a fault Unavailable or AWS's error.
func (s *MessageStore) Put(ctx context.Context, tenant, id string, message Message, body SendBody, now time.Time) (Accepted, error) {
	const tries = 6
	for try := range tries {
		kept, err := s.put(ctx, tenant, id, message, body, now)
		switch {
		case errors.Is(err, errContended):
			if err := (clock.System{}).Sleep(ctx, rand.N(20*time.Millisecond<<try)); err != nil {
				return Accepted{}, err
			}
			continue
		case err != nil:
			return Accepted{}, err
		case kept == nil || dynamo.GetString(kept, "ottRequestId") == id: // the SDK retried a write that had been carried out
			return Accepted{OttRequestID: id}, nil
		}
		return s.repeated(ctx, tenant, kept, body, now)
	}
	return Accepted{}, &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: errContended}
}

var errContended = errors.New("ott: a message's transaction met others")

// put writes both items, or returns that of the key, which stands for an earlier message.
func (s *MessageStore) put(ctx context.Context, tenant, id string, message Message, body SendBody, now time.Time) (dynamo.Item, error) {
	expires := dynamo.EpochSeconds(now.Add(messageRetention))
	_, err := s.items.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
		{Put: &types.Put{
			TableName: aws.String(s.table),
			Item: dynamo.Item{
				"id":           dynamo.String(keyID(tenant, message.Key)),
				"ottRequestId": dynamo.String(id),
				"bodyHash":     dynamo.Bytes(body.Hash[:]),
				"reusableAt":   dynamo.Int(now.Add(keyReuse).UnixMilli()),
				"expiresAt":    expires,
			},
			ConditionExpression:                 aws.String("attribute_not_exists(id) OR reusableAt <= :now"),
			ExpressionAttributeValues:           dynamo.Item{":now": dynamo.Int(now.UnixMilli())},
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}},
		{Put: &types.Put{
			TableName: aws.String(s.table),
			Item: dynamo.Item{
				"id":           dynamo.String(messageID(tenant, id)),
				"tenant":       dynamo.String(tenant),
				"ottRequestId": dynamo.String(id),
				"body":         dynamo.String(string(body.Kept)),
				"createdAt":    dynamo.Time(now),
				"expiresAt":    expires,
			},
			ConditionExpression: aws.String("attribute_not_exists(id)"),
		}},
	}})
	var cancelled *types.TransactionCanceledException
	var conflict *types.TransactionConflictException
	var underWay *types.TransactionInProgressException // its own, which the SDK asked for again
	switch {
	case errors.As(err, &conflict), errors.As(err, &underWay):
		return nil, errContended
	case !errors.As(err, &cancelled) || len(cancelled.CancellationReasons) != 2:
		return nil, err
	}
	if key := cancelled.CancellationReasons[0]; aws.ToString(key.Code) == "ConditionalCheckFailed" && len(key.Item) > 0 {
		return key.Item, nil
	}
	for _, reason := range cancelled.CancellationReasons {
		switch aws.ToString(reason.Code) {
		case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
			return nil, errContended
		}
	}
	return nil, err
}

// Repeated returns the message that a key stands for if it has the same body. It returns a fault NotFound if the key
// stands for none, and Conflict if the body is another one.
func (s *MessageStore) Repeated(ctx context.Context, tenant, key string, body SendBody, now time.Time) (Accepted, error) {
	item, err := s.get(ctx, keyID(tenant, key))
	if err != nil {
		return Accepted{}, err
	}
	if dynamo.GetInt(item, "reusableAt") <= now.UnixMilli() {
		return Accepted{}, fault.New(fault.NotFound, "")
	}
	return s.repeated(ctx, tenant, item, body, now)
}

func (s *MessageStore) repeated(ctx context.Context, tenant string, key dynamo.Item, body SendBody, now time.Time) (Accepted, error) {
	if string(dynamo.GetBytes(key, "bodyHash")) != string(body.Hash[:]) {
		return Accepted{}, fault.New(fault.Conflict, "MessageKey stands for another message of the last 24 hours")
	}
	id := dynamo.GetString(key, "ottRequestId")
	item, err := s.get(ctx, messageID(tenant, id))
	if err != nil {
		return Accepted{}, err
	}
	m := storedMessage(item)
	return Accepted{OttRequestID: id, Queued: !m.QueuedAt.IsZero() && !m.lost(now)}, nil
}

// MarkQueued records that a message is in the queue. Doing it again changes nothing.
func (s *MessageStore) MarkQueued(ctx context.Context, tenant, id string, now time.Time) error {
	_, err := s.update(ctx, tenant, id, "attribute_exists(id)", "SET queuedAt = if_not_exists(queuedAt, :now)", dynamo.Item{":now": dynamo.Time(now)})
	return err
}

// Get returns a tenant's message by its ottRequestId, or else the latest one by its messageKey. It returns a fault
// NotFound for another tenant's as for none.
func (s *MessageStore) Get(ctx context.Context, tenant, messageKeyOrID string) (*StoredMessage, error) {
	if id, err := uuid.Parse(messageKeyOrID); err == nil && len(messageKeyOrID) == len(id.String()) {
		item, err := s.get(ctx, messageID(tenant, id.String()))
		if err == nil {
			return storedMessage(item), nil
		}
		if !fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	if !utf8.ValidString(messageKeyOrID) || utf8.RuneCountInString(messageKeyOrID) > maxKey {
		return nil, fault.New(fault.NotFound, "")
	}
	key, err := s.get(ctx, keyID(tenant, messageKeyOrID))
	if err != nil {
		return nil, err
	}
	item, err := s.get(ctx, messageID(tenant, dynamo.GetString(key, "ottRequestId")))
	if err != nil {
		return nil, err
	}
	return storedMessage(item), nil
}

// get reads an item as it is now.
func (s *MessageStore) get(ctx context.Context, id string) (dynamo.Item, error) {
	out, err := s.items.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.table),
		Key:            dynamo.Item{"id": dynamo.String(id)},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	if len(out.Item) == 0 {
		return nil, fault.New(fault.NotFound, "")
	}
	return out.Item, nil
}

// The ids of items. A tenant's name has no #.
func messageID(tenant, id string) string { return tenant + "#message#" + id }

func keyID(tenant, key string) string { return tenant + "#key#" + key }
