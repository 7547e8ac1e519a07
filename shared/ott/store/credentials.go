package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/go-json-experiment/json"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

// errNotCredentials says that a secret holds something else.
var errNotCredentials = errors.New("is not a registration's credentials")

// Credentials reads the credentials of registrations.
type Credentials struct {
	registrations *RegistrationReader
	secrets       secret.Reader
	clock         clock.Clock
}

// NewCredentials returns a reader of what Registrations writes. A registration's secret never changes, so secrets may
// keep it for as long as it likes.
func NewCredentials(registrations *RegistrationReader, secrets secret.Reader) *Credentials {
	return &Credentials{registrations: registrations, secrets: secrets, clock: clock.System{}}
}

// WithClock returns a reader that is the same but for the clock by which it waits.
func (c *Credentials) WithClock(clock clock.Clock) *Credentials {
	return &Credentials{registrations: c.registrations, secrets: c.secrets, clock: clock}
}

// OpenCredentials returns a reader that keeps what it reads.
func OpenCredentials(registrations *RegistrationReader, config aws.Config) *Credentials {
	return NewCredentials(registrations, secret.NewUnthrottledCache(secretstore.Open(config)))
}

// Get returns the credentials in a secret, by StoredRegistration.SecretName. It returns an error that is
// secret.ErrNotFound if the secret is gone, as it is when the property has been registered again or deleted since its
// item was read; a fault Unavailable if too many secrets are looked up at once; or Secrets Manager's error.
func (c *Credentials) Get(ctx context.Context, secretName string) (ott.Credentials, error) {
	return c.get(ctx, secretName, secret.AnyAge)
}

func (c *Credentials) get(ctx context.Context, secretName string, maxAge time.Duration) (ott.Credentials, error) {
	version, err := c.secrets.Get(ctx, secretName, secret.Current, maxAge)
	if errors.Is(err, secret.ErrBusy) {
		return ott.Credentials{}, &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: err}
	}
	if err != nil {
		return ott.Credentials{}, fmt.Errorf("the secret %s: %w", secretName, err)
	}
	credentials, err := decodeCredentials(version.Value)
	if err != nil { // it could quote them
		return ott.Credentials{}, fmt.Errorf("the secret %s %w", secretName, errNotCredentials)
	}
	return credentials, nil
}

// Secrets Manager is eventually consistent: a secret that was just made, and that an item names already, may not be
// there for a moment. Load asks for it so often, with waits that come to three and a half seconds at most. A secret is
// gone as well while others register the property again: then the item names another one at the next reading.
const maxReads = 8

var missingSecrets = backoff.Policy{Min: 50 * time.Millisecond, Max: time.Second}

// Load returns a registration and its credentials, of one and the same registering. It returns a fault NotFound for an
// id that nobody has, Unavailable if the credentials cannot be had at present, or AWS's error.
//
// A process that keeps secrets of before an override does not use them: the item is read each time, consistently, and
// names another secret after each registering.
func (c *Credentials) Load(
	ctx context.Context, platform ott.Platform, propertyID string,
) (ott.StoredRegistration, ott.Credentials, error) {
	missing := ""
	for try := 1; ; try++ {
		registration, err := c.registrations.Get(ctx, platform, propertyID)
		if err != nil {
			return ott.StoredRegistration{}, ott.Credentials{}, err
		}
		maxAge := secret.AnyAge
		if registration.SecretName == missing {
			maxAge = 0 // that it is not there is kept for a while, and not believed: the item says that there is one
		}
		credentials, err := c.get(ctx, registration.SecretName, maxAge)
		if err == nil {
			return registration, credentials, nil
		}
		if !errors.Is(err, secret.ErrNotFound) {
			return ott.StoredRegistration{}, ott.Credentials{}, err
		}
		if try == maxReads || missingSecrets.Sleep(ctx, c.clock, try) != nil {
			return ott.StoredRegistration{}, ott.Credentials{}, fault.Wrap(fault.Unavailable, err)
		}
		missing = registration.SecretName
	}
}

// credentialsDocument is the JSON of a registration's secret.
type credentialsDocument struct {
	ApplicationSecret     string           `json:"applicationSecret,omitempty"`
	PageAccessToken       string           `json:"pageAccessToken,omitempty"`
	CallbackVerifyToken   string           `json:"callbackVerifyToken,omitempty"`
	ChannelSecret         string           `json:"channelSecret,omitempty"`
	CustomerConnectSecret string           `json:"customerConnectSecret,omitempty"`
	Former                []formerDocument `json:"former,omitempty"`
}

// formerDocument is one of ott.Credentials.Former.
type formerDocument struct {
	Secret string    `json:"secret"`
	Until  time.Time `json:"until"`
}

const (
	maxFormer = 10       // secrets of a document's former; the ones that end first are left out
	maxSecret = 64 << 10 // what Secrets Manager takes, in bytes
)

// encodeCredentials returns a secret's JSON, with as many of the former secrets as it holds.
func encodeCredentials(c ott.Credentials) ([]byte, error) {
	document := credentialsDocument{
		ApplicationSecret:     c.ApplicationSecret.Reveal(),
		PageAccessToken:       c.PageAccessToken.Reveal(),
		CallbackVerifyToken:   c.CallbackVerifyToken.Reveal(),
		ChannelSecret:         c.ChannelSecret.Reveal(),
		CustomerConnectSecret: c.CustomerConnectSecret.Reveal(),
	}
	for _, former := range c.Former[:min(len(c.Former), maxFormer)] {
		document.Former = append(document.Former, formerDocument{former.Secret.Reveal(), former.Until.UTC()})
	}
	for {
		text, err := json.Marshal(document)
		if err != nil || len(text) <= maxSecret || len(document.Former) == 0 {
			return text, err
		}
		document.Former = document.Former[:len(document.Former)-1]
	}
}

func decodeCredentials(text secret.Text) (ott.Credentials, error) {
	var d credentialsDocument
	if err := json.Unmarshal([]byte(text.Reveal()), &d); err != nil {
		return ott.Credentials{}, err
	}
	c := ott.Credentials{
		ApplicationSecret:     secret.NewText(d.ApplicationSecret),
		PageAccessToken:       secret.NewText(d.PageAccessToken),
		CallbackVerifyToken:   secret.NewText(d.CallbackVerifyToken),
		ChannelSecret:         secret.NewText(d.ChannelSecret),
		CustomerConnectSecret: secret.NewText(d.CustomerConnectSecret),
	}
	for _, former := range d.Former {
		c.Former = append(c.Former, ott.FormerSecret{Secret: secret.NewText(former.Secret), Until: former.Until})
	}
	return c, nil
}
