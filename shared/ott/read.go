package ott

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/go-json-experiment/json"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/secret"
)

// StoredRegistration is a registration with what the API does not show of it.
type StoredRegistration struct {
	Registration
	Tenant     string
	SecretName string // the secret with its credentials; another one after each registering
}

// RegistrationReader reads registrations from DynamoDB, without their credentials.
type RegistrationReader struct {
	items *dynamodb.Client
	table string
}

// NewRegistrationReader returns a reader of a table with the hash key pk and the index tenant-platform.
func NewRegistrationReader(items *dynamodb.Client, table string) *RegistrationReader {
	return &RegistrationReader{items: items, table: table}
}

// Get returns what is registered under an id, whoever registered it, as it is now (a consistent read). It returns a
// fault NotFound for an id that nobody has, or AWS's error.
func (r *RegistrationReader) Get(ctx context.Context, platform Platform, propertyID string) (StoredRegistration, error) {
	if !isPropertyID(propertyID) {
		return StoredRegistration{}, fault.New(fault.NotFound, "")
	}
	out, err := r.items.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(r.table),
		Key:            dynamo.Item{"pk": dynamo.String(registrationKey(platform, propertyID))},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return StoredRegistration{}, err
	}
	if len(out.Item) == 0 {
		return StoredRegistration{}, fault.New(fault.NotFound, "")
	}
	return storedRegistration(out.Item), nil
}

// isPropertyID reports whether an id can have been registered. What cannot is not asked for: DynamoDB would refuse a key that is too long.
func isPropertyID(id string) bool {
	return id != "" && utf8.ValidString(id) && utf8.RuneCountInString(id) <= maxName
}

func storedRegistration(item dynamo.Item) StoredRegistration {
	return StoredRegistration{
		Registration: Registration{
			Platform:        Platform(dynamo.GetString(item, "platform")),
			PropertyID:      dynamo.GetString(item, "propertyId"),
			Name:            dynamo.GetString(item, "name"),
			ApplicationID:   dynamo.GetString(item, "applicationId"),
			EndpointURL:     dynamo.GetString(item, "endpointUrl"),
			IsActive:        dynamo.GetBool(item, "isActive"),
			IsTransactional: dynamo.GetBool(item, "isTransactional"),
			IsTestChannel:   dynamo.GetBool(item, "isTestChannel"),
		},
		Tenant:     dynamo.GetString(item, "tenant"),
		SecretName: dynamo.GetString(item, "secretName"),
	}
}

// Secrets reads a version of a secret, at most maxAge old; secret.Cache does.
type Secrets interface {
	Get(ctx context.Context, name string, stage secret.Stage, maxAge time.Duration) (secret.Version, error)
}

// CredentialsReader reads the credentials of registrations.
type CredentialsReader struct{ secrets Secrets }

// NewCredentialsReader returns a reader of what RegistrationStore writes. A registration's secret never changes, so
// secrets may keep it for as long as it likes.
func NewCredentialsReader(secrets Secrets) *CredentialsReader {
	return &CredentialsReader{secrets: secrets}
}

// Get returns the credentials in a secret, by StoredRegistration.SecretName. It returns an error that is
// secret.ErrNotFound if the secret is gone, as it is when the property has been registered again or deleted since its
// item was read; a fault Unavailable if too many secrets are looked up at once; or AWS's error.
func (r *CredentialsReader) Get(ctx context.Context, secretName string) (Credentials, error) {
	version, err := r.secrets.Get(ctx, secretName, secret.Current, secret.AnyAge)
	if errors.Is(err, secret.ErrBusy) {
		return Credentials{}, &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: err}
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("the secret %s: %w", secretName, err)
	}
	var document credentialsDocument
	if err := json.Unmarshal([]byte(version.Value.Reveal()), &document); err != nil {
		return Credentials{}, fmt.Errorf("the secret %s is not a registration's credentials", secretName) // the cause could quote it
	}
	return document.credentials(), nil
}

// maxReads is how often Load reads an item whose secret is gone. Each further time means one more registering that took
// place between two reads.
const maxReads = 3

// Load returns a registration and its credentials, of one and the same registering. It returns a fault NotFound for an id
// that nobody has, Unavailable if the credentials cannot be had at present, or AWS's error.
func (r *CredentialsReader) Load(ctx context.Context, registrations *RegistrationReader, platform Platform, propertyID string) (StoredRegistration, Credentials, error) {
	var gone error
	for range maxReads {
		registration, err := registrations.Get(ctx, platform, propertyID)
		if err != nil {
			return StoredRegistration{}, Credentials{}, err
		}
		credentials, err := r.Get(ctx, registration.SecretName)
		if err == nil {
			return registration, credentials, nil
		}
		if !errors.Is(err, secret.ErrNotFound) {
			return StoredRegistration{}, Credentials{}, err
		}
		gone = err
	}
	return StoredRegistration{}, Credentials{}, fault.Wrap(fault.Unavailable, gone)
}
