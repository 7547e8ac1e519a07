// Package store keeps pushes in DynamoDB, and reads what the Content Portal holds.
package store

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/contenttable"
	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/fault"
)

// recheckAge is how old kept content may be when it is about to cause a refusal: it may have been provisioned a moment
// ago.
const recheckAge = 2 * time.Second

// Content reads what the Content Portal holds: programs, a tenant's aNumbers and groups (package provision writes
// them).
type Content struct{ table *contenttable.Table }

// NewContent returns the content in a table.
func NewContent(table *contenttable.Table) *Content { return &Content{table: table} }

// OpenContent returns the content in the table that CONTENT_TABLE names.
func OpenContent(env *environment.Variables, config aws.Config) *Content {
	return NewContent(contenttable.Open(env, config))
}

// Program returns a complete program of a tenant. It returns a fault NotFound if there is none or it is not complete,
// or DynamoDB's error.
func (c *Content) Program(ctx context.Context, tenant, uuid string) (engage.Program, error) {
	isComplete := func(item dynamo.Item) bool { return dynamo.GetBool(item, "complete") }
	item, err := c.find(ctx, tenant, "program#"+uuid, isComplete)
	if err != nil {
		return engage.Program{}, err
	}
	return engage.Program{
		UUID:      uuid,
		Name:      dynamo.GetString(item, "name"),
		Variables: dynamo.GetStrings(item, "variables"),
		Content:   jsontext.Value(dynamo.GetString(item, "content")),
	}, nil
}

// Group returns the aNumbers of a tenant's group, sorted. It returns a fault NotFound if the tenant has no such group,
// or DynamoDB's error.
func (c *Content) Group(ctx context.Context, tenant, id string) ([]string, error) {
	item, err := c.find(ctx, tenant, "group#"+id, func(dynamo.Item) bool { return true })
	if err != nil {
		return nil, err
	}
	return slices.Sorted(slices.Values(dynamo.GetStrings(item, "numbers"))), nil
}

// OwnsANumbers reports whether all numbers are the tenant's. It returns DynamoDB's error.
func (c *Content) OwnsANumbers(ctx context.Context, tenant string, numbers []string) (bool, error) {
	_, err := c.find(ctx, tenant, "anumbers", func(item dynamo.Item) bool {
		owned := make(map[string]bool)
		for _, number := range dynamo.GetStrings(item, "numbers") {
			owned[number] = true
		}
		return !slices.ContainsFunc(numbers, func(number string) bool { return !owned[number] })
	})
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// find returns an item that is as wanted. One that is not, and was read a while ago, is read again.
func (c *Content) find(
	ctx context.Context, tenant, sk string, wanted func(dynamo.Item) bool,
) (dynamo.Item, error) {
	for _, maxAge := range []time.Duration{contenttable.AnyAge, recheckAge} {
		item, err := c.table.Get(ctx, "provider#"+tenant, sk, maxAge)
		if err != nil || wanted(item) {
			return item, err
		}
	}
	return nil, fault.New(fault.NotFound, "")
}
