package store_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/otttest"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

func TestGetIsWhatWasPut(t *testing.T) {
	r := newRegistry(t)
	for version, seed := range map[string]string{"version-1": otttest.SeedMessenger, "version-2": otttest.SeedLINE} {
		registration, credentials := decoded(t, seed)
		require.NoError(t, r.Put(t.Context(), "tenant-1", version, registration, credentials))
		stored, err := r.Get(t.Context(), registration.Platform, registration.PropertyID)
		require.NoError(t, err)
		assert.Equal(t,
			ott.StoredRegistration{
				Registration: registration, Tenant: "tenant-1",
				SecretName:  r.Prefix + string(registration.Platform) + "/" + version,
				Credentials: ott.CredentialState{Name: ott.CredentialsUnknown},
			},
			stored)
	}
	for _, id := range []string{"", "1", strings.Repeat("1", 4000), "\xff"} {
		_, err := r.Get(t.Context(), ott.LINE, id)
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
	}
	reader := store.NewRegistrationReader(r.Items, "no-such-table")
	_, err := reader.Get(t.Context(), ott.LINE, "1")
	require.Error(t, err)
	assert.False(t, fault.Is(err, fault.NotFound))
}

// reader reads credentials as a function does, by way of an endpoint.
func (r *registry) reader(endpoint string) *store.Credentials {
	return store.NewCredentials(r.RegistrationReader,
		secret.NewCache(secretstore.New(emulatortest.SecretsManagerAt(endpoint)))).WithClock(r.Clock)
}

func assertCredentials(t *testing.T, want, got ott.Credentials) {
	t.Helper()
	for name, pair := range map[string][2]secret.Text{
		"applicationSecret":     {want.ApplicationSecret, got.ApplicationSecret},
		"pageAccessToken":       {want.PageAccessToken, got.PageAccessToken},
		"callbackVerifyToken":   {want.CallbackVerifyToken, got.CallbackVerifyToken},
		"channelSecret":         {want.ChannelSecret, got.ChannelSecret},
		"customerConnectSecret": {want.CustomerConnectSecret, got.CustomerConnectSecret},
	} {
		assert.Equal(t, pair[0].Reveal(), pair[1].Reveal(), name)
	}
}

func TestLoadIsWhatWasPut(t *testing.T) {
	r := newRegistry(t)
	reader := r.reader(emulatortest.AWSEndpoint())
	for version, seed := range map[string]string{"version-1": otttest.SeedMessenger, "version-2": otttest.SeedLINE} {
		registration, credentials := decoded(t, seed)
		require.NoError(t, r.Put(t.Context(), "tenant-1", version, registration, credentials))
		stored, kept, err := reader.Load(t.Context(), registration.Platform, registration.PropertyID)
		require.NoError(t, err)
		assert.Equal(t, registration, stored.Registration)
		assertCredentials(t, credentials, kept)
	}
	_, _, err := reader.Load(t.Context(), ott.LINE, "1")
	assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

// A registration's credentials are read once, and those of the next registering as soon as it has taken place.
func TestLoadFollowsAnOverride(t *testing.T) {
	r, id := registered(t)
	reader := r.reader(emulatortest.AWSEndpoint())
	load := func() string {
		registration, credentials, err := reader.Load(t.Context(), ott.LINE, id)
		require.NoError(t, err)
		return registration.Name + " " + credentials.ChannelSecret.Reveal()
	}
	assert.Equal(t, "SFMC Engineers 03d537gg656gvkbe9b430f002e9c4517", load())
	registration, _ := decoded(t, otttest.SeedLINE)
	registration.Name = "Renamed"
	require.NoError(t,
		r.Put(t.Context(), "tenant-1", "version-2", registration,
			ott.Credentials{ChannelSecret: secret.NewText("new")}))
	assert.Equal(t, "Renamed new", load())
	require.NoError(t, r.Delete(t.Context(), "tenant-1", ott.LINE, id))
	_, _, err := reader.Load(t.Context(), ott.LINE, id)
	assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

// Between the item and its secret others register the property again, or delete it.
func TestLoadOvertaken(t *testing.T) {
	registration, _ := decoded(t, otttest.SeedLINE)
	override := func(t *testing.T, r *registry, version string) {
		one := registration
		one.Name = version
		assert.NoError(t,
			r.Put(t.Context(), "tenant-1", version, one, ott.Credentials{ChannelSecret: secret.NewText("secret of " +
				version)}))
	}
	tests := map[string]struct {
		meanwhile func(t *testing.T, r *registry, call int)
		name      string
		code      fault.Code
	}{
		"by an override": {func(t *testing.T, r *registry, call int) {
			if call == 1 {
				override(t, r, "version-2")
			}
		}, "version-2", ""},
		"by two overrides": {func(t *testing.T, r *registry, call int) {
			if call <= 2 {
				override(t, r, "version-"+strings.Repeat("x", call))
			}
		}, "version-xx", ""},
		"by override after override": {func(t *testing.T, r *registry, call int) {
			override(t, r, "version-"+strings.Repeat("x", call))
		}, "", fault.Unavailable},
		"by a deletion": {func(t *testing.T, r *registry, _ int) {
			assert.NoError(t, r.Delete(t.Context(), "tenant-1", ott.LINE, registration.PropertyID))
		}, "", fault.NotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, id := registered(t)
			call := 0 // Load reads one secret at a time
			between := func(http.ResponseWriter, emulatortest.Call) bool {
				call++
				test.meanwhile(t, r, call)
				return false
			}
			reader := r.reader(emulatortest.Between(t, emulatortest.AWSEndpoint(), between))
			stored, credentials, err := reader.Load(t.Context(), ott.LINE, id)
			if test.code != "" {
				assert.True(t, fault.Is(err, test.code), "%v", err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.name, stored.Name)
			assert.Equal(t, "secret of "+test.name, credentials.ChannelSecret.Reveal(), "of one registering")
		})
	}
}

// notThereYet is a Secrets Manager that knows no secret the first times that it is asked for one, as it may for a moment
// after a secret was made. It returns how often it was asked.
func notThereYet(t *testing.T, times int32) (endpoint string, asked func() int32) {
	t.Helper()
	var calls atomic.Int32
	endpoint = emulatortest.Between(t, emulatortest.AWSEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "GetSecretValue" || calls.Add(1) > times {
				return false
			}
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"ResourceNotFoundException","Message":"can't find the specified secret"}`))
			return true
		})
	return endpoint, calls.Load
}

// docs/contract.md §1: a registration that was just made can be used at once, though Secrets Manager is eventually
// consistent, and that there is no such secret is kept for a while.
func TestLoadWaitsForASecretThatTheItemNames(t *testing.T) {
	for times := range int32(8) {
		r, id := registered(t)
		endpoint, asked := notThereYet(t, times)
		_, credentials, err := r.reader(endpoint).Load(t.Context(), ott.LINE, id)
		require.NoError(t, err)
		assert.Equal(t, "03d537gg656gvkbe9b430f002e9c4517", credentials.ChannelSecret.Reveal())
		assert.Equal(t, times+1, asked())
		waited, before := time.Duration(0), time.Duration(0)
		for i, slept := range r.Clock.Slept() {
			waited += slept
			if i < 5 { // with a second at most they no longer double
				assert.Greater(t, slept, before/2, "growing, but for jitter")
			}
			before = slept
		}
		assert.LessOrEqual(t, waited, 4*time.Second)
	}

	r, id := registered(t)
	endpoint, asked := notThereYet(t, 1000)
	_, _, err := r.reader(endpoint).Load(t.Context(), ott.LINE, id)
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
	assert.EqualValues(t, 8, asked(), "not for ever")
}

// What another request learnt of a secret, that it is not there, is not believed either.
func TestLoadDoesNotBelieveThatASecretIsNotThere(t *testing.T) {
	r, id := registered(t)
	endpoint, asked := notThereYet(t, 1)
	reader := r.reader(endpoint)
	_, err := reader.Get(t.Context(), dynamo.GetString(r.All()[0], "secretName"))
	require.ErrorIs(t, err, secret.ErrNotFound)
	_, _, err = reader.Load(t.Context(), ott.LINE, id)
	require.NoError(t, err)
	assert.EqualValues(t, 2, asked())
}

func TestLoadOfACallerThatGoesAway(t *testing.T) {
	r, id := registered(t)
	ctx, cancel := context.WithCancel(t.Context())
	endpoint := emulatortest.Between(t, emulatortest.AWSEndpoint(),
		func(w http.ResponseWriter, _ emulatortest.Call) bool {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"ResourceNotFoundException"}`))
			return true
		})
	r.Clock.BeforeSleep(func(time.Time) { cancel() })
	_, _, err := r.reader(endpoint).Load(ctx, ott.LINE, id)
	require.Error(t, err)
	assert.Len(t, r.Clock.Slept(), 1)
}

// secretsFunc is a secret.Reader that a test makes up.
type secretsFunc func() (secret.Version, error)

func (f secretsFunc) Get(context.Context, string, secret.Stage, time.Duration) (secret.Version, error) {
	return f()
}

func TestCredentialsThatCannotBeRead(t *testing.T) {
	busy := store.NewCredentials(nil,
		secretsFunc(func() (secret.Version, error) { return secret.Version{}, secret.ErrBusy }))
	_, err := busy.Get(t.Context(), "name")
	failure, ok := errors.AsType[*fault.Error](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, fault.Unavailable, failure.Code)
	assert.Equal(t, time.Second, failure.RetryAfter)

	broken := store.NewCredentials(nil, secretsFunc(func() (secret.Version, error) {
		return secret.Version{Value: secret.NewText(`{"channelSecret":hunter2`)}, nil
	}))
	_, err = broken.Get(t.Context(), "name")
	require.ErrorContains(t, err, "the secret name is not a registration's credentials")
	assert.NotContains(t, err.Error(), "hunter2")
}

// A secret that was deleted by hand does not make a registration answer NotFound: it is there.
func TestLoadOfARegistrationWhoseSecretIsGone(t *testing.T) {
	r, id := registered(t)
	_, err := r.Secrets.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
		SecretId: aws.String(dynamo.GetString(r.All()[0], "secretName")),
	})
	require.NoError(t, err)
	_, _, err = r.reader(emulatortest.AWSEndpoint()).Load(t.Context(), ott.LINE, id)
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
}
