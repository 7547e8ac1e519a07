package engage

import (
	"context"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/contenttable"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
)

// recheckAge is how old kept content may be when it is about to cause a refusal: it may have been provisioned a moment ago.
const recheckAge = 2 * time.Second

// ContentStore reads what the Content Portal holds: programs, a provider's aNumbers and groups (package provision writes them).
type ContentStore struct{ table *contenttable.Table }

// NewContentStore returns a store on the content table.
func NewContentStore(table *contenttable.Table) *ContentStore { return &ContentStore{table: table} }

// Program returns a complete program of a provider. It returns a fault NotFound if there is none or it is not complete, or DynamoDB's error.
func (s *ContentStore) Program(ctx context.Context, tenant, uuid string) (Program, error) {
	item, err := s.find(ctx, tenant, "program#"+uuid, func(item dynamo.Item) bool { return dynamo.GetBool(item, "complete") })
	if err != nil {
		return Program{}, err
	}
	return Program{
		UUID:      uuid,
		Name:      dynamo.GetString(item, "name"),
		Complete:  true,
		Variables: dynamo.GetStrings(item, "variables"),
		Content:   jsontext.Value(dynamo.GetString(item, "content")),
	}, nil
}

// Group returns the aNumbers of a provider's group, sorted. It returns a fault NotFound if the provider has no such group, or DynamoDB's error.
func (s *ContentStore) Group(ctx context.Context, tenant, id string) ([]string, error) {
	item, err := s.find(ctx, tenant, "group#"+id, func(dynamo.Item) bool { return true })
	if err != nil {
		return nil, err
	}
	return slices.Sorted(slices.Values(dynamo.GetStrings(item, "numbers"))), nil
}

// OwnsANumbers reports whether all numbers are the provider's. It returns DynamoDB's error.
func (s *ContentStore) OwnsANumbers(ctx context.Context, tenant string, numbers []string) (bool, error) {
	_, err := s.find(ctx, tenant, "anumbers", func(item dynamo.Item) bool {
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
func (s *ContentStore) find(ctx context.Context, tenant, sk string, wanted func(dynamo.Item) bool) (dynamo.Item, error) {
	for _, maxAge := range []time.Duration{contenttable.AnyAge, recheckAge} {
		item, err := s.table.Get(ctx, "provider#"+tenant, sk, maxAge)
		if err != nil || wanted(item) {
			return item, err
		}
	}
	return nil, fault.New(fault.NotFound, "")
}
