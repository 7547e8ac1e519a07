package clientauth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/secret"
)

const (
	prefix = "carillon/client/"
	window = 24 * time.Hour
	step   = 250 * time.Millisecond
)

// vault has the secrets of clients by name and stage, as Secrets Manager has them, and takes its time.
type vault struct {
	versions map[string]secret.Version
	failures map[string]error
	delay    time.Duration
	asked    []string
}

func newVault() *vault {
	return &vault{versions: map[string]secret.Version{}, failures: map[string]error{}}
}

func (v *vault) Get(ctx context.Context, name string, stage secret.Stage) (secret.Version, error) {
	key := name + "@" + string(stage)
	v.asked = append(v.asked, key)
	select {
	case <-time.After(v.delay):
	case <-ctx.Done():
		return secret.Version{}, ctx.Err()
	}
	if err := v.failures[key]; err != nil {
		return secret.Version{}, err
	}
	version, ok := v.versions[key]
	if !ok {
		return secret.Version{}, secret.ErrNotFound
	}
	return version, nil
}

// put writes a version as PutSecretValue does: what was current is the previous one.
func (v *vault) put(id, text string) {
	current := prefix + id + "@AWSCURRENT"
	if kept, ok := v.versions[current]; ok {
		v.versions[prefix+id+"@AWSPREVIOUS"] = kept
	}
	v.versions[current] = secret.Version{
		ID:      fmt.Sprint(len(v.versions)),
		Value:   secret.NewText(text),
		Created: time.Now(),
	}
}

func document(password string, scopes ...string) string {
	return fmt.Sprintf(
		`{"secret":%q,"tenant":"tenant-1","scopes":["%s"],"note":"unknown members are ignored"}`,
		password,
		strings.Join(scopes, `","`),
	)
}

func newAuthenticator(v *vault) *clientauth.Authenticator {
	return &clientauth.Authenticator{Secrets: secret.NewCache(v), Prefix: prefix, RotationWindow: window}
}

// pass lets a bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

// ask authenticates and says how long that took.
func ask(t *testing.T, a *clientauth.Authenticator, id, password string) (clientauth.Client, time.Duration, error) {
	t.Helper()
	start := time.Now()
	client, err := a.Authenticate(t.Context(), id, secret.NewText(password))
	return client, time.Since(start), err
}

func assertRefused(t *testing.T, a *clientauth.Authenticator, id, password string) {
	t.Helper()
	client, took, err := ask(t, a, id, password)
	require.True(t, fault.Is(err, fault.Unauthenticated), "%v", err)
	assert.Equal(t, clientauth.Client{}, client)
	assert.Equal(t, step, took)
	var failure *fault.Error
	require.ErrorAs(t, err, &failure)
	assert.Empty(t, failure.Message, "unknown and wrong say the same")
}

func assertGranted(t *testing.T, a *clientauth.Authenticator, id, password string) clientauth.Client {
	t.Helper()
	client, took, err := ask(t, a, id, password)
	require.NoError(t, err)
	assert.Less(t, took, step, "who is right does not wait")
	assert.Equal(t, id, client.ID)
	assert.Equal(t, "tenant-1", client.Tenant)
	return client
}

func TestAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("password-1", "ott_send", "dxp_product:PA"))
		a := newAuthenticator(v)
		client := assertGranted(t, a, "client-1", "password-1")
		assert.Equal(t, []string{"ott_send", "dxp_product:PA"}, client.Scopes)
		assert.True(t, client.Has("ott_send"))
		assert.True(t, client.Has("dxp_product:PA"))
		assert.False(t, client.Has("dxp_product"))
		assert.False(t, client.Has(""))
		assertGranted(t, a, "client-1", "password-1")
		assert.Len(t, v.asked, 1, "a warm request asks nobody")
	})
}

func TestAuthenticateRefusals(t *testing.T) {
	ids := map[string]struct{ id, password string }{
		"wrong secret":               {"client-1", "password-2"},
		"half of the secret":         {"client-1", "password"},
		"secret and more":            {"client-1", "password-1 "},
		"secret in another case":     {"client-1", "PASSWORD-1"},
		"no secret":                  {"client-1", ""},
		"unknown id":                 {"client-2", "password-1"},
		"id in another case":         {"Client-1", "password-1"},
		"no id":                      {"", "password-1"},
		"id of 4 characters":         {"abcd", "password-1"},
		"id of 129 characters":       {strings.Repeat("a", 129), "password-1"},
		"id that leaves the prefix":  {"../client-1", "password-1"},
		"id with a slash":            {"ott/messenger", "password-1"},
		"id with a space":            {"client 1", "password-1"},
		"id with a line break":       {"client-1\n", "password-1"},
		"id with NUL":                {"client-1\x00", "password-1"},
		"id that is no UTF-8":        {"client-\xff", "password-1"},
		"id with a letter beyond Z":  {"clïent-1", "password-1"},
		"id that is an ARN":          {"arn:aws:secretsmanager:us-east-1:123456789012:secret:x", "password-1"},
		"secret that is the JSON":    {"client-1", document("password-1", "ott_send")},
		"very long secret":           {"client-1", strings.Repeat("x", 1<<20)},
		"kept JSON is broken":        {"broken", "password-1"},
		"kept JSON is no object":     {"listed", "password-1"},
		"kept JSON has no secret":    {"secretless", "password-1"},
		"kept JSON has no tenant":    {"tenantless", "password-1"},
		"kept secret is empty":       {"empty-secret", "password-1"},
		"kept secret is of no type":  {"number-secret", "1"},
		"kept nothing":               {"kept-nothing", "password-1"},
		"kept scopes are no strings": {"number-scopes", "password-1"},
	}
	for name, test := range ids {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVault()
				for id, text := range map[string]string{
					"client-1": document("password-1", "ott_send"), "broken": `{"secret":"password-1"`, "listed": `["password-1"]`,
					"secretless": `{"tenant":"tenant-1"}`, "tenantless": `{"secret":"password-1"}`, "empty-secret": `{"secret":"","tenant":"tenant-1"}`,
					"number-secret": `{"secret":1,"tenant":"tenant-1"}`, "kept-nothing": ``, "number-scopes": `{"secret":"password-1","tenant":"tenant-1","scopes":[1]}`,
				} {
					v.put(id, text)
				}
				a := newAuthenticator(v)
				assertRefused(t, a, test.id, test.password)
				assertRefused(t, a, test.id, test.password) // from the cache as from Secrets Manager
			})
		})
	}
}

func TestAuthenticateIDsThatAreFine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		a := newAuthenticator(v)
		for _, id := range []string{"abcde", strings.Repeat("a", 128), "Ab_9.@-", "partner@example.com", ".....", "-----"} {
			v.put(id, document("password-1"))
			assertGranted(t, a, id, "password-1")
		}
	})
}

// What does not look like an id costs no look-up.
func TestAuthenticateMalformedIDAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		a := newAuthenticator(v)
		assertRefused(t, a, "../x", "password-1")
		assertRefused(t, a, "client-1", "")
		assert.Empty(t, v.asked)
	})
}

// However long the look-ups take, a refusal comes at a whole multiple of a step: an unknown id takes one look-up, a
// wrong secret up to three.
func TestAuthenticateRefusalsTakeTheSameTime(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			v := newVault()
			v.put("client-1", document("password-0"))
			v.put("client-1", document("password-1"))
			v.delay = delay
			a := newAuthenticator(v)
			for range 3 {
				assertRefused(t, a, "client-1", "wrong")
				assertRefused(t, a, "client-2", "wrong")
				pass(11 * time.Second)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.delay = 300 * time.Millisecond
		_, took, err := ask(t, newAuthenticator(v), "client-2", "wrong")
		require.True(t, fault.Is(err, fault.Unauthenticated))
		assert.Equal(t, 2*step, took)
	})
}

func TestAuthenticateRefusalOfACallerThatGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := newAuthenticator(newVault()).Authenticate(ctx, "client-2", secret.NewText("wrong"))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestAuthenticateGuessesCostFewLookUps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("password-1"))
		a := newAuthenticator(v)
		for i := range 40 { // ten seconds' worth
			assertRefused(t, a, "client-1", fmt.Sprint("guess", i))
		}
		assert.LessOrEqual(
			t,
			len(v.asked),
			22,
			"each second the current secret, and the one before it, which there is not",
		)
		assertGranted(t, a, "client-1", "password-1")
	})
}

func TestAuthenticateWhenTheLookUpFails(t *testing.T) {
	down := errors.New("Secrets Manager is down")
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("password-1"))
		a := newAuthenticator(v)
		v.failures[prefix+"client-1@AWSCURRENT"] = down
		_, took, err := ask(t, a, "client-1", "password-1")
		require.ErrorIs(t, err, down)
		assert.False(t, fault.Is(err, fault.Unauthenticated), "not to know is no refusal")
		assert.Zero(t, took)

		delete(v.failures, prefix+"client-1@AWSCURRENT")
		v.put("client-1", document("password-2"))
		v.failures[prefix+"client-1@AWSPREVIOUS"] = down
		_, _, err = ask(t, a, "client-1", "password-1")
		require.ErrorIs(t, err, down, "the previous secret may be the right one")
		assertGranted(t, a, "client-1", "password-2")
	})
	synctest.Test(t, func(t *testing.T) {
		a := newAuthenticator(newVault())
		for i := range 101 {
			_, _ = a.Secrets.Get(t.Context(), fmt.Sprint(prefix, "random", i), secret.Current, secret.AnyAge)
		}
		_, _, err := ask(t, a, "client-1", "password-1")
		var failure *fault.Error
		require.ErrorAs(t, err, &failure)
		assert.Equal(t, fault.Unavailable, failure.Code)
		assert.Equal(t, time.Second, failure.RetryAfter)
		assert.ErrorIs(t, err, secret.ErrBusy)
	})
}
