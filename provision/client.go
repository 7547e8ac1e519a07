package provision

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/uuid"

	"carillon/shared/backoff"
	"carillon/shared/clientauth"
	"carillon/shared/clock"
	"carillon/shared/engage"
	"carillon/shared/ott"
	"carillon/shared/product"
	"carillon/shared/stackname"
)

// Scopes returns every scope that a client can hold, of all domains.
func Scopes() []string { return slices.Concat(ott.Scopes(), engage.Scopes(), product.Scopes()) }

// KnownScopes names every scope, for a message or a help text.
func KnownScopes() string {
	return strings.Join(Scopes(), ", ") + ", or " + product.ScopeProduct + ":PA for one country alone"
}

const (
	// secretBytes is the entropy of a generated secret: 256 bits.
	secretBytes = 32
	// maxScopes keeps the description under Secrets Manager's 2,048 characters.
	maxScopes = 64
	// nameTries bounds how long Add waits for a removed client's name, a minute in all.
	nameTries = 18
	// currentStage and previousStage are Secrets Manager's own names for the two live versions.
	currentStage  = "AWSCURRENT"
	previousStage = "AWSPREVIOUS"
)

var (
	// nameBackoff is the wait before Add tries a removed client's name again.
	nameBackoff = backoff.Policy{Min: 100 * time.Millisecond, Max: 5 * time.Second}

	tenantID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

// Client is an API client: who calls, on whose behalf, and what it may do.
type Client struct {
	// ID is the client_id, 5 to 128 of letters, digits and _ . @ -
	ID string `json:"clientId"`
	// Tenant owns what the client writes, 1 to 64 of letters, digits and _ . -; what the ENGAGE guide calls a provider.
	Tenant string `json:"tenant"`
	// Scopes is what it may do, at least one, see KnownScopes.
	Scopes []string `json:"scopes"`
}

// Check says all that is wrong with the client; the error is Faults.
func (c Client) Check() error {
	var faults Faults
	if err := checkID(c.ID); err != nil {
		faults = append(faults, err...)
	}
	if !tenantID.MatchString(c.Tenant) {
		faults = append(
			faults,
			Fault{Path: "tenant", Message: fmt.Sprintf("%q must be 1 to 64 letters, digits, _ . -", c.Tenant)},
		)
	}
	if len(c.Scopes) == 0 || len(c.Scopes) > maxScopes {
		faults = append(
			faults,
			Fault{
				Path:    "scope",
				Message: fmt.Sprintf("must be given once to %d times; known: %s", maxScopes, KnownScopes()),
			},
		)
	}
	for i, scope := range c.Scopes {
		switch {
		case !knownScope(scope):
			faults = append(
				faults,
				Fault{Path: "scope", Message: fmt.Sprintf("%q is unknown; known: %s", scope, KnownScopes())},
			)
		case slices.Contains(c.Scopes[:i], scope):
			faults = append(faults, Fault{Path: "scope", Message: fmt.Sprintf("%q is given twice", scope)})
		}
	}
	return faults.orNil()
}

func checkID(id string) Faults {
	if clientauth.IsClientID(id) {
		return nil
	}
	return Faults{{Path: "client id", Message: fmt.Sprintf("%q must be 5 to 128 letters, digits, _ . @ -", id)}}
}

func knownScope(scope string) bool {
	if slices.Contains(Scopes(), scope) {
		return true
	}
	country, ok := strings.CutPrefix(scope, product.ScopeProduct+":")
	return ok && product.IsCountryCode(country)
}

// ClientInfo is what List tells of a client; it never holds a secret.
type ClientInfo struct {
	Client
	// Created is when the client was added.
	Created time.Time `json:"created"`
	// Rotated is when the current secret replaced the one before, zero if it never did.
	Rotated time.Time `json:"rotated,omitzero"`
}

// Clients provisions the API clients of one stack.
type Clients struct {
	// Clock lets the time pass in which a removed client's name becomes free.
	Clock clock.Clock

	sm    *secretsmanager.Client
	stack string
}

// NewClients provisions the clients of a stack through sm. A client is the secret
// <stack>/client/<client id>, as the functions read it. Its Clock is this machine's.
func NewClients(sm *secretsmanager.Client, stack string) *Clients {
	return &Clients{Clock: clock.System{}, sm: sm, stack: stack}
}

// record is a client's secret as the functions read it.
type record struct {
	Secret string   `json:"secret"`
	Tenant string   `json:"tenant"`
	Scopes []string `json:"scopes"`
}

// summary is what the secret's description holds, so that listing clients needs no right to read secrets.
type summary struct {
	Tenant string   `json:"tenant"`
	Scopes []string `json:"scopes"`
}

// Add makes the client and returns its generated secret: 256 random bits, 43 URL-safe characters, which nothing shows
// again. A client that was removed a moment ago can be added at once; its former secrets stay dead. It returns Faults
// if the client is not valid, ErrExists if there is one with its id, or AWS's error.
func (c *Clients) Add(ctx context.Context, client Client) (string, error) {
	if err := errors.Join(stackname.Check(c.stack), client.Check()); err != nil {
		return "", err
	}
	secret := newSecret()
	in := &secretsmanager.CreateSecretInput{
		Name:               aws.String(stackname.ClientSecret(c.stack, client.ID)),
		ClientRequestToken: aws.String(uuid.NewString()),
		Description:        aws.String(marshal(summary{client.Tenant, client.Scopes})),
		SecretString:       aws.String(marshal(record{secret, client.Tenant, client.Scopes})),
	}
	for try := 1; ; try++ {
		_, err := c.sm.CreateSecret(ctx, in)
		if err == nil {
			return secret, nil
		}
		dying, derr := c.dying(ctx, *in.Name, err)
		switch {
		case derr != nil:
			return "", derr
		case !dying && isA[*types.ResourceExistsException](err):
			return "", fmt.Errorf("client %q: %w", client.ID, ErrExists)
		case !dying:
			return "", err
		case try == nameTries:
			return "", fmt.Errorf(
				"client %q was removed a moment ago and AWS still holds its name, try again in a minute: %w",
				client.ID,
				err,
			)
		}
		// Deleting for good what is only scheduled for deletion frees its name. Restoring it instead would
		// bring the removed secret back to life, if only as the previous version.
		if err := c.delete(ctx, *in.Name); err != nil {
			return "", err
		}
		if err := nameBackoff.Sleep(ctx, c.Clock, try); err != nil {
			return "", err
		}
	}
}

// dying tells whether a refused CreateSecret met a secret that is being deleted. AWS says so with an
// InvalidRequestException, which has other meanings too, so the secret itself is asked.
func (c *Clients) dying(ctx context.Context, name string, refusal error) (bool, error) {
	if !isA[*types.ResourceExistsException](refusal) && !isA[*types.InvalidRequestException](refusal) {
		return false, nil
	}
	out, err := c.sm.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
	switch {
	case isA[*types.ResourceNotFoundException](err):
		return true, nil // gone between the two calls, or a deletion that still holds the name
	case err != nil:
		return false, err
	}
	return out.DeletedDate != nil, nil
}

// List returns the stack's clients by id. It returns AWS's error.
func (c *Clients) List(ctx context.Context) ([]ClientInfo, error) {
	if err := stackname.Check(c.stack); err != nil {
		return nil, err
	}
	prefix := stackname.ClientSecretPrefix(c.stack)
	pages := secretsmanager.NewListSecretsPaginator(c.sm, &secretsmanager.ListSecretsInput{
		MaxResults: aws.Int32(100),
		Filters:    []types.Filter{{Key: types.FilterNameStringTypeName, Values: []string{prefix}}},
	})
	clients := []ClientInfo{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, entry := range page.SecretList {
			// The filter is AWS's to interpret; another stack's clients must never slip in.
			id, ok := strings.CutPrefix(aws.ToString(entry.Name), prefix)
			if !ok || entry.DeletedDate != nil {
				continue
			}
			info, err := c.info(ctx, id, entry)
			if err != nil {
				return nil, err
			}
			clients = append(clients, info)
		}
	}
	slices.SortFunc(clients, func(a, b ClientInfo) int { return cmp.Compare(a.ID, b.ID) })
	return clients, nil
}

func (c *Clients) info(ctx context.Context, id string, entry types.SecretListEntry) (ClientInfo, error) {
	info := ClientInfo{Client: Client{ID: id}, Created: aws.ToTime(entry.CreatedDate)}
	var s summary
	// A secret made by hand has no such description: it is listed all the same, without tenant and scopes.
	if json.Unmarshal([]byte(aws.ToString(entry.Description)), &s) == nil {
		info.Tenant, info.Scopes = s.Tenant, s.Scopes
	}
	var err error
	info.Rotated, err = c.rotated(ctx, *entry.Name, entry.SecretVersionsToStages)
	return info, err
}

// rotated returns when a secret's current version replaced the one before, zero if it never did.
func (c *Clients) rotated(ctx context.Context, name string, stages map[string][]string) (time.Time, error) {
	if len(stages) < 2 {
		return time.Time{}, nil // spares a call for each client that was never rotated
	}
	var current, previous time.Time
	pages := secretsmanager.NewListSecretVersionIdsPaginator(
		c.sm,
		&secretsmanager.ListSecretVersionIdsInput{SecretId: &name},
	)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return time.Time{}, err
		}
		for _, version := range page.Versions {
			switch {
			case slices.Contains(version.VersionStages, currentStage):
				current = aws.ToTime(version.CreatedDate)
			case slices.Contains(version.VersionStages, previousStage):
				previous = aws.ToTime(version.CreatedDate)
			}
		}
	}
	if previous.IsZero() {
		return time.Time{}, nil
	}
	return current, nil
}

// Rotate gives the client a new secret, which it returns, and keeps its tenant and scopes. The secret until now becomes
// the previous version, which the functions accept for the rest of their rotation window; the one before that dies at
// once. It returns ErrNotFound if there is no such client, or AWS's error.
func (c *Clients) Rotate(ctx context.Context, id string) (string, error) {
	if err := errors.Join(stackname.Check(c.stack), checkID(id).orNil()); err != nil {
		return "", err
	}
	name := stackname.ClientSecret(c.stack, id)
	out, err := c.sm.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name})
	if err != nil {
		return "", c.missing(ctx, id, err)
	}
	var r record
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &r); err != nil || r.Tenant == "" {
		// The cause would quote the secret.
		return "", fmt.Errorf("secret %s does not hold a client: remove it and add the client again", name)
	}
	r.Secret = newSecret()
	_, err = c.sm.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId:           &name,
		ClientRequestToken: aws.String(uuid.NewString()),
		SecretString:       aws.String(marshal(r)),
	})
	if err != nil {
		return "", c.missing(ctx, id, err)
	}
	return r.Secret, nil
}

// Rotated returns when the client's current secret replaced the one before, zero if it never did. It returns
// ErrNotFound if there is no such client, or AWS's error.
func (c *Clients) Rotated(ctx context.Context, id string) (time.Time, error) {
	if err := errors.Join(stackname.Check(c.stack), checkID(id).orNil()); err != nil {
		return time.Time{}, err
	}
	name := stackname.ClientSecret(c.stack, id)
	out, err := c.sm.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
	if err != nil {
		return time.Time{}, c.missing(ctx, id, err)
	}
	if out.DeletedDate != nil {
		return time.Time{}, fmt.Errorf("client %q: %w", id, ErrNotFound)
	}
	return c.rotated(ctx, name, out.VersionIdsToStages)
}

// Remove deletes the client and its secrets for good: what comes back under its id is another client. A function that
// has the client cached forgets it within its cache's time. It returns ErrNotFound if there is no such client, or AWS's
// error.
func (c *Clients) Remove(ctx context.Context, id string) error {
	if err := errors.Join(stackname.Check(c.stack), checkID(id).orNil()); err != nil {
		return err
	}
	name := stackname.ClientSecret(c.stack, id)
	// Deleting without recovery succeeds on a name that was never there, so look first.
	out, err := c.sm.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
	if err != nil {
		return c.missing(ctx, id, err)
	}
	if err := c.delete(ctx, name); err != nil {
		return err
	}
	if out.DeletedDate != nil {
		return fmt.Errorf("client %q: %w", id, ErrNotFound)
	}
	return nil
}

// StackExists looks for the secret that every deployed stack makes for itself, so that a client is not added to a name
// that nothing reads. It returns ErrNoStack if there is none, or AWS's error.
func (c *Clients) StackExists(ctx context.Context) error {
	if err := stackname.Check(c.stack); err != nil {
		return err
	}
	own := stackname.SigningKeySecret(c.stack)
	_, err := c.sm.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &own})
	if isA[*types.ResourceNotFoundException](err) {
		return fmt.Errorf("stack %q: %w", c.stack, ErrNoStack)
	}
	return err
}

func (c *Clients) delete(ctx context.Context, name string) error {
	_, err := c.sm.DeleteSecret(
		ctx,
		&secretsmanager.DeleteSecretInput{SecretId: &name, ForceDeleteWithoutRecovery: aws.Bool(true)},
	)
	if isA[*types.ResourceNotFoundException](err) {
		return nil
	}
	return err
}

// missing turns the two ways in which AWS says that a secret is not there, or about to be gone, into ErrNotFound.
func (c *Clients) missing(ctx context.Context, id string, refusal error) error {
	gone := isA[*types.ResourceNotFoundException](refusal)
	if isA[*types.InvalidRequestException](refusal) {
		dying, err := c.dying(ctx, stackname.ClientSecret(c.stack, id), refusal)
		gone = err == nil && dying
	}
	if gone {
		return fmt.Errorf("client %q: %w", id, ErrNotFound)
	}
	return refusal
}

func newSecret() string {
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw) // never fails: crypto/rand crashes the process instead
	return base64.RawURLEncoding.EncodeToString(raw)
}

// marshal writes what cannot fail to be written: structs of strings.
func marshal(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
