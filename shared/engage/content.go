package engage

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/attribute"
	"carillon/shared/fault"
	"carillon/shared/readcache"
)

const (
	contentLimit = 500
	contentTTL   = time.Minute
	// recheckAge is how old kept content may be when it is about to cause a refusal: it may have been provisioned a moment ago.
	recheckAge = 2 * time.Second
)

// ContentStore reads what the Content Portal holds: programs, a provider's aNumbers and groups (package provision writes them).
type ContentStore struct {
	client *dynamodb.Client
	table  string
	items  *readcache.Cache[attribute.Item]
}

// NewContentStore returns a store on a table with the keys pk and sk. What it reads it keeps for about a minute.
func NewContentStore(client *dynamodb.Client, table string) *ContentStore {
	return &ContentStore{client: client, table: table, items: readcache.New[attribute.Item](contentLimit, contentTTL)}
}

// Program returns a complete program of a provider. It returns a fault NotFound if there is none or it is not complete, or DynamoDB's error.
func (s *ContentStore) Program(ctx context.Context, tenant, uuid string) (Program, error) {
	item, err := s.find(ctx, tenant, "program#"+uuid, func(item attribute.Item) bool { return attribute.GetBool(item, "complete") })
	if err != nil {
		return Program{}, err
	}
	return Program{
		UUID:      uuid,
		Name:      attribute.GetString(item, "name"),
		Complete:  true,
		Variables: attribute.GetStrings(item, "variables"),
		Content:   jsontext.Value(attribute.GetString(item, "content")),
	}, nil
}

// Group returns the aNumbers of a provider's group, sorted. It returns a fault NotFound if the provider has no such group, or DynamoDB's error.
func (s *ContentStore) Group(ctx context.Context, tenant, id string) ([]string, error) {
	item, err := s.find(ctx, tenant, "group#"+id, func(attribute.Item) bool { return true })
	if err != nil {
		return nil, err
	}
	return slices.Sorted(slices.Values(attribute.GetStrings(item, "numbers"))), nil
}

// OwnsANumbers reports whether all numbers are the provider's. It returns DynamoDB's error.
func (s *ContentStore) OwnsANumbers(ctx context.Context, tenant string, numbers []string) (bool, error) {
	_, err := s.find(ctx, tenant, "anumbers", func(item attribute.Item) bool {
		owned := make(map[string]bool)
		for _, number := range attribute.GetStrings(item, "numbers") {
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
func (s *ContentStore) find(ctx context.Context, tenant, sk string, wanted func(attribute.Item) bool) (attribute.Item, error) {
	pk := "provider#" + tenant
	for _, maxAge := range []time.Duration{contentTTL * 2, recheckAge} {
		item, err := s.items.Get(ctx, pk+" "+sk, maxAge, func(ctx context.Context) (attribute.Item, error) {
			return s.read(ctx, pk, sk)
		})
		if err != nil || wanted(item) {
			return item, err
		}
	}
	return nil, fault.New(fault.NotFound, "")
}

func (s *ContentStore) read(ctx context.Context, pk, sk string) (attribute.Item, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(s.table),
		Key:       attribute.Item{"pk": attribute.String(pk), "sk": attribute.String(sk)},
	})
	if err != nil {
		return nil, err
	}
	if out.Item == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	return out.Item, nil
}
