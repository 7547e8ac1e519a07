package ott

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/clientauth"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/token"
)

// Delete removes a tenant's registration, then its credentials, which Secrets Manager can restore for recoveryDays. The
// item is the commit point: a crash after it leaves an orphaned secret. Delete returns a fault Forbidden if another
// tenant holds the id, NotFound if nobody does, or AWS's error, after which the registration stands, whole, or is gone.
func (s *RegistrationStore) Delete(ctx context.Context, tenant string, platform Platform, propertyID string) error {
	if !isPropertyID(propertyID) {
		return fault.New(fault.NotFound, "")
	}
	// The item is deleted by the secret that it names, so that whoever takes a secret's name off the table, and nobody
	// else, deletes that secret. A first condition that no item meets tells the name, and needs no right to read.
	secretName := ""
	for {
		found, err := s.deleteItem(ctx, tenant, secretName, registrationKey(platform, propertyID))
		if err != nil {
			return err
		}
		stands := found != nil && dynamo.GetString(found, "tenant") == tenant
		switch {
		case secretName != "":
			// The item names it no more: deleted by this call, or by an attempt of it whose answer was lost, or the property
			// was registered or deleted by others since the name was looked up.
			if err := s.deleteSecret(ctx, secretName); err != nil {
				slog.WarnContext(ctx, "a deleted registration's secret is left behind", "secret", secretName, "error", err)
			}
		case found == nil:
			return fault.New(fault.NotFound, "")
		case !stands:
			return fault.New(fault.Forbidden, "")
		}
		if !stands {
			return nil
		}
		secretName = dynamo.GetString(found, "secretName")
	}
}

// deleteItem deletes the item if it is the tenant's and names that secret. Else it returns the item as it is, or nil if there is none.
func (s *RegistrationStore) deleteItem(ctx context.Context, tenant, secretName, key string) (found dynamo.Item, err error) {
	_, err = s.items.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName:           aws.String(s.table),
		Key:                 dynamo.Item{"pk": dynamo.String(key)},
		ConditionExpression: aws.String("tenant = :tenant AND secretName = :secretName"),
		ExpressionAttributeValues: dynamo.Item{
			":tenant":     dynamo.String(tenant),
			":secretName": dynamo.String(secretName),
		},
		ReturnValuesOnConditionCheckFailure: dynamodbtypes.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var other *dynamodbtypes.ConditionalCheckFailedException
	if errors.As(err, &other) {
		return other.Item, nil
	}
	return nil, err
}

// DeleteHandler serves DELETE /ott/v1/registration/{platform}/{ottPropertyId}.
type DeleteHandler struct {
	Tokens        *token.Authority
	Registrations *RegistrationStore
}

// Serve deletes a registration. It answers 204 once nothing is registered under the id; the same id can be registered
// again at once.
func (h *DeleteHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := authorize(ctx, h.Tokens, r, clientauth.ScopeOTTRegistrationWrite)
	if err != nil {
		return nil, err
	}
	platform, propertyID, err := pathProperty(r)
	if err != nil {
		return nil, err
	}
	if err := h.Registrations.Delete(ctx, grant.Tenant, platform, propertyID); err != nil {
		return nil, err
	}
	return httpapi.Empty(http.StatusNoContent), nil
}
