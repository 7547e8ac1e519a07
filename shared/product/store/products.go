// Package store keeps products, their mails and the windows of the mails' limits in DynamoDB, and reads what countries
// are served.
package store

import (
	"context"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/product"
)

// Products finds products in DynamoDB, one item each.
//
// Mails writes them: an item is written once its entitlement is there, in one transaction with the mail that the
// request brings about. A crash before it leaves no trace but the entitlement, which the provider gives again to the
// same request; a crash after it leaves both whole.
type Products struct {
	client *dynamodb.Client
	table  string
}

// NewProducts returns the products of a table with the keys owner and id.
func NewProducts(client *dynamodb.Client, table string) *Products {
	return &Products{client: client, table: table}
}

// OpenProducts returns the products of the table that PRODUCTS_TABLE names.
func OpenProducts(env *environment.Variables, config aws.Config) *Products {
	return NewProducts(dynamodb.NewFromConfig(config), env.String("PRODUCTS_TABLE"))
}

// The attributes of an item that a read shows. Nothing else of it is read: what a link is renewed with is no reader's.
const shownAttributes = "id, #status, productSpecificationId, referredType, offerKey, " +
	"billingAccountId, billingAccountBaseType, billingAccountType, contact, mailState, mailReason, mailAt"

// Find returns an owner's product. It returns a fault NotFound, also for another owner's product; DynamoDB's error; or
// an error if the item is no product's.
func (s *Products) Find(ctx context.Context, tenant, businessID, id string) (product.Shown, error) {
	if !isProductID(id) {
		return product.Shown{}, fault.New(fault.NotFound, "")
	}
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:                aws.String(s.table),
		Key:                      productKey(tenant, businessID, id),
		ProjectionExpression:     aws.String(shownAttributes),
		ExpressionAttributeNames: map[string]string{"#status": "status"},
		ConsistentRead:           aws.Bool(true), // who was answered with a Location may follow it at once
	})
	if err != nil {
		return product.Shown{}, err
	}
	if out.Item == nil {
		return product.Shown{}, fault.New(fault.NotFound, "")
	}
	return shownFromItem(out.Item)
}

// Asked returns what a product's entitlement was asked for with, whatever is configured by now. It returns a fault
// NotFound if there is no such product, or DynamoDB's error. A product that was stored before these were kept has its
// CustomerIdentifier alone: the billing account's id, as it was then.
func (s *Products) Asked(ctx context.Context, tenant, businessID, id string) (product.EntitlementRequest, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(s.table),
		Key:       productKey(tenant, businessID, id),
		ProjectionExpression: aws.String(
			"billingAccountId, customerIdentifier, merchantAccountKey, productKey, offerKey"),
		ConsistentRead: aws.Bool(true), // what an earlier request has kept decides what this one asks for
	})
	if err != nil {
		return product.EntitlementRequest{}, err
	}
	if out.Item == nil {
		return product.EntitlementRequest{}, fault.New(fault.NotFound, "")
	}
	customer := dynamo.GetString(out.Item, "customerIdentifier")
	if customer == "" {
		return product.EntitlementRequest{CustomerIdentifier: dynamo.GetString(out.Item, "billingAccountId")}, nil
	}
	return product.EntitlementRequest{
		CustomerIdentifier: customer,
		MerchantAccountKey: dynamo.GetString(out.Item, "merchantAccountKey"),
		ProductKey:         dynamo.GetString(out.Item, "productKey"),
		OfferKey:           dynamo.GetString(out.Item, "offerKey"),
	}, nil
}

// isProductID reports whether a text can be a product's id: a key that DynamoDB takes.
func isProductID(text string) bool {
	_, err := uuid.Parse(text)
	return err == nil && len(text) == len(uuid.UUID{}.String())
}

func shownFromItem(item dynamo.Item) (product.Shown, error) {
	contacts, err := decodeContacts(dynamo.GetString(item, "contact"))
	if err != nil {
		return product.Shown{}, err
	}
	return product.Shown{
		ID:     dynamo.GetString(item, "id"),
		Status: dynamo.GetString(item, "status"),
		Product: product.Product{
			SpecificationID: dynamo.GetString(item, "productSpecificationId"),
			ReferredType:    dynamo.GetString(item, "referredType"),
			BillingAccount: product.BillingAccount{
				ID:       dynamo.GetString(item, "billingAccountId"),
				Contacts: contacts,
				BaseType: dynamo.GetString(item, "billingAccountBaseType"),
				Type:     dynamo.GetString(item, "billingAccountType"),
			},
		},
		OfferKey:   dynamo.GetString(item, "offerKey"),
		MailState:  product.MailState(dynamo.GetString(item, "mailState")),
		MailReason: dynamo.GetString(item, "mailReason"),
		MailAt:     dynamo.GetTime(item, "mailAt"),
	}, nil
}

// update is a product's write, before it is known whether the product has another entitlement.
type update types.Update

// productUpdate returns the write of a product with a mail that has just been asked for. The activation link is not in
// it: only the mail needs that.
func productUpdate(table string, stored product.Stored, mail product.Mail) (update, error) {
	contact, err := encodeContacts(stored.BillingAccount.Contacts)
	if err != nil {
		return update{}, err
	}
	expires := dynamo.String("")
	if !stored.ActivationExpires.IsZero() {
		expires = dynamo.Time(stored.ActivationExpires)
	}
	return update{
		TableName: aws.String(table),
		Key:       productKey(stored.Tenant, stored.BusinessID, stored.ID),
		UpdateExpression: aws.String("SET #status = if_not_exists(#status, :status), entitlementId = :entitlementId, " +
			"productSpecificationId = :productSpecificationId, referredType = :referredType, " +
			"billingAccountId = :billingAccountId, billingAccountBaseType = :billingAccountBaseType, " +
			"billingAccountType = :billingAccountType, " +
			"customerIdentifier = :customerIdentifier, merchantAccountKey = :merchantAccountKey, " +
			"productKey = :productKey, offerKey = :offerKey, " +
			"contact = :contact, email = :email, activationExpires = :activationExpires, " +
			"operationId = :operationId, correlationId = :correlationId, " +
			"mailState = :mailState, mailReason = :mailReason, mailAt = :now, " +
			"createdAt = if_not_exists(createdAt, :now), updatedAt = :now"),
		ConditionExpression:      aws.String("attribute_not_exists(entitlementId) OR entitlementId = :entitlementId"),
		ExpressionAttributeNames: map[string]string{"#status": "status"},
		ExpressionAttributeValues: dynamo.Item{
			":status":                 dynamo.String(product.StatusCreated),
			":entitlementId":          dynamo.String(stored.Entitlement.ID),
			":productSpecificationId": dynamo.String(stored.SpecificationID),
			":referredType":           dynamo.String(stored.ReferredType),
			":billingAccountId":       dynamo.String(stored.BillingAccount.ID),
			":billingAccountBaseType": dynamo.String(stored.BillingAccount.BaseType),
			":billingAccountType":     dynamo.String(stored.BillingAccount.Type),
			":customerIdentifier":     dynamo.String(stored.Asked.CustomerIdentifier),
			":merchantAccountKey":     dynamo.String(stored.Asked.MerchantAccountKey),
			":productKey":             dynamo.String(stored.Asked.ProductKey),
			":offerKey":               dynamo.String(stored.Asked.OfferKey),
			":contact":                dynamo.String(contact),
			":email":                  dynamo.String(stored.Email()),
			":activationExpires":      expires,
			":operationId":            dynamo.String(stored.OperationID),
			":correlationId":          dynamo.String(stored.CorrelationID),
			":mailState":              dynamo.String(string(mail.State)),
			":mailReason":             dynamo.String(mail.Reason),
			":now":                    dynamo.Time(mail.CreatedAt),
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}, nil
}

// replacing returns the write for a product that has the entitlement former, or, if that is empty, none or the same
// one.
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
