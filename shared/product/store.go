package product

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/go-json-experiment/json"

	"carillon/shared/attribute"
	"carillon/shared/fault"
)

// status is what a product's status is from its creation on.
const statusCreated = "created"

// Store keeps products in DynamoDB, one item each.
//
// An item is written once its entitlement is there, in one update that can be repeated. A crash before it leaves no trace
// but the entitlement, which the provider gives again to the same request; a crash after it leaves the product whole.
type Store struct {
	client *dynamodb.Client
	table  string
}

// NewStore returns a store on a table with the keys owner and id.
func NewStore(client *dynamodb.Client, table string) *Store {
	return &Store{client: client, table: table}
}

// Record is a product as it is kept.
type Record struct {
	Tenant     string
	BusinessID string
	ID         string // see ID
	Product
	Entitlement
	OperationID   string // what the entitlement was last asked for under
	CorrelationID string // of the request that did so
}

// LastOperation returns the operation that a product's entitlement was last asked for under, or "" if there is no such
// product. It returns DynamoDB's error.
func (s *Store) LastOperation(ctx context.Context, tenant, businessID, id string) (string, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:            aws.String(s.table),
		Key:                  productKey(tenant, businessID, id),
		ProjectionExpression: aws.String("operationId"),
		ConsistentRead:       aws.Bool(true), // who takes an operation over must see what was done under it
	})
	if err != nil {
		return "", err
	}
	return attribute.GetString(out.Item, "operationId"), nil
}

// Put writes a product, or renews its link and contacts. A product keeps the entitlement that it has: if record has
// another one, Put returns a fault BadGateway and changes nothing. Else it returns DynamoDB's error.
func (s *Store) Put(ctx context.Context, record Record) error {
	contact, err := json.Marshal(contactsJSON(record.BillingAccount.Contacts))
	if err != nil {
		return err
	}
	expires := attribute.String("")
	if !record.ActivationExpires.IsZero() {
		expires = attribute.Time(record.ActivationExpires)
	}
	_, err = s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(s.table),
		Key:       productKey(record.Tenant, record.BusinessID, record.ID),
		UpdateExpression: aws.String("SET #status = if_not_exists(#status, :status), entitlementId = :entitlementId, " +
			"productSpecificationId = :productSpecificationId, referredType = :referredType, " +
			"billingAccountId = :billingAccountId, billingAccountBaseType = :billingAccountBaseType, billingAccountType = :billingAccountType, " +
			"contact = :contact, email = :email, activationUrl = :activationUrl, activationExpires = :activationExpires, " +
			"operationId = :operationId, correlationId = :correlationId, " +
			"createdAt = if_not_exists(createdAt, :now), updatedAt = :now"),
		ConditionExpression:      aws.String("attribute_not_exists(entitlementId) OR entitlementId = :entitlementId"),
		ExpressionAttributeNames: map[string]string{"#status": "status"},
		ExpressionAttributeValues: attribute.Item{
			":status":                 attribute.String(statusCreated),
			":entitlementId":          attribute.String(record.Entitlement.ID),
			":productSpecificationId": attribute.String(record.SpecificationID),
			":referredType":           attribute.String(record.ReferredType),
			":billingAccountId":       attribute.String(record.BillingAccount.ID),
			":billingAccountBaseType": attribute.String(record.BillingAccount.BaseType),
			":billingAccountType":     attribute.String(record.BillingAccount.Type),
			":contact":                attribute.String(string(contact)),
			":email":                  attribute.String(record.Email()),
			":activationUrl":          attribute.String(record.ActivationURL.Reveal()),
			":activationExpires":      expires,
			":operationId":            attribute.String(record.OperationID),
			":correlationId":          attribute.String(record.CorrelationID),
			":now":                    attribute.Time(time.Now()),
		},
	})
	var other *types.ConditionalCheckFailedException
	if errors.As(err, &other) {
		return fault.Wrap(fault.BadGateway, errors.New("the provider gave another entitlement than the product has"))
	}
	return err
}

// productKey is a product's key. A tenant's name has no #, so two owners never share one.
func productKey(tenant, businessID, id string) attribute.Item {
	return attribute.Item{"owner": attribute.String(tenant + "#" + businessID), "id": attribute.String(id)}
}
