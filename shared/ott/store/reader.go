package store

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/ott"
)

// RegistrationReader reads registrations from DynamoDB, without their credentials.
type RegistrationReader struct {
	items *dynamodb.Client
	table string
}

// NewRegistrationReader returns a reader of a table with the hash key pk and the index tenant-platform.
func NewRegistrationReader(items *dynamodb.Client, table string) *RegistrationReader {
	return &RegistrationReader{items: items, table: table}
}

// OpenRegistrationReader returns a reader of the table that REGISTRATIONS_TABLE names.
func OpenRegistrationReader(env *environment.Variables, config aws.Config) *RegistrationReader {
	return NewRegistrationReader(dynamodb.NewFromConfig(config), env.String("REGISTRATIONS_TABLE"))
}

// Get returns what is registered under an id, whoever registered it, as it is now (a consistent read). It returns a
// fault NotFound for an id that nobody has, or DynamoDB's error.
func (r *RegistrationReader) Get(
	ctx context.Context, platform ott.Platform, propertyID string,
) (ott.StoredRegistration, error) {
	if !ott.IsPropertyID(propertyID) {
		return ott.StoredRegistration{}, fault.New(fault.NotFound, "")
	}
	out, err := r.items.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(r.table),
		Key:            dynamo.Item{"pk": dynamo.String(registrationKey(platform, propertyID))},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return ott.StoredRegistration{}, err
	}
	if len(out.Item) == 0 {
		return ott.StoredRegistration{}, fault.New(fault.NotFound, "")
	}
	return storedRegistration(out.Item), nil
}

// List returns a page of a tenant's registrations with a platform, the first being page 1, by property id in the order
// of its bytes, and how many there are in all. A page past the end is empty. It reads the index tenant-platform, which
// follows the table within a second as a rule: what was registered or deleted a moment ago can be missing or still
// there. It reads all of the tenant's registrations to count them, an RCU for each 8 KB (about 20 of them). It returns
// DynamoDB's error.
func (r *RegistrationReader) List(
	ctx context.Context, tenant string, platform ott.Platform, page, pageSize int,
) (registrations []ott.StoredRegistration, count int, err error) {
	first := (page - 1) * pageSize
	pages := dynamodb.NewQueryPaginator(r.items, &dynamodb.QueryInput{
		TableName:                 aws.String(r.table),
		IndexName:                 aws.String("tenant-platform"),
		KeyConditionExpression:    aws.String("tenantPlatform = :tenantPlatform"),
		ExpressionAttributeValues: dynamo.Item{":tenantPlatform": dynamo.String(tenantPlatform(tenant, platform))},
	})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, 0, err
		}
		for _, item := range out.Items {
			if count >= first && len(registrations) < pageSize {
				registrations = append(registrations, storedRegistration(item))
			}
			count++
		}
	}
	return registrations, count, nil
}

func storedRegistration(item dynamo.Item) ott.StoredRegistration {
	return ott.StoredRegistration{
		Registration: ott.Registration{
			Platform:        ott.Platform(dynamo.GetString(item, "platform")),
			PropertyID:      dynamo.GetString(item, "propertyId"),
			Name:            dynamo.GetString(item, "name"),
			ApplicationID:   dynamo.GetString(item, "applicationId"),
			EndpointURL:     dynamo.GetString(item, "endpointUrl"),
			IsActive:        dynamo.GetBool(item, "isActive"),
			IsTransactional: dynamo.GetBool(item, "isTransactional"),
			IsTestChannel:   dynamo.GetBool(item, "isTestChannel"),
		},
		Tenant:      dynamo.GetString(item, "tenant"),
		SecretName:  dynamo.GetString(item, "secretName"),
		Credentials: credentialState(item),
	}
}

// registrationKey is a registration's key. It holds no tenant, because a platform's callback knows none.
func registrationKey(platform ott.Platform, propertyID string) string {
	return string(platform) + "#" + propertyID
}

// tenantPlatform is the key of the index tenant-platform. No tenant's name holds a #.
func tenantPlatform(tenant string, platform ott.Platform) string {
	return tenant + "#" + string(platform)
}
