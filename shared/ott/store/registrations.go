// Package store keeps the OTT API's registrations, their credentials and its messages.
package store

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	secretstypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
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
//
// A secret also holds what signed callbacks until it took its place, for a platform signs with that for a while. So
// whoever overrides reads the secret that is replaced, and commits only if it is still that one which is.
type Registrations struct {
	*RegistrationReader
	secrets     *secretsmanager.Client
	credentials *Credentials
	prefix      string
	clock       clock.Clock
	log         *slog.Logger
}

// formerTime is how long a signing secret stays right after its registration was overridden (docs/contract.md §1).
const formerTime = 5 * time.Minute

// maxRaces is how often Put begins, each time because another took the place of what it was about to replace. The last
// time it replaces whatever there is, so that everyone's registering comes to an end: what is lost then is the secret
// of a registering that stood for an instant.
const maxRaces = 5

var lostRaces = backoff.Policy{Min: 20 * time.Millisecond, Max: 200 * time.Millisecond}

// NewRegistrations returns a store on a table with the hash key pk, whose secrets' names begin with prefix, such as
// carillon/ott/.
func NewRegistrations(
	items *dynamodb.Client, table string, secrets *secretsmanager.Client, prefix string, clock clock.Clock,
	log *slog.Logger,
) *Registrations {
	return newRegistrations(NewRegistrationReader(items, table), secrets, prefix, clock, log)
}

// OpenRegistrations returns a store on the table that REGISTRATIONS_TABLE names, whose secrets' names begin with
// OTT_SECRET_PREFIX.
func OpenRegistrations(env *environment.Variables, config aws.Config, log *slog.Logger) *Registrations {
	return newRegistrations(OpenRegistrationReader(env, config), secretsmanager.NewFromConfig(config),
		env.String("OTT_SECRET_PREFIX"), clock.System{}, log)
}

func newRegistrations(
	reader *RegistrationReader, secrets *secretsmanager.Client, prefix string, clock clock.Clock, log *slog.Logger,
) *Registrations {
	cache := secret.NewUnthrottledCache(secretstore.New(secrets))
	return &Registrations{
		RegistrationReader: reader, secrets: secrets, credentials: NewCredentials(reader, cache).WithClock(clock),
		prefix: prefix, clock: clock, log: log,
	}
}

// Put registers a property for a tenant, or replaces what the tenant registered under the same id. version is unique to
// the request and names its secret. What signed callbacks until then stays right for five minutes. Put returns a fault
// Forbidden if another tenant holds the id, or AWS's error, after which the old registration still stands or the new
// one does, whole in either case.
func (s *Registrations) Put(
	ctx context.Context, tenant, version string, registration ott.Registration, credentials ott.Credentials,
) error {
	secretName := s.prefix + string(registration.Platform) + "/" + version
	for try := 1; ; try++ {
		name := secretName
		if try > 1 {
			name += "-" + strconv.Itoa(try) // a name is never used again
		}
		lost, err := s.put(ctx, tenant, name, registration, credentials, try == maxRaces)
		if !lost {
			return err
		}
		if err := lostRaces.Sleep(ctx, s.clock, try); err != nil {
			return err
		}
	}
}

// put is one try of Put. It reports whether it was lost to another's.
func (s *Registrations) put(
	ctx context.Context, tenant, secretName string, registration ott.Registration, credentials ott.Credentials,
	whatever bool,
) (lost bool, err error) {
	current, kept, err := s.current(ctx, registration.Platform, registration.PropertyID)
	switch {
	case err != nil:
		return false, err
	case current.Tenant != "" && current.Tenant != tenant:
		return false, fault.New(fault.Forbidden, "")
	}
	now := s.clock.Now()
	credentials.Former = kept.FormerAfter(registration.Platform, credentials, now, now.Add(formerTime))
	if err := s.createSecret(ctx, secretName, registration, credentials); err != nil {
		return false, err
	}
	replaced := &current.SecretName
	if whatever {
		replaced = nil
	}
	old, err := s.putItem(ctx, tenant, secretName, replaced, now, registration)
	switch {
	case errors.Is(err, errLost):
		if err := s.deleteSecret(ctx, secretName); err != nil {
			s.log.WarnContext(ctx, "a secret that was not used is left behind", "secret", secretName, "error", err)
		}
		return true, nil
	case fault.Is(err, fault.Forbidden):
		return false, errors.Join(err, s.deleteSecret(ctx, secretName))
	case err != nil:
		return false, err // the write may have reached the table, so its secret must stay
	case old != "" && old != secretName:
		if err := s.deleteSecret(ctx, old); err != nil {
			s.log.WarnContext(ctx, "a replaced secret is left behind", "secret", old, "error", err)
		}
	}
	return false, nil
}

// current returns what is registered under an id, or nothing. Credentials that are gone, or that are none, are nothing
// either: registering again is what mends them.
func (s *Registrations) current(
	ctx context.Context, platform ott.Platform, propertyID string,
) (ott.StoredRegistration, ott.Credentials, error) {
	registration, credentials, err := s.credentials.Load(ctx, platform, propertyID)
	if errors.Is(err, secret.ErrNotFound) || errors.Is(err, errNotCredentials) {
		s.log.WarnContext(ctx, "the credentials that are replaced cannot be read", "error", err)
		registration, err = s.Get(ctx, platform, propertyID)
	}
	return registration, credentials, fault.Ignore(err, fault.NotFound)
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

// errLost says that the item is not what was to be replaced any more.
var errLost = errors.New("store: others have registered the property meanwhile")

// putItem is the commit point. It replaces an item that names that secret, or none if the name is empty, or whatever
// item there is if replaced is nil. It returns the name of the secret that the item named before, or ""; errLost; a
// fault Forbidden if another tenant holds the id; or DynamoDB's error.
func (s *Registrations) putItem(
	ctx context.Context, tenant, secretName string, replaced *string, now time.Time, r ott.Registration,
) (old string, err error) {
	values := dynamo.Item{
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
		":now":             dynamo.Time(now),
	}
	condition := "attribute_not_exists(pk) OR tenant = :tenant"
	switch {
	case replaced == nil:
	case *replaced == "":
		condition = "attribute_not_exists(pk)"
	default:
		condition, values[":replaced"] = "tenant = :tenant AND secretName = :replaced", dynamo.String(*replaced)
	}
	out, err := s.items.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(s.table),
		Key:       dynamo.Item{"pk": dynamo.String(registrationKey(r.Platform, r.PropertyID))},
		UpdateExpression: aws.String("SET tenant = :tenant, tenantPlatform = :tenantPlatform, platform = :platform, " +
			"propertyId = :propertyId, #name = :name, applicationId = :applicationId, endpointUrl = :endpointUrl, " +
			"isActive = :isActive, isTransactional = :isTransactional, isTestChannel = :isTestChannel, " +
			"secretName = :secretName, createdAt = if_not_exists(createdAt, :now), updatedAt = :now " +
			"REMOVE credentialsState, credentialsSince, credentialsReason"),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeNames:            map[string]string{"#name": "name"},
		ExpressionAttributeValues:           values,
		ReturnValues:                        dynamodbtypes.ReturnValueUpdatedOld,
		ReturnValuesOnConditionCheckFailure: dynamodbtypes.ReturnValuesOnConditionCheckFailureAllOld,
	})
	found, failed := dynamo.ConditionFailed(err)
	switch {
	case failed && dynamo.GetString(found, "secretName") == secretName:
		return aws.ToString(replaced), nil // the SDK retried a call that had been carried out
	case failed && len(found) > 0 && dynamo.GetString(found, "tenant") != tenant:
		return "", fault.Wrap(fault.Forbidden, err)
	case failed:
		return "", errLost
	case err != nil:
		return "", err
	}
	return dynamo.GetString(out.Attributes, "secretName"), nil
}

// Delete removes a tenant's registration, then its credentials, which Secrets Manager can restore for recoveryDays. The
// item is the commit point: a crash after it leaves an orphaned secret. Delete returns a fault NotFound if nobody holds
// the id, or another tenant does, or AWS's error, after which the registration stands, whole, or is gone.
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
		case !stands: // nobody learns what another tenant has registered
			return fault.New(fault.NotFound, "")
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
