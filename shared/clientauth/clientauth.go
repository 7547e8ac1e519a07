// Package clientauth authenticates partners' API clients by id and secret. A client is the secret
// <stack>/client/<client_id> in Secrets Manager, with the JSON {"secret","tenant","scopes"}; Secrets Manager's rotation
// is the client's rotation.
package clientauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/go-json-experiment/json"

	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

// Client is who presented valid credentials.
type Client struct {
	ID     string
	Tenant string
	Scopes []string // of those that the domains have
}

// Has reports whether the client holds a scope.
func (c Client) Has(scope string) bool { return slices.Contains(c.Scopes, scope) }

// Authenticator checks client ids and secrets.
type Authenticator struct {
	// Secrets is where clients are kept.
	Secrets secret.Reader
	// Prefix is what a client's secret is called before its id, such as carillon/client/.
	Prefix string
	// RotationWindow is how long the previous secret stays valid after a rotation.
	RotationWindow time.Duration
}

// Open returns an Authenticator of the clients under CLIENT_SECRET_PREFIX, with the window that CLIENT_ROTATION_WINDOW
// says.
func Open(env *environment.Variables, config aws.Config) *Authenticator {
	return &Authenticator{
		Secrets:        secret.NewCache(secretstore.Open(config)),
		Prefix:         env.String("CLIENT_SECRET_PREFIX"),
		RotationWindow: env.Duration("CLIENT_ROTATION_WINDOW"),
	}
}

const (
	// refusalStep makes an unknown id and a wrong secret alike in time: a refusal is given at a whole multiple of it
	// after the question. It is longer than a look-up in Secrets Manager takes.
	refusalStep = 250 * time.Millisecond
	// recheckAge is how old a kept secret may be when another one is presented: a client that was rotated
	// a moment ago gets in, and guesses cost two look-ups per client in that time.
	recheckAge = time.Second
)

// IsClientID reports whether an id can be a client's: 5 to 128 characters (seed 003 has the minimum) that a secret's
// name can hold.
func IsClientID(id string) bool {
	return len(id) >= 5 && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.@-", r)
	})
}

// Authenticate returns the client that id and presented belong to. An unknown id and a wrong secret are the same fault
// Unauthenticated, after the same time. It returns a fault Unavailable if too many unknown ids were presented of late;
// or Secrets' error, or the context's, if the client could not be looked up.
func (a *Authenticator) Authenticate(ctx context.Context, id string, presented secret.Text) (Client, error) {
	start := time.Now()
	client, err := a.check(ctx, id, presented)
	if fault.Is(err, fault.Unauthenticated) {
		if waitErr := waitUntilMultiple(ctx, start, refusalStep); waitErr != nil {
			return Client{}, waitErr
		}
	}
	return client, err
}

func (a *Authenticator) check(ctx context.Context, id string, presented secret.Text) (Client, error) {
	refused := fault.New(fault.Unauthenticated, "")
	if !IsClientID(id) || presented.IsZero() {
		return Client{}, refused
	}
	// First as the client is kept, then as it is now: it may have been rotated a moment ago.
	for _, maxAge := range []time.Duration{secret.AnyAge, recheckAge} {
		client, ok, err := a.checkVersions(ctx, id, presented, maxAge)
		if err != nil {
			return Client{}, lookUpFault(err)
		}
		if ok {
			return client, nil
		}
	}
	return Client{}, refused
}

// checkVersions compares with the current secret and, while a rotation is young, with the one before it.
// What the client may do is in either case what its current version says.
func (a *Authenticator) checkVersions(
	ctx context.Context,
	id string,
	presented secret.Text,
	maxAge time.Duration,
) (Client, bool, error) {
	current, err := a.Secrets.Get(ctx, a.Prefix+id, secret.Current, maxAge)
	if err != nil {
		return Client{}, false, err
	}
	client, kept, ok := parse(id, current)
	if !ok || same(kept, presented) {
		return client, ok, nil
	}
	if time.Since(current.Created) > a.RotationWindow {
		return Client{}, false, nil
	}
	previous, err := a.Secrets.Get(ctx, a.Prefix+id, secret.Previous, maxAge)
	if errors.Is(err, secret.ErrNotFound) {
		return Client{}, false, nil
	}
	if err != nil {
		return Client{}, false, err
	}
	_, kept, ok = parse(id, previous)
	return client, ok && same(kept, presented), nil
}

func lookUpFault(err error) error {
	switch {
	case errors.Is(err, secret.ErrNotFound):
		return fault.Wrap(fault.Unauthenticated, err)
	case errors.Is(err, secret.ErrBusy):
		return &fault.Error{Code: fault.Unavailable, RetryAfter: time.Second, Cause: err}
	default:
		return err
	}
}

type document struct {
	Secret string   `json:"secret"`
	Tenant string   `json:"tenant"`
	Scopes []string `json:"scopes"`
}

// parse reads a client's secret. ok is false if it is not one.
func parse(id string, version secret.Version) (client Client, kept string, ok bool) {
	var d document
	if err := json.Unmarshal([]byte(version.Value.Reveal()), &d); err != nil || d.Secret == "" || d.Tenant == "" {
		return Client{}, "", false
	}
	return Client{ID: id, Tenant: d.Tenant, Scopes: d.Scopes}, d.Secret, true
}

// same compares digests, so that neither the secret's text nor its length shows in the time taken.
func same(kept string, presented secret.Text) bool {
	keptSum, presentedSum := sha256.Sum256([]byte(kept)), sha256.Sum256([]byte(presented.Reveal()))
	return subtle.ConstantTimeCompare(keptSum[:], presentedSum[:]) == 1
}

func waitUntilMultiple(ctx context.Context, start time.Time, step time.Duration) error {
	spent := time.Since(start)
	select {
	case <-time.After(step - spent%step):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// GrantScopes returns what a client gets of the scopes an API knows: all it holds, or those of them that requested
// (separated by spaces) names. ok is false if it holds none of them, or not all that is requested.
func GrantScopes(client Client, known []string, requested string) (granted []string, ok bool) {
	for _, scope := range known {
		if client.Has(scope) {
			granted = append(granted, scope)
		}
	}
	wanted := strings.Fields(requested)
	for _, scope := range wanted {
		if !slices.Contains(granted, scope) {
			return nil, false
		}
	}
	if len(wanted) > 0 {
		granted = slices.DeleteFunc(granted, func(scope string) bool { return !slices.Contains(wanted, scope) })
	}
	return granted, len(granted) > 0
}
