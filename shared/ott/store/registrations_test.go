package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/otttest"
	"carillon/shared/secret"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// newRegistry is a stack of its own with its registrations.
func newRegistry(t *testing.T) *registry {
	t.Helper()
	return &registry{otttest.NewRegistry(t), t}
}

type registry struct {
	*otttest.Registry
	t *testing.T
}

func decoded(t *testing.T, text string) (ott.Registration, ott.Credentials) {
	t.Helper()
	registration, credentials, err := ott.DecodeRegistration(strings.NewReader(text))
	require.NoError(t, err)
	return registration, credentials
}

func TestPutTheSeedsExamples(t *testing.T) {
	r := newRegistry(t)
	registration, credentials := decoded(t, otttest.SeedMessenger)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	item, kept := r.AssertWhole()
	assert.Equal(t, map[string]string{
		"applicationSecret": "03d537gg656gvkbe9b430f002e9c4517", "callbackVerifyToken": "this_is_the_verify_token",
		"pageAccessToken": "someaccesstoken4fasdcruib213123knubkdnfisdubnu12312ub3pijnb",
	}, kept)
	for name, want := range map[string]string{
		"pk": "messenger#1732555047025799", "tenant": "tenant-1", "tenantPlatform": "tenant-1#messenger",
		"platform": "messenger", "propertyId": "1732555047025799",
		"name": "SFMC Engineers", "applicationId": "1093076390764037",
		"endpointUrl": "https://graph.facebook.com/v2.6/me/messages",
	} {
		assert.Equal(t, want, dynamo.GetString(item, name), name)
	}
	assert.True(t, dynamo.GetBool(item, "isActive"))
	assert.Equal(t, dynamo.GetTime(item, "createdAt"), dynamo.GetTime(item, "updatedAt"))
	assertNoCredentials(t, item, credentials)

	registration, credentials = decoded(t, otttest.SeedLINE)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-2", registration, credentials))
	assert.Len(t, r.All(), 2)
	assert.Len(t, r.Live(), 2)
	assert.Equal(t, map[string]string{"channelSecret": "03d537gg656gvkbe9b430f002" +
		"e9c4517", "customerConnectSecret": "31234arajcauoherbasuhb213" +
		"ijqjohbjhb123"},
		r.Credentials(r.Prefix+"line/version-2"))

	byTenant, err := r.Items.Query(t.Context(), &dynamodb.QueryInput{
		TableName: &r.Table, IndexName: aws.String("tenant-platform"),
		KeyConditionExpression:    aws.String("tenantPlatform = :t"),
		ExpressionAttributeValues: dynamo.Item{":t": dynamo.String("tenant-1#line")},
	})
	require.NoError(t, err)
	require.Len(t, byTenant.Items, 1)
	assert.Equal(t, "line#23493453984234345", dynamo.GetString(byTenant.Items[0], "pk"))
	assert.True(t, dynamo.GetBool(byTenant.Items[0], "isTransactional"))
	assert.False(t, dynamo.GetBool(byTenant.Items[0], "isTestChannel"))
}

// docs/contract.md: credentials go to Secrets Manager, never to DynamoDB.
func assertNoCredentials(t *testing.T, item dynamo.Item, c ott.Credentials) {
	t.Helper()
	text, err := json.Marshal(item)
	require.NoError(t, err)
	for _, credential := range []secret.Text{
		c.ApplicationSecret, c.PageAccessToken, c.CallbackVerifyToken, c.ChannelSecret, c.CustomerConnectSecret,
	} {
		if !credential.IsZero() {
			assert.NotContains(t, string(text), credential.Reveal())
		}
	}
}

func TestPutOverrides(t *testing.T) {
	r := newRegistry(t)
	registration, credentials := decoded(t, otttest.SeedLINE)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	before, _ := r.AssertWhole()

	registration, credentials = decoded(t, otttest.Body(t, otttest.SeedLINE,
		"channelName", `"New"`, "channelSecret", `"new-secret"`,
		"customerConnectSecret", "", "isActive", "0", "isTransactional", "0", "isTestChannel", "1"))
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-2", registration, credentials))
	after, kept := r.AssertWhole()
	assert.Equal(t, map[string]string{"channelSecret": "new-secret"}, kept, "nothing of the old credentials is left")
	assert.Equal(t, "New", dynamo.GetString(after, "name"))
	assert.False(t, dynamo.GetBool(after, "isActive"))
	assert.False(t, dynamo.GetBool(after, "isTransactional"))
	assert.True(t, dynamo.GetBool(after, "isTestChannel"))
	assert.Equal(t, dynamo.GetTime(before, "createdAt"), dynamo.GetTime(after, "createdAt"))
	assert.False(t, dynamo.GetTime(after, "updatedAt").Before(dynamo.GetTime(before, "updatedAt")))

	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-2", registration, credentials),
		"the same call sent twice")
	r.AssertWhole()
}

// docs/contract.md §1: the id belongs to another tenant.
func TestPutOfAnotherTenantsID(t *testing.T) {
	r := newRegistry(t)
	registration, credentials := decoded(t, otttest.SeedLINE)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	before, _ := r.AssertWhole()
	err := r.Put(t.Context(), "tenant-2", "version-2", registration, credentials)
	require.True(t, fault.Is(err, fault.Forbidden), "%v", err)
	after, _ := r.AssertWhole()
	assert.Equal(t, before, after)

	registration.Platform = ott.Messenger
	require.NoError(t, r.Put(t.Context(), "tenant-2", "version-3", registration, credentials),
		"the same id on another platform is another property")
	assert.Len(t, r.Live(), 2)
}

// However overrides race, one wins whole, and no secret is left behind.
func TestPutConcurrently(t *testing.T) {
	r := newRegistry(t)
	registration, _ := decoded(t, otttest.SeedLINE)
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			one := registration
			one.Name = fmt.Sprint(i)
			credentials := ott.Credentials{ChannelSecret: secret.NewText(fmt.Sprint("secret-", i))}
			assert.NoError(t, r.Put(t.Context(), "tenant-1", uuid.NewString(), one, credentials))
		})
	}
	group.Wait()
	item, kept := r.AssertWhole()
	assert.Equal(t, "secret-"+dynamo.GetString(item, "name"), kept["channelSecret"],
		"name and secret are the same writer's")
}

// The longest credentials that are let in, in the form that takes most room, fit a secret (64 KiB).
func TestPutOfTheLongestCredentials(t *testing.T) {
	r := newRegistry(t)
	long := secret.NewText(strings.Repeat("\x01", 3072))
	registration, _ := decoded(t, otttest.SeedMessenger)
	credentials := ott.Credentials{ApplicationSecret: long, PageAccessToken: long, CallbackVerifyToken: long}
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	out, err := r.Secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(r.Prefix + "messenger/version-1"),
	})
	require.NoError(t, err)
	assert.LessOrEqual(t, len(*out.SecretString), 65536)
}

// failing is an AWS endpoint that fails one operation: before it is carried out, or after it, when only the answer is
// lost.
func failing(t *testing.T, endpoint, operation, when string) string {
	t.Helper()
	return emulatortest.Between(t, endpoint, func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != operation {
			return false
		}
		if when == "after" {
			call.Send(call.Body)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
}

// Wherever a call fails, the old registration or the new one stands whole, and the same request again mends the rest.
func TestPutThatFailsMidway(t *testing.T) {
	for _, operation := range []string{"CreateSecret", "UpdateItem", "DeleteSecret"} {
		for _, when := range []string{"before", "after"} {
			t.Run(operation+" "+when, func(t *testing.T) {
				r := newRegistry(t)
				registration, credentials := decoded(t, otttest.SeedLINE)
				require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))

				items := emulatortest.DynamoDBAt(failing(t, emulatortest.DynamoDBEndpoint(), operation, when))
				secrets := emulatortest.SecretsManagerAt(failing(t, emulatortest.AWSEndpoint(), operation, when))
				registration.Name, credentials = "New", ott.Credentials{ChannelSecret: secret.NewText("new-secret")}
				err := r.Through(items, secrets).Put(t.Context(), "tenant-1", "version-2", registration, credentials)
				if operation == "DeleteSecret" {
					require.NoError(t, err, "the new registration stands; what is left behind is logged")
					assert.Contains(t, r.Log.String(), `"msg":"a replaced secret is left behind"`)
				} else {
					require.Error(t, err)
				}
				found := r.All()
				require.Len(t, found, 1)
				name := dynamo.GetString(found[0], "secretName")
				assert.Contains(t, r.Live(), name, "the item's secret is there")
				want := map[string]string{
					"New": "new-secret", "SFMC Engineers": "03d537gg656gvkbe9b430f002e9c4517",
				}[dynamo.GetString(found[0], "name")]
				assert.Equal(t, want, r.Credentials(name)["channelSecret"])

				require.NoError(t, r.Put(t.Context(), "tenant-1", "version-3", registration, credentials))
				found = r.All()
				assert.Equal(t, "new-secret", r.Credentials(dynamo.GetString(found[0], "secretName"))["channelSecret"])
				assert.LessOrEqual(t, len(r.Live()), 2, "one secret at most is left behind")
			})
		}
	}
}

func TestPutOfACallerThatGoesAway(t *testing.T) {
	r := newRegistry(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	registration, credentials := decoded(t, otttest.SeedLINE)
	require.Error(t, r.Put(ctx, "tenant-1", "version-1", registration, credentials))
	assert.Empty(t, r.All())
	assert.Empty(t, r.Live())
}
