package store

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/cache"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/permits"
)

// maxHeld is how many messages of a property in trouble are taken: SQS looks for conversations that have a turn among
// the first 120,000 messages of a FIFO queue alone, so a property that takes nothing must not fill them.
//
// (SQS's Developer Guide, "Avoiding large message backlogs with the same message group ID")
const maxHeld = 20_000

// What OpenBacklogs keeps: of so many properties, for so long. A property in trouble takes a few seconds' messages more
// than maxHeld, or counts as many too much.
const (
	maxKeptProperties = 1000
	keptTime          = 5 * time.Second
)

// propertyWindow is as long as a permit can be held: ott-deliver's Timeout.
const propertyWindow = 30 * time.Second

// Properties bound how many calls are under way for one property, and how many messages wait for one that is in
// trouble. An item of the messages table for each property counts them.
type Properties struct {
	permits.Pool
	items *dynamodb.Client
	table string
	open  *cache.Cache[bool] // whose breakers are open; nil if they are looked at each time
}

// NewProperties returns the properties whose permits are kept with messages; a property has at most limit.
func NewProperties(items *dynamodb.Client, table string, limit int) *Properties {
	return &Properties{items: items, table: table, Pool: permits.Pool{
		Client: items, Table: table, Key: propertyKey, Limit: limit, Window: propertyWindow,
	}}
}

// OpenProperties returns those that are kept in the table that MESSAGES_TABLE names. A property has at most 60 % of
// OUTBOUND_CONCURRENCY permits.
func OpenProperties(env *environment.Variables, config aws.Config) *Properties {
	return NewProperties(dynamodb.NewFromConfig(config), env.String("MESSAGES_TABLE"),
		permits.Share(env.Int("OUTBOUND_CONCURRENCY")))
}

// OpenBacklogs is OpenProperties for those who give no permits. It keeps for some seconds which properties are not in
// trouble.
func OpenBacklogs(env *environment.Variables, config aws.Config) *Properties {
	p := NewProperties(dynamodb.NewFromConfig(config), env.String("MESSAGES_TABLE"), 0)
	p.open = cache.New(cache.Options[bool]{Limit: maxKeptProperties, TTL: keptTime})
	return p
}

// Side names a property to Take.
func Side(platform ott.Platform, propertyID string) string {
	return registrationKey(platform, propertyID)
}

// Admit says whether one more message of a property may be taken: while the property is in trouble it counts them. It
// returns a fault TooManyRequests at 20,000, or DynamoDB's error.
func (p *Properties) Admit(ctx context.Context, platform ott.Platform, propertyID string) error {
	side := Side(platform, propertyID)
	key := propertyKey(side)
	look := func(ctx context.Context) (bool, error) {
		out, err := p.items.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String(p.table), Key: key})
		if err != nil {
			return false, err
		}
		return permits.IsOpen(out.Item), nil
	}
	var open bool
	var err error
	if p.open == nil {
		open, err = look(ctx)
	} else {
		open, err = p.open.Get(ctx, side, cache.AnyAge, look)
	}
	if err != nil || !open {
		return err
	}
	_, err = p.items.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(p.table),
		Key:                 key,
		UpdateExpression:    aws.String("ADD held :one"),
		ConditionExpression: aws.String("attribute_not_exists(held) OR held < :max"),
		ExpressionAttributeValues: dynamo.Item{
			":one": dynamo.Int(1), ":max": dynamo.Int(maxHeld),
		},
		ReturnValues: types.ReturnValueNone,
	})
	if _, full := dynamo.ConditionFailed(err); full {
		return &fault.Error{Code: fault.TooManyRequests, RetryAfter: time.Minute, Cause: err}
	}
	return err
}

func propertyKey(side string) dynamo.Item {
	return dynamo.Item{"id": dynamo.String("property#" + side)}
}
