package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/dynamo"
	"carillon/shared/ott"
	"carillon/shared/ott/otttest"
	"carillon/shared/ott/store"
)

// What a platform said last of a registration's credentials stands with it until it says something else, or the
// registration has others.
func TestCredentialStates(t *testing.T) {
	r := newRegistry(t)
	states := store.NewCredentialStates(r.Items, r.Table)
	registration, credentials := decoded(t, otttest.SeedLINE)
	register := func(version string) ott.StoredRegistration {
		require.NoError(t, r.Put(t.Context(), "tenant-1", version, registration, credentials))
		stored, err := r.Get(t.Context(), ott.LINE, registration.PropertyID)
		require.NoError(t, err)
		assert.Equal(t, ott.CredentialState{Name: ott.CredentialsUnknown}, stored.Credentials, "of new ones")
		return stored
	}
	state := func() ott.CredentialState {
		stored, err := r.Get(t.Context(), ott.LINE, registration.PropertyID)
		require.NoError(t, err)
		listed, _, err := r.List(t.Context(), "tenant-1", ott.LINE, 1, 50)
		require.NoError(t, err)
		require.Len(t, listed, 1)
		assert.Equal(t, stored.Credentials, listed[0].Credentials, "the list shows it as well")
		return stored.Credentials
	}
	set := func(of ott.StoredRegistration, to ott.CredentialState) {
		require.NoError(t, states.Set(t.Context(), of, to))
	}
	start := now()
	accepted := ott.CredentialState{Name: ott.CredentialsAccepted, Since: start}
	refused := ott.CredentialState{
		Name:   ott.CredentialsRefused,
		Since:  start.Add(time.Minute),
		Reason: "LINE answered 401",
	}

	first := register("version-1")
	set(first, accepted)
	assert.Equal(t, accepted, state())
	set(first, ott.CredentialState{Name: ott.CredentialsAccepted, Since: start.Add(time.Hour)})
	assert.Equal(t, accepted, state(), "since then")
	set(first, refused)
	assert.Equal(t, refused, state())
	set(first, ott.CredentialState{Name: ott.CredentialsRefused, Since: start.Add(time.Hour), Reason: "again"})
	assert.Equal(t, refused, state())
	accepted.Since = start.Add(2 * time.Minute)
	set(first, accepted)
	assert.Equal(t, accepted, state(), "without the reason of before")

	second := register("version-2")
	set(first, refused)
	assert.Equal(t, ott.CredentialsUnknown, state().Name, "those of before are nobody's")
	set(second, ott.CredentialState{
		Name: ott.CredentialsRefused, Since: start, Reason: "no\x00 such\n" + strings.Repeat("é", 300),
	})
	assert.Equal(t, "no such "+strings.Repeat("é", 247)+"…", state().Reason)

	require.NoError(t, r.Delete(t.Context(), "tenant-1", ott.LINE, registration.PropertyID))
	set(second, accepted)
	assert.Empty(t, r.All(), "nothing is made of a registration that is gone")
}

// What a former release kept says nothing of the credentials.
func TestCredentialStateOfAFormerRelease(t *testing.T) {
	r, id := registered(t)
	require.NotContains(t, r.All()[0], "credentialsState")
	stored, err := r.Get(t.Context(), ott.LINE, id)
	require.NoError(t, err)
	assert.Equal(t, ott.CredentialState{Name: ott.CredentialsUnknown}, stored.Credentials)
	assert.NotEmpty(t, dynamo.GetString(r.All()[0], "secretName"))
}
