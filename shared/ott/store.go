package ott

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	secretstypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/go-json-experiment/json"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/secret"
)

// recoveryDays is how long Secrets Manager can still restore credentials that were replaced.
const recoveryDays = 7

// descriptionPrefix begins the description of every registration's secret; the registration's key ends it.
const descriptionPrefix = "Credentials of the OTT registration "

// RegistrationStore keeps registrations in DynamoDB and their credentials in Secrets Manager. It reads as a RegistrationReader does.
//
// A registration's credentials are a secret that is written once and never changed: every registering of the same
// property writes a new secret, and the item that names it is the commit point. A crash before the item leaves the old
// registration whole and an orphaned secret; a crash after it leaves the old secret orphaned. Names are never used
// again, so a deleted name that Secrets Manager keeps for days is in nobody's way, and two writers with the same
// credentials cannot delete each other's, as they could if the name were a hash of the content.
type RegistrationStore struct {
	*RegistrationReader
	secrets *secretsmanager.Client
	prefix  string
}

// NewRegistrationStore returns a store on a table with the hash key pk, whose secrets' names begin with prefix, such as carillon/ott/.
func NewRegistrationStore(items *dynamodb.Client, table string, secrets *secretsmanager.Client, prefix string) *RegistrationStore {
	return &RegistrationStore{RegistrationReader: NewRegistrationReader(items, table), secrets: secrets, prefix: prefix}
}

// Put registers a property for a tenant, or replaces what the tenant registered under the same id. version is unique to
// the request and names its secret. Put returns a fault Forbidden if another tenant holds the id, or AWS's error, after
// which the old registration still stands or the new one does, whole in either case.
func (s *RegistrationStore) Put(ctx context.Context, tenant, version string, registration Registration, credentials Credentials) error {
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
			slog.WarnContext(ctx, "a replaced secret is left behind", "secret", replaced, "error", err)
		}
	}
	return nil
}

// credentialsDocument is the JSON of a registration's secret.
type credentialsDocument struct {
	ApplicationSecret     string `json:"applicationSecret,omitempty"`
	PageAccessToken       string `json:"pageAccessToken,omitempty"`
	CallbackVerifyToken   string `json:"callbackVerifyToken,omitempty"`
	ChannelSecret         string `json:"channelSecret,omitempty"`
	CustomerConnectSecret string `json:"customerConnectSecret,omitempty"`
}

func (d credentialsDocument) credentials() Credentials {
	return Credentials{
		ApplicationSecret:     secret.NewText(d.ApplicationSecret),
		PageAccessToken:       secret.NewText(d.PageAccessToken),
		CallbackVerifyToken:   secret.NewText(d.CallbackVerifyToken),
		ChannelSecret:         secret.NewText(d.ChannelSecret),
		CustomerConnectSecret: secret.NewText(d.CustomerConnectSecret),
	}
}

func (s *RegistrationStore) createSecret(ctx context.Context, name string, registration Registration, credentials Credentials) error {
	document, err := json.Marshal(credentialsDocument{
		ApplicationSecret:     credentials.ApplicationSecret.Reveal(),
		PageAccessToken:       credentials.PageAccessToken.Reveal(),
		CallbackVerifyToken:   credentials.CallbackVerifyToken.Reveal(),
		ChannelSecret:         credentials.ChannelSecret.Reveal(),
		CustomerConnectSecret: credentials.CustomerConnectSecret.Reveal(),
	})
	if err != nil {
		return err
	}
	_, err = s.secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name:         aws.String(name),
		Description:  aws.String(descriptionPrefix + registrationKey(registration.Platform, registration.PropertyID)),
		SecretString: aws.String(string(document)),
	})
	var exists *secretstypes.ResourceExistsException
	if errors.As(err, &exists) {
		return nil // the name is unique to this request: the SDK retried a call that had been carried out
	}
	return err
}

// deleteSecret deletes a secret that no item names. It costs nothing while Secrets Manager keeps it for recovery.
func (s *RegistrationStore) deleteSecret(ctx context.Context, name string) error {
	_, err := s.secrets.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{
		SecretId:             aws.String(name),
		RecoveryWindowInDays: aws.Int64(recoveryDays),
	})
	var gone *secretstypes.ResourceNotFoundException
	var deleted *secretstypes.InvalidRequestException // what AWS answers for a secret that waits for its deletion
	if errors.As(err, &gone) || errors.As(err, &deleted) {
		return nil
	}
	return err
}

// putItem is the commit point. It returns the name of the secret that the item named before, or "".
func (s *RegistrationStore) putItem(ctx context.Context, tenant, secretName string, r Registration) (string, error) {
	now := dynamo.Time(time.Now())
	out, err := s.items.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(s.table),
		Key:       dynamo.Item{"pk": dynamo.String(registrationKey(r.Platform, r.PropertyID))},
		UpdateExpression: aws.String("SET tenant = :tenant, tenantPlatform = :tenantPlatform, platform = :platform, propertyId = :propertyId, " +
			"#name = :name, applicationId = :applicationId, endpointUrl = :endpointUrl, isActive = :isActive, " +
			"isTransactional = :isTransactional, isTestChannel = :isTestChannel, secretName = :secretName, " +
			"createdAt = if_not_exists(createdAt, :now), updatedAt = :now"),
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
			":now":             now,
		},
		ReturnValues: dynamodbtypes.ReturnValueUpdatedOld,
	})
	var foreign *dynamodbtypes.ConditionalCheckFailedException
	if errors.As(err, &foreign) {
		return "", fault.Wrap(fault.Forbidden, err)
	}
	if err != nil {
		return "", err
	}
	return dynamo.GetString(out.Attributes, "secretName"), nil
}

// registrationKey is a registration's key. It holds no tenant, because a platform's callback knows none.
func registrationKey(platform Platform, propertyID string) string {
	return string(platform) + "#" + propertyID
}

// tenantPlatform is the key of the index tenant-platform. No tenant's name holds a #.
func tenantPlatform(tenant string, platform Platform) string {
	return tenant + "#" + string(platform)
}
