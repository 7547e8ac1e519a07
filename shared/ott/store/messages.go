package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"strconv"
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
	// overdue is how late a message may be before a repeat of its request puts it into the queue again: later than the
	// queue brings back what a process died with.
	overdue = 10 * time.Minute
)

// messageSpace is the name space of the UUIDs that are ottRequestIds.
var messageSpace = uuid.MustParse("6c3e3a0e-6a1c-5d0f-9a51-0c0a2f6f7e55")

// Messages keeps messages in DynamoDB: an item for each message, which is written once, and a small one for what
// becomes of it, so that an update costs one write unit whatever the message's size is. It is safe for concurrent use.
//
// A message's id follows from its tenant, its messageKey, and how often that key was used before; so one conditional
// write makes a message durable and finds its repeat. The item of a key's first message also names the key's latest
// one.
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

// Find returns the message that a key stands for, or a fault NotFound and the place of a new one, or DynamoDB's error.
// What was put a moment ago may not be found yet: Put decides.
func (s *Messages) Find(
	ctx context.Context, tenant, key string, body ott.SendBody, now time.Time,
) (ott.Accepted, ott.Place, error) {
	item, err := s.get(ctx, messageID(tenant, requestID(tenant, key, 0)), false)
	if fault.Is(err, fault.NotFound) {
		return ott.Accepted{}, place(tenant, key, 0), err
	}
	if err != nil {
		return ott.Accepted{}, ott.Place{}, err
	}
	return s.found(ctx, tenant, key, item, body, now)
}

// Put makes a message durable at a place, or returns the one that its key stands for by now. It returns a fault
// Conflict if that is only now a former one, as it can be after Find read what was out of date: then all is to begin
// again; or DynamoDB's error.
func (s *Messages) Put(
	ctx context.Context, tenant string, at ott.Place, message ott.Message, body ott.SendBody,
	createdAt, queuedAt time.Time,
) (ott.Accepted, error) {
	text, err := ott.EncodeMessage(message)
	if err != nil {
		return ott.Accepted{}, err
	}
	item := newMessage(message, body, createdAt, queuedAt)
	item["id"] = dynamo.String(messageID(tenant, at.OttRequestID))
	block := encodeTexts(text, body.Kept)
	if len(block) > maxKeptTexts {
		block = encodeTexts(text)
		if err := s.putBody(ctx, tenant, at.OttRequestID, item, body); err != nil {
			return ott.Accepted{}, err
		}
	}
	item["texts"] = dynamo.Bytes(block)
	if at.Uses > 0 {
		return s.putAgain(ctx, tenant, at, message.Key, item, body, createdAt)
	}
	_, err = s.items.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(s.table), Item: item, ConditionExpression: aws.String("attribute_not_exists(id)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if kept, failed := dynamo.ConditionFailed(err); failed {
		accepted, _, err := s.found(ctx, tenant, message.Key, kept, body, createdAt)
		if fault.Is(err, fault.NotFound) {
			return ott.Accepted{}, fault.Wrap(fault.Conflict, err)
		}
		return accepted, err
	}
	if err != nil {
		return ott.Accepted{}, err
	}
	return ott.Accepted{OttRequestID: at.OttRequestID}, nil
}

// putAgain puts a message whose key is used again, and names it as the key's latest one, in one transaction.
func (s *Messages) putAgain(
	ctx context.Context, tenant string, at ott.Place, key string, item dynamo.Item, body ott.SendBody, now time.Time,
) (ott.Accepted, error) {
	var kept dynamo.Item
	var taken bool
	err := dynamo.Transact(ctx, s.clock, func() error {
		writes := []types.TransactWriteItem{
			{Update: &types.Update{
				TableName: aws.String(s.table),
				Key:       dynamo.Item{"id": dynamo.String(messageID(tenant, requestID(tenant, key, 0)))},
				UpdateExpression: aws.String("SET uses = :uses, bodyHash = :hash, reusableAt = :reusable, " +
					"expiresAt = :expires"),
				ConditionExpression: aws.String("reusableAt <= :now"),
				ExpressionAttributeValues: dynamo.Item{
					":uses": dynamo.Int(at.Uses), ":hash": dynamo.Bytes(body.Hash[:]),
					":reusable": item["reusableAt"], ":expires": item["expiresAt"],
					":now": dynamo.Int(now.UnixMilli()),
				},
				ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
			}},
			// Without a condition: the first one's decides. An item of that id is one whose time to live was over.
			{Put: &types.Put{TableName: aws.String(s.table), Item: item}},
		}
		_, err := s.items.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: writes})
		if kept, taken = dynamo.ConditionFailedAt(err, 0); taken {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return ott.Accepted{}, err
	case !taken:
		return ott.Accepted{OttRequestID: at.OttRequestID}, nil
	case len(kept) == 0: // its time to live was over
		return ott.Accepted{}, fault.New(fault.Conflict, "")
	}
	accepted, _, err := s.found(ctx, tenant, key, kept, body, now)
	if fault.Is(err, fault.NotFound) {
		return ott.Accepted{}, fault.Wrap(fault.Conflict, err)
	}
	return accepted, err
}

// found returns what the item of a key's first message says: the message that the key stands for, or a fault NotFound
// and the place of the next one.
func (s *Messages) found(
	ctx context.Context, tenant, key string, first dynamo.Item, body ott.SendBody, now time.Time,
) (ott.Accepted, ott.Place, error) {
	uses := dynamo.GetInt(first, "uses")
	if dynamo.GetInt(first, "reusableAt") <= now.UnixMilli() {
		return ott.Accepted{}, place(tenant, key, uses+1), fault.New(fault.NotFound, "")
	}
	accepted := ott.Accepted{OttRequestID: requestID(tenant, key, uses)}
	if !bytes.Equal(dynamo.GetBytes(first, "bodyHash"), body.Hash[:]) {
		accepted.Conflict = true
		return accepted, ott.Place{}, nil
	}
	m, err := s.Load(ctx, tenant, accepted.OttRequestID)
	if fault.Is(err, fault.NotFound) { // else it would look like a key that is free
		err = fault.Wrap(fault.Unavailable, err)
	}
	if err != nil {
		return ott.Accepted{}, ott.Place{}, err
	}
	if m.Progress, err = s.progress(ctx, m); err != nil {
		return ott.Accepted{}, ott.Place{}, err
	}
	if isLost(m, now) {
		accepted.Lost = m
	}
	return accepted, ott.Place{}, nil
}

// isLost reports whether a message should have been tried long since, as it would have been if the queue still had it.
// One that waits behind another of its conversation looks lost as well: a second job of it does nothing.
func isLost(m *ott.StoredMessage, now time.Time) bool {
	due := clock.Later(m.QueuedAt, m.Progress.NotBefore)
	return !m.Progress.Final() && now.Before(m.ValidUntil) && now.After(due.Add(overdue))
}

func newMessage(message ott.Message, body ott.SendBody, createdAt, queuedAt time.Time) dynamo.Item {
	return dynamo.Item{
		"bodyHash":   dynamo.Bytes(body.Hash[:]),
		"reusableAt": dynamo.Int(createdAt.Add(keyReuse).UnixMilli()),
		"validUntil": dynamo.Int(createdAt.Add(message.Validity).UnixMilli()),
		"createdAt":  dynamo.Int(createdAt.UnixMilli()),
		"queuedAt":   dynamo.Int(queuedAt.UnixMilli()),
		"expiresAt":  dynamo.EpochSeconds(createdAt.Add(messageRetention)),
	}
}

// putBody gives the body of a large message an item of its own, before the message's, which names it. Each body has
// another: that of a message which is refused, for its key stands for another, must not take the place of that one's.
func (s *Messages) putBody(
	ctx context.Context, tenant, id string, item dynamo.Item, body ott.SendBody,
) error {
	bodyID := dynamo.String(bodyID(tenant, id, body.Hash[:]))
	_, err := s.items.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(s.table), Item: dynamo.Item{
		"id": bodyID, "texts": dynamo.Bytes(encodeTexts(body.Kept)), "expiresAt": item["expiresAt"],
	}})
	item["bodyId"] = bodyID
	return err
}

// Load returns a tenant's message as it was accepted, to be sent, without its body and what became of it. It returns a
// fault NotFound, an error for one that cannot be read, or DynamoDB's error.
func (s *Messages) Load(ctx context.Context, tenant, id string) (*ott.StoredMessage, error) {
	item, err := s.get(ctx, messageID(tenant, id), true)
	if err != nil {
		return nil, err
	}
	return storedMessage(tenant, id, item)
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
	first, err := s.get(ctx, messageID(tenant, requestID(tenant, messageKeyOrID, 0)), true)
	if err != nil {
		return nil, err
	}
	return s.getMessage(ctx, tenant, requestID(tenant, messageKeyOrID, dynamo.GetInt(first, "uses")))
}

func (s *Messages) getMessage(ctx context.Context, tenant, id string) (*ott.StoredMessage, error) {
	item, err := s.get(ctx, messageID(tenant, id), true)
	if err != nil {
		return nil, err
	}
	m, err := storedMessage(tenant, id, item)
	if err != nil {
		return nil, err
	}
	if m.Body, err = s.body(ctx, item); err != nil {
		return nil, err
	}
	if m.Progress, err = s.progress(ctx, m); err != nil {
		return nil, err
	}
	m.Receipts, err = s.receipts(ctx, tenant, m.Message.Conversation(tenant))
	return m, err
}

// body reads the body of a message, which is in an item of its own if it is large.
func (s *Messages) body(ctx context.Context, item dynamo.Item) ([]byte, error) {
	place := 1 // behind the message
	if id := dynamo.GetString(item, "bodyId"); id != "" {
		var err error
		if item, err = s.get(ctx, id, true); err != nil {
			return nil, err
		}
		place = 0
	}
	texts, err := decodeTexts(dynamo.GetBytes(item, "texts"), place+1)
	if err != nil {
		return nil, err
	}
	return texts[place], nil
}

// get reads an item, as it is now or as it was a moment ago, which costs half.
func (s *Messages) get(ctx context.Context, id string, now bool) (dynamo.Item, error) {
	out, err := s.items.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.table),
		Key:            dynamo.Item{"id": dynamo.String(id)},
		ConsistentRead: aws.Bool(now),
	})
	if err != nil {
		return nil, err
	}
	if len(out.Item) == 0 {
		return nil, fault.New(fault.NotFound, "")
	}
	return out.Item, nil
}

// storedMessage reads what a message's item says, but for the body.
func storedMessage(tenant, id string, item dynamo.Item) (*ott.StoredMessage, error) {
	texts, err := decodeTexts(dynamo.GetBytes(item, "texts"), 1)
	if err != nil {
		return nil, err
	}
	message, err := ott.DecodeMessage(texts[0])
	if err != nil {
		return nil, err
	}
	return &ott.StoredMessage{
		OttRequestID: id, Tenant: tenant, Message: message,
		ValidUntil: getMilliseconds(item, "validUntil"),
		CreatedAt:  getMilliseconds(item, "createdAt"),
		QueuedAt:   getMilliseconds(item, "queuedAt"),
	}, nil
}

// getMilliseconds reads a time that is kept as milliseconds, zero if there is none.
func getMilliseconds(item dynamo.Item, name string) time.Time {
	ms := dynamo.GetInt(item, name)
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func place(tenant, key string, uses int64) ott.Place {
	return ott.Place{OttRequestID: requestID(tenant, key, uses), Uses: uses}
}

// requestID is the id of a key's message, after so many others of that key. A tenant's name has no #.
func requestID(tenant, key string, uses int64) string {
	return uuid.NewSHA1(messageSpace, []byte(tenant+"#"+strconv.FormatInt(uses, 10)+"#"+key)).String()
}

// The ids of items. A tenant's name has no #.
func messageID(tenant, id string) string { return tenant + "#message#" + id }

func bodyID(tenant, id string, hash []byte) string {
	return tenant + "#body#" + id + "#" + hex.EncodeToString(hash)
}

// progressID has the time of a message's creation as well: what became of a message may still be there, long after its
// time to live, when the same id is given to the next message of its key.
func progressID(tenant, id string, createdAt time.Time) string {
	return tenant + "#progress#" + id + "#" + strconv.FormatInt(createdAt.UnixMilli(), 10)
}

func receiptsID(tenant, conversation string) string { return tenant + "#receipts#" + conversation }
