package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/ott/otttest"
	"carillon/shared/ott/store"
)

// orphans looks as if all that there is were old.
func (r *registry) orphans() store.Survey {
	r.t.Helper()
	survey, err := r.Orphans(r.t.Context(), time.Now().Add(time.Hour), func(int) {})
	require.NoError(r.t, err)
	return survey
}

func (r *registry) sweep() {
	r.t.Helper()
	for _, orphan := range r.orphans().Orphans {
		require.NoError(r.t, r.DeleteOrphan(r.t.Context(), orphan))
	}
}

// createSecret makes a secret that no registration names.
func (r *registry) createSecret(name string) {
	r.t.Helper()
	_, err := r.Secrets.CreateSecret(r.t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String(name), SecretString: aws.String("{}"),
	})
	require.NoError(r.t, err)
}

// A crash between secret and item leaves an orphan, and so does one between item and the old secret's deletion.
func TestOrphans(t *testing.T) {
	r, id := registered(t)
	assert.Equal(t, store.Survey{InUse: 1}, r.orphans())
	registration, credentials := decoded(t, otttest.SeedLINE)
	crash := func(operation, version string) {
		items := emulatortest.DynamoDBAt(failing(t, emulatortest.DynamoDBEndpoint(), operation, "before"))
		_ = r.through(items,
			failing(t, emulatortest.AWSEndpoint(), operation,
				"before")).Put(t.Context(), "tenant-1", version, registration, credentials)
	}
	crash("UpdateItem", "version-2")
	crash("DeleteSecret", "version-3") // version-1 stays, and is used no more

	survey := r.orphans()
	assert.Equal(t, 1, survey.InUse)
	require.Len(t, survey.Orphans, 2)
	var names []string
	for _, orphan := range survey.Orphans {
		names = append(names, strings.TrimPrefix(orphan.SecretName, r.Prefix))
		assert.Equal(t, "line#"+id, orphan.Property)
		assert.WithinDuration(t, time.Now(), orphan.CreatedAt, time.Minute)
	}
	assert.ElementsMatch(t, []string{"line/version-1", "line/version-2"}, names)

	young, err := r.Orphans(t.Context(), time.Now().Add(-time.Hour), func(int) {})
	require.NoError(t, err)
	assert.Equal(t, store.Survey{InUse: 1, Young: 2}, young, "a registering may be under way")

	r.sweep()
	assert.Equal(t, store.Survey{InUse: 1}, r.orphans())
	_, kept := r.AssertWhole()
	assert.Equal(t, "03d537gg656gvkbe9b430f002e9c4517", kept["channelSecret"])
	require.NoError(t, r.DeleteOrphan(t.Context(), survey.Orphans[0]), "deleted already")
	require.NoError(t, r.DeleteOrphan(t.Context(), store.Orphan{SecretName: r.Prefix + "line/nothing"}))
}

// Only what Put writes can be an orphan: neither other secrets of the stack, nor another stack's, nor a stranger's
// under the prefix.
func TestOrphansAreTheStoresOwn(t *testing.T) {
	r := newRegistry(t)
	stack := strings.TrimSuffix(r.Prefix, "/ott/")
	for _, name := range []string{
		stack + "/client/acme-ott", stack + "x/ott/line/1", r.Prefix + "hand-made", r.Prefix + "line",
		r.Prefix + "telegram/1",
	} {
		r.createSecret(name)
	}
	assert.Equal(t, store.Survey{}, r.orphans())
	r.createSecret(r.Prefix + "line/1")
	assert.Len(t, r.orphans().Orphans, 1)
}

// More secrets than Secrets Manager lists at once (100).
func TestOrphansOfManyPages(t *testing.T) {
	r, _ := registered(t)
	for range 150 {
		r.createSecret(r.Prefix + "messenger/" + uuid.NewString())
	}
	var read []int
	survey, err := r.Orphans(t.Context(), time.Now().Add(time.Hour), func(n int) { read = append(read, n) })
	require.NoError(t, err)
	assert.Len(t, survey.Orphans, 150)
	assert.Equal(t, 1, survey.InUse)
	assert.Equal(t, []int{100, 151, 152}, read)
}

// Nothing is an orphan that the table could not be asked about.
func TestOrphansWhenAWSFails(t *testing.T) {
	for _, operation := range []string{"ListSecrets", "Scan"} {
		t.Run(operation, func(t *testing.T) {
			r, _ := registered(t)
			items := emulatortest.DynamoDBAt(failing(t, emulatortest.DynamoDBEndpoint(), operation, "before"))
			survey, err := r.through(items,
				failing(t, emulatortest.AWSEndpoint(), operation,
					"before")).Orphans(t.Context(), time.Now(), func(int) {})
			require.Error(t, err)
			assert.Empty(t, survey)
		})
	}
}
