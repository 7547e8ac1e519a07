package product

import (
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/go-json-experiment/json"

	"carillon/shared/dynamo"
)

// status is what a product's status is from its creation on.
const statusCreated = "created"

// Store reads products from DynamoDB, one item each; MailStore.Keep writes them.
//
// An item is written once its entitlement is there, in one transaction with the mail that the request brings about. A crash
// before it leaves no trace but the entitlement, which the provider gives again to the same request; a crash after it
// leaves both whole.
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

// update is a product's write, before it is known whether the product has another entitlement.
type update types.Update

// productUpdate returns the write of a product with a mail that has just been asked for. The activation link is not in
// it: only the mail needs that.
func productUpdate(table string, record Record, mail Mail) (update, error) {
	contact, err := json.Marshal(contactsJSON(record.BillingAccount.Contacts))
	if err != nil {
		return update{}, err
	}
	expires := dynamo.String("")
	if !record.ActivationExpires.IsZero() {
		expires = dynamo.Time(record.ActivationExpires)
	}
	return update{
		TableName: aws.String(table),
		Key:       productKey(record.Tenant, record.BusinessID, record.ID),
		UpdateExpression: aws.String("SET #status = if_not_exists(#status, :status), entitlementId = :entitlementId, " +
			"productSpecificationId = :productSpecificationId, referredType = :referredType, " +
			"billingAccountId = :billingAccountId, billingAccountBaseType = :billingAccountBaseType, billingAccountType = :billingAccountType, " +
			"contact = :contact, email = :email, activationExpires = :activationExpires, " +
			"operationId = :operationId, correlationId = :correlationId, " +
			"mailState = :mailState, mailReason = :mailReason, mailAt = :now, " +
			"createdAt = if_not_exists(createdAt, :now), updatedAt = :now"),
		ConditionExpression:      aws.String("attribute_not_exists(entitlementId) OR entitlementId = :entitlementId"),
		ExpressionAttributeNames: map[string]string{"#status": "status"},
		ExpressionAttributeValues: dynamo.Item{
			":status":                 dynamo.String(statusCreated),
			":entitlementId":          dynamo.String(record.Entitlement.ID),
			":productSpecificationId": dynamo.String(record.SpecificationID),
			":referredType":           dynamo.String(record.ReferredType),
			":billingAccountId":       dynamo.String(record.BillingAccount.ID),
			":billingAccountBaseType": dynamo.String(record.BillingAccount.BaseType),
			":billingAccountType":     dynamo.String(record.BillingAccount.Type),
			":contact":                dynamo.String(string(contact)),
			":email":                  dynamo.String(record.Email()),
			":activationExpires":      expires,
			":operationId":            dynamo.String(record.OperationID),
			":correlationId":          dynamo.String(record.CorrelationID),
			":mailState":              dynamo.String(string(mail.State)),
			":mailReason":             dynamo.String(mail.Reason),
			":now":                    dynamo.Time(mail.CreatedAt),
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}, nil
}

// replacing returns the write for a product that has the entitlement former, or, if that is empty, none or the same one.
func (u update) replacing(former string) *types.Update {
	if former != "" {
		u.UpdateExpression = aws.String(*u.UpdateExpression + " ADD formerEntitlementIds :formers")
		u.ConditionExpression = aws.String("entitlementId = :former")
		u.ExpressionAttributeValues = maps.Clone(u.ExpressionAttributeValues)
		u.ExpressionAttributeValues[":former"] = dynamo.String(former)
		u.ExpressionAttributeValues[":formers"] = &types.AttributeValueMemberSS{Value: []string{former}}
	}
	return (*types.Update)(&u)
}

// productKey is a product's key. A tenant's name has no #, so two owners never share one.
func productKey(tenant, businessID, id string) dynamo.Item {
	return dynamo.Item{"owner": dynamo.String(tenant + "#" + businessID), "id": dynamo.String(id)}
}
