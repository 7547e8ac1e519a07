package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/go-json-experiment/json"

	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

// Credentials reads the credentials of registrations.
type Credentials struct {
	registrations *RegistrationReader
	secrets       secret.Reader
}

// NewCredentials returns a reader of what Registrations writes. A registration's secret never changes, so secrets may
// keep it for as long as it likes.
func NewCredentials(registrations *RegistrationReader, secrets secret.Reader) *Credentials {
	return &Credentials{registrations: registrations, secrets: secrets}
}

// OpenCredentials returns a reader that keeps what it reads.
func OpenCredentials(registrations *RegistrationReader, config aws.Config) *Credentials {
	return NewCredentials(registrations, secret.NewUnthrottledCache(secretstore.Open(config)))
}

// Get returns the credentials in a secret, by StoredRegistration.SecretName. It returns an error that is
// secret.ErrNotFound if the secret is gone, as it is when the property has been registered again or deleted since its
// item was read; a fault Unavailable if too many secrets are looked up at once; or Secrets Manager's error.
func (c *Credentials) Get(ctx context.Context, secretName string) (ott.Credentials, error) {
	version, err := c.secrets.Get(ctx, secretName, secret.Current, secret.AnyAge)
	if errors.Is(err, secret.ErrBusy) {
		return ott.Credentials{}, &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: err}
	}
	if err != nil {
		return ott.Credentials{}, fmt.Errorf("the secret %s: %w", secretName, err)
	}
	credentials, err := decodeCredentials(version.Value)
	if err != nil { // it could quote them
		return ott.Credentials{}, fmt.Errorf("the secret %s is not a registration's credentials", secretName)
	}
	return credentials, nil
}

// maxReads is how often Load reads an item whose secret is gone. Each further time means one more registering that took
// place between two reads.
const maxReads = 3

// Load returns a registration and its credentials, of one and the same registering. It returns a fault NotFound for an
// id that nobody has, Unavailable if the credentials cannot be had at present, or AWS's error.
func (c *Credentials) Load(
	ctx context.Context, platform ott.Platform, propertyID string,
) (ott.StoredRegistration, ott.Credentials, error) {
	var gone error
	for range maxReads {
		registration, err := c.registrations.Get(ctx, platform, propertyID)
		if err != nil {
			return ott.StoredRegistration{}, ott.Credentials{}, err
		}
		credentials, err := c.Get(ctx, registration.SecretName)
		if err == nil {
			return registration, credentials, nil
		}
		if !errors.Is(err, secret.ErrNotFound) {
			return ott.StoredRegistration{}, ott.Credentials{}, err
		}
		gone = err
	}
	return ott.StoredRegistration{}, ott.Credentials{}, fault.Wrap(fault.Unavailable, gone)
}

// credentialsDocument is the JSON of a registration's secret.
type credentialsDocument struct {
	ApplicationSecret     string `json:"applicationSecret,omitempty"`
	PageAccessToken       string `json:"pageAccessToken,omitempty"`
	CallbackVerifyToken   string `json:"callbackVerifyToken,omitempty"`
	ChannelSecret         string `json:"channelSecret,omitempty"`
	CustomerConnectSecret string `json:"customerConnectSecret,omitempty"`
}

func encodeCredentials(c ott.Credentials) ([]byte, error) {
	return json.Marshal(credentialsDocument{
		ApplicationSecret:     c.ApplicationSecret.Reveal(),
		PageAccessToken:       c.PageAccessToken.Reveal(),
		CallbackVerifyToken:   c.CallbackVerifyToken.Reveal(),
		ChannelSecret:         c.ChannelSecret.Reveal(),
		CustomerConnectSecret: c.CustomerConnectSecret.Reveal(),
	})
}

func decodeCredentials(text secret.Text) (ott.Credentials, error) {
	var d credentialsDocument
	if err := json.Unmarshal([]byte(text.Reveal()), &d); err != nil {
		return ott.Credentials{}, err
	}
	return ott.Credentials{
		ApplicationSecret:     secret.NewText(d.ApplicationSecret),
		PageAccessToken:       secret.NewText(d.PageAccessToken),
		CallbackVerifyToken:   secret.NewText(d.CallbackVerifyToken),
		ChannelSecret:         secret.NewText(d.ChannelSecret),
		CustomerConnectSecret: secret.NewText(d.CustomerConnectSecret),
	}, nil
}
