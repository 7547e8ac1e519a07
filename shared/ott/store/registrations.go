// Package store keeps the OTT API's registrations, their credentials and its messages.
package store

import (
	"context"
	"errors"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	secretstypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/ott"
)

// recoveryDays is how long Secrets Manager can still restore credentials that were replaced.
const recoveryDays = 7

// descriptionPrefix begins the description of every registration's secret; the registration's key ends it.
const descriptionPrefix = "Credentials of the OTT registration "

// Registrations keeps registrations in DynamoDB and their credentials in Secrets Manager. It reads as a
// RegistrationReader does.
//
// A registration's credentials are a secret that is written once and never changed: every registering of the same
// property writes a new secret, and the item that names it is the commit point. A crash before the item leaves the old
// registration whole and an orphaned secret; a crash after it leaves the old secret orphaned. Names are never used
// again, so a deleted name that Secrets Manager keeps for days is in nobody's way, and two writers with the same
// credentials cannot delete each other's, as they could if the name were a hash of the content.
type Registrations struct {
	*RegistrationReader
	secrets *secretsmanager.Client
	prefix  string
	clock   clock.Clock
	log     *slog.Logger
}

// NewRegistrations returns a store on a table with the hash key pk, whose secrets' names begin with prefix, such as
// carillon/ott/.
func NewRegistrations(
	items *dynamodb.Client, table string, secrets *secretsmanager.Client, prefix string, clock clock.Clock,
	log *slog.Logger,
) *Registrations {
	return &Registrations{
		RegistrationReader: NewRegistrationReader(items, table),
		secrets:            secrets, prefix: prefix, clock: clock, log: log,
	}
}

// OpenRegistrations returns a store on the table that REGISTRATIONS_TABLE names, whose secrets' names begin with
// OTT_SECRET_PREFIX.
func OpenRegistrations(env *environment.Variables, config aws.Config, log *slog.Logger) *Registrations {
	return &Registrations{
		RegistrationReader: OpenRegistrationReader(env, config),
		secrets:            secretsmanager.NewFromConfig(config),
		prefix:             env.String("OTT_SECRET_PREFIX"),
		clock:              clock.System{},
		log:                log,
	}
}

// Put registers a property for a tenant, or replaces what the tenant registered under the same id. version is unique to
// the request and names its secret. Put returns a fault Forbidden if another tenant holds the id, or AWS's error, after
// which the old registration still stands or the new one does, whole in either case.
func (s *Registrations) Put(
	ctx context.Context, tenant, version string, registration ott.Registration, credentials ott.Credentials,
) error {
	secretName := s.prefix + string(registration.Platform) + "/" + version
	if err := s.createSecret(ctx, secretName, registration, credentials); err != nil {
		return err
	}
	replaced, err := s.putItem(ctx, tenant, secretName, registration)
	switch {
	case fault.Is(err, fault.Forbidden):
		return errors.Join(err, s.deleteSecret(ctx, secretName))
	case err != nil:
		return err // the write may have reached the table, so its secret must stay
	case replaced != "" && replaced != secretName:
		if err := s.deleteSecret(ctx, replaced); err != nil {
			s.log.WarnContext(ctx, "a replaced secret is left behind", "secret", replaced, "error", err)
		}
	}
	return nil
}

func (s *Registrations) createSecret(
	ctx context.Context, name string, registration ott.Registration, credentials ott.Credentials,
) error {
	document, err := encodeCredentials(credentials)
	if err != nil {
		return err
	}
	_, err = s.secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name:         aws.String(name),
		Description:  aws.String(descriptionPrefix + registrationKey(registration.Platform, registration.PropertyID)),
		SecretString: aws.String(string(document)),
	})
	if _, exists := errors.AsType[*secretstypes.ResourceExistsException](err); exists {
		return nil // the name is unique to this request: the SDK retried a call that had been carried out
	}
	return err
}

// deleteSecret deletes a secret that no item names. It costs nothing while Secrets Manager keeps it for recovery.
func (s *Registrations) deleteSecret(ctx context.Context, name string) error {
	_, err := s.secrets.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{
		SecretId:             aws.String(name),
		RecoveryWindowInDays: aws.Int64(recoveryDays),
	})
	_, gone := errors.AsType[*secretstypes.ResourceNotFoundException](err)
	// What AWS answers for a secret that waits for its deletion.
	_, deleted := errors.AsType[*secretstypes.InvalidRequestException](err)
	if gone || deleted {
		return nil
	}
	return err
}

// putItem is the commit point. It returns the name of the secret that the item named before, or "".
func (s *Registrations) putItem(ctx context.Context, tenant, secretName string, r ott.Registration) (string, error) {
	out, err := s.items.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(s.table),
		Key:       dynamo.Item{"pk": dynamo.String(registrationKey(r.Platform, r.PropertyID))},
		UpdateExpression: aws.String("SET tenant = :tenant, tenantPlatform = :tenantPlatform, platform = :platform, " +
			"propertyId = :propertyId, #name = :name, applicationId = :applicationId, endpointUrl = :endpointUrl, " +
			"isActive = :isActive, isTransactional = :isTransactional, isTestChannel = :isTestChannel, " +
			"secretName = :secretName, createdAt = if_not_exists(createdAt, :now), updatedAt = :now " +
			"REMOVE credentialsState, credentialsSince, credentialsReason"),
		ConditionExpression:      aws.String("attribute_not_exists(pk) OR tenant = :tenant"),
		ExpressionAttributeNames: map[string]string{"#name": "name"},
		ExpressionAttributeValues: dynamo.Item{
			":tenant":          dynamo.String(tenant),
			":tenantPlatform":  dynamo.String(tenantPlatform(tenant, r.Platform)),
			":platform":        dynamo.String(string(r.Platform)),
			":propertyId":      dynamo.String(r.PropertyID),
			":name":            dynamo.String(r.Name),
			":applicationId":   dynamo.String(r.ApplicationID),
			":endpointUrl":     dynamo.String(r.EndpointURL),
			":isActive":        dynamo.Bool(r.IsActive),
			":isTransactional": dynamo.Bool(r.IsTransactional),
			":isTestChannel":   dynamo.Bool(r.IsTestChannel),
			":secretName":      dynamo.String(secretName),
			":now":             dynamo.Time(s.clock.Now()),
		},
		ReturnValues: dynamodbtypes.ReturnValueUpdatedOld,
	})
	if _, foreign := dynamo.ConditionFailed(err); foreign {
		return "", fault.Wrap(fault.Forbidden, err)
	}
	if err != nil {
		return "", err
	}
	return dynamo.GetString(out.Attributes, "secretName"), nil
}

// Delete removes a tenant's registration, then its credentials, which Secrets Manager can restore for recoveryDays. The
// item is the commit point: a crash after it leaves an orphaned secret. Delete returns a fault Forbidden if another
// tenant holds the id, NotFound if nobody does, or AWS's error, after which the registration stands, whole, or is gone.
func (s *Registrations) Delete(ctx context.Context, tenant string, platform ott.Platform, propertyID string) error {
	if !ott.IsPropertyID(propertyID) {
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
			// The item names it no more: deleted by this call, or by an attempt of it whose answer was lost, or the
			// property was registered or deleted by others since the name was looked up.
			if err := s.deleteSecret(ctx, secretName); err != nil {
				s.log.WarnContext(ctx, "a deleted registration's secret is left behind", "secret", secretName,
					"error", err)
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

// deleteItem deletes the item if it is the tenant's and names that secret. Else it returns the item as it is, or nil if
// there is none.
func (s *Registrations) deleteItem(
	ctx context.Context, tenant, secretName, key string,
) (found dynamo.Item, err error) {
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
	if found, other := dynamo.ConditionFailed(err); other {
		return found, nil
	}
	return nil, err
}
