// Package contenttable reads the content table: what an operator provisions (package provision) and functions only
// read.
package contenttable

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/shared/cache"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
)

const (
	limit = 500 // items
	ttl   = time.Minute
)

// AnyAge is the maxAge of a caller who takes whatever is kept: about a minute old at most.
const AnyAge = cache.AnyAge

// Table is the content table, whose keys are pk and sk. What it reads it keeps for about a minute; what it does not
// find it looks for again.
type Table struct {
	client *dynamodb.Client
	table  string
	items  *cache.Cache[dynamo.Item]
}

// New returns the table of that name.
func New(client *dynamodb.Client, table string) *Table {
	return &Table{client: client, table: table, items: cache.New(cache.Options[dynamo.Item]{Limit: limit, TTL: ttl})}
}

// Open returns the table that CONTENT_TABLE names.
func Open(env *environment.Variables, config aws.Config) *Table {
	return New(dynamodb.NewFromConfig(config), env.String("CONTENT_TABLE"))
}

// Get returns an item that was read within maxAge. It returns a fault NotFound if there is none, or DynamoDB's error.
func (t *Table) Get(ctx context.Context, pk, sk string, maxAge time.Duration) (dynamo.Item, error) {
	return t.items.Get(ctx, pk+" "+sk, maxAge, func(ctx context.Context) (dynamo.Item, error) {
		out, err := t.client.GetItem(ctx, &dynamodb.GetItemInput{
			TableName: aws.String(t.table),
			Key:       dynamo.Item{"pk": dynamo.String(pk), "sk": dynamo.String(sk)},
		})
		if err != nil {
			return nil, err
		}
		if out.Item == nil {
			return nil, fault.New(fault.NotFound, "")
		}
		return out.Item, nil
	})
}
