package store

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/ott"
)

const (
	messageRetention = 30 * 24 * time.Hour
	keyReuse         = 24 * time.Hour // how long a messageKey stands for its first message
	// overdue is how late a try may be before a repeat of the request puts the message into the queue again: later than
	// SQS brings back what a process died with.
	overdue = 10 * time.Minute
	// maxTexts is how much of a message's item the body and the decoded message may take, in bytes. An update costs the
	// whole item's size, and both of the largest do not fit the 400 KB that an item holds.
	maxTexts = 16 << 10
)

// Messages keeps messages in DynamoDB: an item for each message, and one for each messageKey that names its latest
// message. Both are written in one transaction, which is where a message becomes durable; so is the item that the body
// of a large message has to itself. It is safe for concurrent use.
//
// A message's item has the body as it was sent, for those who look, and the message as it was decoded, for those who
// send it.
type Messages struct {
	items *dynamodb.Client
	table string
	clock clock.Clock
}

// NewMessages returns a store on a table whose hash key is id and whose time to live is expiresAt.
func NewMessages(items *dynamodb.Client, table string, clock clock.Clock) *Messages {
	return &Messages{items: items, table: table, clock: clock}
}

// OpenMessages returns a store on the table that MESSAGES_TABLE names.
func OpenMessages(env *environment.Variables, config aws.Config) *Messages {
	return NewMessages(dynamodb.NewFromConfig(config), env.String("MESSAGES_TABLE"), clock.System{})
}

// Put makes a message durable under an id that is unique to the request. If its key stands for a message with the same
// body it returns that one. It returns a fault Conflict if the body is another one, Unavailable if others write under
// the same key until ctx is over, or DynamoDB's error.
func (s *Messages) Put(
	ctx context.Context, tenant, id string, message ott.Message, body ott.SendBody, now time.Time,
) (ott.Accepted, error) {
	items, err := newMessage(tenant, id, message, body, now)
	if err != nil {
		return ott.Accepted{}, err
	}
	var key dynamo.Item // that stands for an earlier message
	err = dynamo.Transact(ctx, s.clock, func() (err error) {
		key, err = s.put(ctx, tenant, id, message.Key, body, items, now)
		return err
	})
	if err != nil {
		return ott.Accepted{}, err
	}
	// Its own id is there if the SDK retried a write that had been carried out.
	if key == nil || dynamo.GetString(key, "ottRequestId") == id {
		return ott.Accepted{OttRequestID: id}, nil
	}
	return s.repeated(ctx, tenant, key, body, now)
}

// newMessage makes the items of a message: its own, and behind it one with the body if the first has no room for it.
func newMessage(
	tenant, id string, message ott.Message, body ott.SendBody, now time.Time,
) ([]dynamo.Item, error) {
	text, err := ott.EncodeMessage(message)
	if err != nil {
		return nil, err
	}
	expires := dynamo.EpochSeconds(now.Add(messageRetention))
	items := []dynamo.Item{{
		"id":           dynamo.String(messageID(tenant, id)),
		"tenant":       dynamo.String(tenant),
		"ottRequestId": dynamo.String(id),
		"message":      dynamo.String(string(text)),
		"validUntil":   dynamo.Int(now.Add(message.Validity).UnixMilli()),
		"createdAt":    dynamo.Time(now),
		"expiresAt":    expires,
	}}
	if len(body.Kept)+len(text) > maxTexts {
		items = append(items, dynamo.Item{"id": dynamo.String(bodyID(tenant, id)), "expiresAt": expires})
	}
	items[len(items)-1]["body"] = dynamo.String(string(body.Kept))
	return items, nil
}

// put writes the items of a message and that of its key, or returns that of the key, which stands for an earlier
// message.
func (s *Messages) put(
	ctx context.Context, tenant, id, key string, body ott.SendBody, items []dynamo.Item, now time.Time,
) (dynamo.Item, error) {
	writes := []types.TransactWriteItem{{Put: &types.Put{
		TableName: aws.String(s.table),
		Item: dynamo.Item{
			"id":           dynamo.String(keyID(tenant, key)),
			"ottRequestId": dynamo.String(id),
			"bodyHash":     dynamo.Bytes(body.Hash[:]),
			"reusableAt":   dynamo.Int(now.Add(keyReuse).UnixMilli()),
			"expiresAt":    dynamo.EpochSeconds(now.Add(messageRetention)),
		},
		ConditionExpression:                 aws.String("attribute_not_exists(id) OR reusableAt <= :now"),
		ExpressionAttributeValues:           dynamo.Item{":now": dynamo.Int(now.UnixMilli())},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}}
	for _, item := range items {
		writes = append(writes, types.TransactWriteItem{Put: &types.Put{
			TableName:           aws.String(s.table),
			Item:                item,
			ConditionExpression: aws.String("attribute_not_exists(id)"),
		}})
	}
	_, err := s.items.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: writes})
	if kept, failed := dynamo.ConditionFailedAt(err, 0); failed && len(kept) > 0 {
		return kept, nil
	}
	return nil, err
}

// Repeated returns the message that a key stands for if it has the same body. It returns a fault NotFound if the key
// stands for none, Conflict if the body is another one, or DynamoDB's error.
func (s *Messages) Repeated(
	ctx context.Context, tenant, key string, body ott.SendBody, now time.Time,
) (ott.Accepted, error) {
	item, err := s.get(ctx, keyID(tenant, key))
	if err != nil {
		return ott.Accepted{}, err
	}
	if dynamo.GetInt(item, "reusableAt") <= now.UnixMilli() {
		return ott.Accepted{}, fault.New(fault.NotFound, "")
	}
	return s.repeated(ctx, tenant, item, body, now)
}

func (s *Messages) repeated(
	ctx context.Context, tenant string, key dynamo.Item, body ott.SendBody, now time.Time,
) (ott.Accepted, error) {
	if !bytes.Equal(dynamo.GetBytes(key, "bodyHash"), body.Hash[:]) {
		return ott.Accepted{}, fault.New(fault.Conflict, "MessageKey stands for another message of the last 24 hours")
	}
	id := dynamo.GetString(key, "ottRequestId")
	item, err := s.get(ctx, messageID(tenant, id))
	if err != nil {
		return ott.Accepted{}, err
	}
	m := storedMessage(item)
	return ott.Accepted{OttRequestID: id, Queued: !m.QueuedAt.IsZero() && !isLost(m, now)}, nil
}

// isLost reports whether a message should have been tried long since, as it would have been if the queue still had it.
// One that is in the queue twice is sent once: see Claim.
func isLost(m *ott.StoredMessage, now time.Time) bool {
	due := m.QueuedAt
	if m.NotBefore.After(due) {
		due = m.NotBefore
	}
	return !m.Final() && now.After(due.Add(overdue))
}

// MarkQueued records that a message is in the queue. Doing it again changes nothing. It returns DynamoDB's error, also
// for a message that there is not.
func (s *Messages) MarkQueued(ctx context.Context, tenant, id string, now time.Time) error {
	_, err := s.update(ctx, tenant, id, "attribute_exists(id)", "SET queuedAt = if_not_exists(queuedAt, :now)",
		dynamo.Item{":now": dynamo.Time(now)})
	return err
}

// Get returns a tenant's message to be shown, by its ottRequestId, or else the latest one by its messageKey. It returns
// a fault NotFound for another tenant's as for none, or DynamoDB's error.
func (s *Messages) Get(ctx context.Context, tenant, messageKeyOrID string) (*ott.StoredMessage, error) {
	if id, err := uuid.Parse(messageKeyOrID); err == nil && len(messageKeyOrID) == len(id.String()) {
		m, err := s.getMessage(ctx, tenant, id.String())
		if !fault.Is(err, fault.NotFound) {
			return m, err
		}
	}
	if !ott.IsMessageKey(messageKeyOrID) {
		return nil, fault.New(fault.NotFound, "")
	}
	key, err := s.get(ctx, keyID(tenant, messageKeyOrID))
	if err != nil {
		return nil, err
	}
	return s.getMessage(ctx, tenant, dynamo.GetString(key, "ottRequestId"))
}

func (s *Messages) getMessage(ctx context.Context, tenant, id string) (*ott.StoredMessage, error) {
	item, err := s.get(ctx, messageID(tenant, id))
	if err != nil {
		return nil, err
	}
	m := storedMessage(item)
	if item["body"] == nil { // it is large
		if item, err = s.get(ctx, bodyID(tenant, id)); err != nil {
			return nil, err
		}
	}
	m.Body = []byte(dynamo.GetString(item, "body"))
	return m, nil
}

// get reads an item as it is now.
func (s *Messages) get(ctx context.Context, id string) (dynamo.Item, error) {
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

// storedMessage reads what an item says of a message, but for the body and the message itself.
func storedMessage(item dynamo.Item) *ott.StoredMessage {
	m := &ott.StoredMessage{
		OttRequestID: dynamo.GetString(item, "ottRequestId"),
		Tenant:       dynamo.GetString(item, "tenant"),
		CreatedAt:    dynamo.GetTime(item, "createdAt"),
		QueuedAt:     dynamo.GetTime(item, "queuedAt"),
		SentAt:       dynamo.GetTime(item, "sentAt"),
		FailedAt:     dynamo.GetTime(item, "failedAt"),
		Reason:       dynamo.GetString(item, "reason"),
		Tries:        int(dynamo.GetInt(item, "tries")),
		Lease:        dynamo.GetString(item, "lease"),
	}
	if ms := dynamo.GetInt(item, "notBefore"); ms > 0 {
		m.NotBefore = time.UnixMilli(ms)
	}
	return m
}

// readMessage reads the message itself, and until when it may be sent.
func readMessage(m *ott.StoredMessage, item dynamo.Item) (err error) {
	if text := dynamo.GetString(item, "message"); text != "" {
		m.ValidUntil = time.UnixMilli(dynamo.GetInt(item, "validUntil"))
		m.Message, err = ott.DecodeMessage([]byte(text))
		return err
	}
	// Releases up to November 2026 kept the body alone. The last of their messages is over a week after this release is
	// deployed, for none is valid for longer; then this can go.
	message, faults, err := ott.DecodeSend(bytes.NewReader([]byte(dynamo.GetString(item, "body"))))
	if err := errors.Join(err, faults.Err()); err != nil {
		return err
	}
	m.ValidUntil, message.Validity = m.CreatedAt.Add(message.Validity), 0
	m.Message = message
	return nil
}

// The ids of items. A tenant's name has no #.
func messageID(tenant, id string) string { return tenant + "#message#" + id }

func bodyID(tenant, id string) string { return tenant + "#body#" + id }

func keyID(tenant, key string) string { return tenant + "#key#" + key }
