package secretstore_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/fault"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

const value = "hunter2"

func TestStoreReadsWhatTheTemplateDeclares(t *testing.T) {
	stack := emulatortest.Deploy(t)
	store := secretstore.New(emulatortest.SecretsManager())
	key, err := store.Get(t.Context(), stackname.SigningKeySecret(stack), secret.Current)
	require.NoError(t, err)
	assert.Len(t, key.Value.Reveal(), 64)
	assert.NotEmpty(t, key.ID)
	assert.WithinDuration(t, time.Now(), key.Created, 5*time.Minute)
	_, err = store.Get(t.Context(), stackname.SigningKeySecret(stack), secret.Previous)
	assert.ErrorIs(t, err, secret.ErrNotFound, "a secret that was never rotated has no previous version")
}

func TestStoreReadsBothVersionsOfARotatedSecret(t *testing.T) {
	client := emulatortest.SecretsManager()
	name := emulatortest.Deploy(t) + "/client/rotated"
	made, err := client.CreateSecret(
		t.Context(),
		&secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String("first")},
	)
	require.NoError(t, err)
	versions := []string{*made.VersionId}
	for _, value := range []string{"second", "third"} {
		put, err := client.PutSecretValue(
			t.Context(),
			&secretsmanager.PutSecretValueInput{SecretId: &name, SecretString: &value},
		)
		require.NoError(t, err)
		versions = append(versions, *put.VersionId)
	}
	store := secretstore.New(client)
	for _, id := range []string{name, *made.ARN} {
		current, err := store.Get(t.Context(), id, secret.Current)
		require.NoError(t, err)
		assert.Equal(t, "third", current.Value.Reveal())
		assert.Equal(t, versions[2], current.ID)
		previous, err := store.Get(t.Context(), id, secret.Previous)
		require.NoError(t, err)
		assert.Equal(t, "second", previous.Value.Reveal())
		assert.Equal(t, versions[1], previous.ID)
	}
}

func TestStoreOfSecretsThatAreNotThere(t *testing.T) {
	client := emulatortest.SecretsManager()
	name := emulatortest.Deploy(t) + "/client/deleted"
	_, err := client.CreateSecret(
		t.Context(),
		&secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(value)},
	)
	require.NoError(t, err)
	_, err = client.DeleteSecret(
		t.Context(),
		&secretsmanager.DeleteSecretInput{SecretId: &name, RecoveryWindowInDays: aws.Int64(7)},
	)
	require.NoError(t, err)
	for _, missing := range []string{name, name + "-unknown", "a name with spaces"} {
		_, err = secretstore.New(client).Get(t.Context(), missing, secret.Current)
		require.ErrorIs(t, err, secret.ErrNotFound, missing)
		assert.NotContains(t, err.Error(), value)
	}
}

// What moto does not answer as AWS does, or not at all.
func TestStoreOfAWSErrors(t *testing.T) {
	tests := map[string]struct {
		status      int
		answer      string
		missing     bool
		unavailable bool
	}{
		"no such secret": {
			400,
			`{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}`,
			true,
			false,
		},
		"no such version": {
			400,
			`{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret value for staging label: AWSPREVIOUS"}`,
			true,
			false,
		},
		"scheduled for deleting": {
			400,
			`{"__type":"InvalidRequestException","Message":"You can't perform this operation on the secret because it was marked for deletion."}`,
			true,
			false,
		},
		"invalid name": {
			400,
			`{"__type":"InvalidParameterException","Message":"Invalid name."}`,
			true,
			false,
		},
		"access denied":      {400, `{"__type":"AccessDeniedException","Message":"not authorized"}`, false, false},
		"decryption failure": {400, `{"__type":"DecryptionFailure","Message":"no key"}`, false, false},
		"internal error":     {500, `{"__type":"InternalServiceError","Message":"x"}`, false, true},
		"throttled":          {400, `{"__type":"ThrottlingException","Message":"Rate exceeded"}`, false, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.answer)
			}))
			defer server.Close()
			_, err := secretstore.New(emulatortest.SecretsManagerAt(server.URL)).Get(t.Context(), "x", secret.Current)
			require.Error(t, err)
			if test.missing {
				assert.ErrorIs(t, err, secret.ErrNotFound)
			} else {
				assert.NotErrorIs(t, err, secret.ErrNotFound)
			}
			assert.Equal(t, test.unavailable, fault.Is(err, fault.Unavailable))
		})
	}
}

// A secret of bytes, which nothing here writes, reads as an empty one.
func TestStoreOfABinarySecret(t *testing.T) {
	client := emulatortest.SecretsManager()
	name := emulatortest.Deploy(t) + "/client/binary"
	_, err := client.CreateSecret(
		t.Context(),
		&secretsmanager.CreateSecretInput{Name: &name, SecretBinary: []byte("x")},
	)
	require.NoError(t, err)
	version, err := secretstore.New(client).Get(t.Context(), name, secret.Current)
	require.NoError(t, err)
	assert.True(t, version.Value.IsZero())
}

// A cache in front of the store sees a rotation as soon as a caller asks for a fresh version.
func TestCacheOfAStore(t *testing.T) {
	client := emulatortest.SecretsManager()
	name := emulatortest.Deploy(t) + "/client/cached"
	_, err := client.CreateSecret(
		t.Context(),
		&secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String("old")},
	)
	require.NoError(t, err)
	cache := secret.NewCache(secretstore.New(client))
	ctx := t.Context()
	for range 3 {
		version, err := cache.Get(ctx, name, secret.Current, secret.AnyAge)
		require.NoError(t, err)
		assert.Equal(t, "old", version.Value.Reveal())
	}
	_, err = client.PutSecretValue(
		t.Context(),
		&secretsmanager.PutSecretValueInput{SecretId: &name, SecretString: aws.String("new")},
	)
	require.NoError(t, err)
	version, err := cache.Get(ctx, name, secret.Current, 0)
	require.NoError(t, err)
	assert.Equal(t, "new", version.Value.Reveal())
	previous, err := cache.Get(ctx, name, secret.Previous, secret.AnyAge)
	require.NoError(t, err)
	assert.Equal(t, "old", previous.Value.Reveal())
	_, err = cache.Get(ctx, strings.Replace(name, "cached", "nobody", 1), secret.Current, secret.AnyAge)
	assert.ErrorIs(t, err, secret.ErrNotFound)
}
