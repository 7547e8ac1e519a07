package ott_test

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
	"carillon/shared/secret"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// registry is a stack of its own with its registrations.
type registry struct {
	*ott.RegistrationStore
	t       *testing.T
	items   *dynamodb.Client
	secrets *secretsmanager.Client
	table   string
	prefix  string
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	stack := emulatortest.Deploy(t)
	r := &registry{t: t, items: emulatortest.DynamoDB(), secrets: emulatortest.SecretsManager(), table: stack + "-registrations", prefix: stack + "/ott/"}
	r.RegistrationStore = ott.NewRegistrationStore(r.items, r.table, r.secrets, r.prefix)
	return r
}

// all returns every item of the table.
func (r *registry) all() []dynamo.Item {
	r.t.Helper()
	out, err := r.items.Scan(r.t.Context(), &dynamodb.ScanInput{TableName: &r.table, ConsistentRead: aws.Bool(true)})
	require.NoError(r.t, err)
	return out.Items
}

// live lists the secrets under the prefix that are not deleted.
func (r *registry) live() []string {
	r.t.Helper()
	var names []string
	pages := secretsmanager.NewListSecretsPaginator(r.secrets, &secretsmanager.ListSecretsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(r.t.Context())
		require.NoError(r.t, err)
		for _, entry := range page.SecretList {
			if strings.HasPrefix(*entry.Name, r.prefix) && entry.DeletedDate == nil {
				names = append(names, *entry.Name)
			}
		}
	}
	return names
}

// credentials reads what a secret holds.
func (r *registry) credentials(name string) map[string]string {
	r.t.Helper()
	out, err := r.secrets.GetSecretValue(r.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &name})
	require.NoError(r.t, err)
	var document map[string]string
	require.NoError(r.t, json.Unmarshal([]byte(*out.SecretString), &document))
	return document
}

// assertWhole holds the registry to one item, whose secret is the only one there is.
func (r *registry) assertWhole() (item dynamo.Item, credentials map[string]string) {
	r.t.Helper()
	items := r.all()
	require.Len(r.t, items, 1)
	name := dynamo.GetString(items[0], "secretName")
	assert.Equal(r.t, []string{name}, r.live())
	return items[0], r.credentials(name)
}

func decoded(t *testing.T, text string) (ott.Registration, ott.Credentials) {
	t.Helper()
	registration, credentials, err := ott.DecodeRegistration(strings.NewReader(text))
	require.NoError(t, err)
	return registration, credentials
}

func TestPutTheSeedsExamples(t *testing.T) {
	r := newRegistry(t)
	registration, credentials := decoded(t, seedMessenger)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	item, kept := r.assertWhole()
	assert.Equal(t, map[string]string{
		"applicationSecret": "03d537gg656gvkbe9b430f002e9c4517", "callbackVerifyToken": "this_is_the_verify_token",
		"pageAccessToken": "someaccesstoken4fasdcruib213123knubkdnfisdubnu12312ub3pijnb",
	}, kept)
	for name, want := range map[string]string{
		"pk": "messenger#1732555047025799", "tenant": "tenant-1", "tenantPlatform": "tenant-1#messenger", "platform": "messenger", "propertyId": "1732555047025799",
		"name": "SFMC Engineers", "applicationId": "1093076390764037", "endpointUrl": "https://graph.facebook.com/v2.6/me/messages",
	} {
		assert.Equal(t, want, dynamo.GetString(item, name), name)
	}
	assert.True(t, dynamo.GetBool(item, "isActive"))
	assert.Equal(t, dynamo.GetTime(item, "createdAt"), dynamo.GetTime(item, "updatedAt"))
	assertNoCredentials(t, item, credentials)

	registration, credentials = decoded(t, seedLINE)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-2", registration, credentials))
	assert.Len(t, r.all(), 2)
	assert.Len(t, r.live(), 2)
	assert.Equal(t, map[string]string{"channelSecret": "03d537gg656gvkbe9b430f002e9c4517", "customerConnectSecret": "31234arajcauoherbasuhb213ijqjohbjhb123"},
		r.credentials(r.prefix+"line/version-2"))

	byTenant, err := r.items.Query(t.Context(), &dynamodb.QueryInput{
		TableName: &r.table, IndexName: aws.String("tenant-platform"), KeyConditionExpression: aws.String("tenantPlatform = :t"),
		ExpressionAttributeValues: dynamo.Item{":t": dynamo.String("tenant-1#line")},
	})
	require.NoError(t, err)
	require.Len(t, byTenant.Items, 1)
	assert.Equal(t, "line#23493453984234345", dynamo.GetString(byTenant.Items[0], "pk"))
	assert.True(t, dynamo.GetBool(byTenant.Items[0], "isTransactional"))
	assert.False(t, dynamo.GetBool(byTenant.Items[0], "isTestChannel"))
}

// contract.md: credentials go to Secrets Manager, never to DynamoDB.
func assertNoCredentials(t *testing.T, item dynamo.Item, c ott.Credentials) {
	t.Helper()
	text, err := json.Marshal(item)
	require.NoError(t, err)
	for _, credential := range []secret.Text{c.ApplicationSecret, c.PageAccessToken, c.CallbackVerifyToken, c.ChannelSecret, c.CustomerConnectSecret} {
		if !credential.IsZero() {
			assert.NotContains(t, string(text), credential.Reveal())
		}
	}
}

func TestPutOverrides(t *testing.T) {
	r := newRegistry(t)
	registration, credentials := decoded(t, seedLINE)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	before, _ := r.assertWhole()

	registration, credentials = decoded(t, body(t, seedLINE, member{"channelName", `"New"`}, member{"channelSecret", `"new-secret"`},
		member{"customerConnectSecret", ""}, member{"isActive", "0"}, member{"isTransactional", "0"}, member{"isTestChannel", "1"}))
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-2", registration, credentials))
	after, kept := r.assertWhole()
	assert.Equal(t, map[string]string{"channelSecret": "new-secret"}, kept, "nothing of the old credentials is left")
	assert.Equal(t, "New", dynamo.GetString(after, "name"))
	assert.False(t, dynamo.GetBool(after, "isActive"))
	assert.False(t, dynamo.GetBool(after, "isTransactional"))
	assert.True(t, dynamo.GetBool(after, "isTestChannel"))
	assert.Equal(t, dynamo.GetTime(before, "createdAt"), dynamo.GetTime(after, "createdAt"))
	assert.False(t, dynamo.GetTime(after, "updatedAt").Before(dynamo.GetTime(before, "updatedAt")))

	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-2", registration, credentials), "the same call sent twice")
	r.assertWhole()
}

// contract.md §1: the id belongs to another tenant.
func TestPutOfAnotherTenantsID(t *testing.T) {
	r := newRegistry(t)
	registration, credentials := decoded(t, seedLINE)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	before, _ := r.assertWhole()
	err := r.Put(t.Context(), "tenant-2", "version-2", registration, credentials)
	require.True(t, fault.Is(err, fault.Forbidden), "%v", err)
	after, _ := r.assertWhole()
	assert.Equal(t, before, after)

	registration.Platform = ott.Messenger
	require.NoError(t, r.Put(t.Context(), "tenant-2", "version-3", registration, credentials), "the same id on another platform is another property")
	assert.Len(t, r.live(), 2)
}

// However overrides race, one wins whole, and no secret is left behind.
func TestPutConcurrently(t *testing.T) {
	r := newRegistry(t)
	registration, _ := decoded(t, seedLINE)
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
	item, kept := r.assertWhole()
	assert.Equal(t, "secret-"+dynamo.GetString(item, "name"), kept["channelSecret"], "name and secret are the same writer's")
}

// The longest credentials that are let in, in the form that takes most room, fit a secret (64 KiB).
func TestPutOfTheLongestCredentials(t *testing.T) {
	r := newRegistry(t)
	long := secret.NewText(strings.Repeat("\x01", 3072))
	registration, _ := decoded(t, seedMessenger)
	credentials := ott.Credentials{ApplicationSecret: long, PageAccessToken: long, CallbackVerifyToken: long}
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	out, err := r.secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(r.prefix + "messenger/version-1")})
	require.NoError(t, err)
	assert.LessOrEqual(t, len(*out.SecretString), 65536)
}

// failing is an AWS endpoint that fails one operation: before it is carried out, or after it, when only the answer is lost.
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
				registration, credentials := decoded(t, seedLINE)
				require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))

				items := emulatortest.DynamoDBAt(failing(t, emulatortest.DynamoDBEndpoint(), operation, when))
				secrets := emulatortest.SecretsManagerAt(failing(t, emulatortest.AWSEndpoint(), operation, when))
				registration.Name, credentials = "New", ott.Credentials{ChannelSecret: secret.NewText("new-secret")}
				err := ott.NewRegistrationStore(items, r.table, secrets, r.prefix).Put(t.Context(), "tenant-1", "version-2", registration, credentials)
				if operation == "DeleteSecret" {
					require.NoError(t, err, "the new registration stands; what is left behind is logged")
				} else {
					require.Error(t, err)
				}
				found := r.all()
				require.Len(t, found, 1)
				name := dynamo.GetString(found[0], "secretName")
				assert.Contains(t, r.live(), name, "the item's secret is there")
				want := map[string]string{"New": "new-secret", "SFMC Engineers": "03d537gg656gvkbe9b430f002e9c4517"}[dynamo.GetString(found[0], "name")]
				assert.Equal(t, want, r.credentials(name)["channelSecret"])

				require.NoError(t, r.Put(t.Context(), "tenant-1", "version-3", registration, credentials))
				found = r.all()
				assert.Equal(t, "new-secret", r.credentials(dynamo.GetString(found[0], "secretName"))["channelSecret"])
				assert.LessOrEqual(t, len(r.live()), 2, "one secret at most is left behind")
			})
		}
	}
}

func TestPutOfACallerThatGoesAway(t *testing.T) {
	r := newRegistry(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	registration, credentials := decoded(t, seedLINE)
	require.Error(t, r.Put(ctx, "tenant-1", "version-1", registration, credentials))
	assert.Empty(t, r.all())
	assert.Empty(t, r.live())
}

// The whole call, from the body to the tables: 201 with an empty body.
func TestRegister(t *testing.T) {
	r := newRegistry(t)
	handler := &ott.RegisterHandler{Tokens: ott.NewAuthority(secret.NewCache(vault{}), keyName), Registrations: r.RegistrationStore}
	e := newEndpoint(handler.Serve, ott.EncodeError)
	for _, seed := range []string{seedMessenger, seedLINE, seedLINE} {
		answer := e.post(t, seed, map[string]string{"authorization": bearer(t, writeScope), "content-type": "application/json"})
		assert.Equal(t, http.StatusCreated, answer.StatusCode)
		assert.Empty(t, answer.Body)
		assert.NotContains(t, answer.Headers, "content-type")
	}
	assert.Len(t, r.all(), 2)
	assert.Len(t, r.live(), 2)
	assert.Contains(t, e.log.String(), `"client":"ott-client"`)
	assert.NotContains(t, e.log.String(), "03d537gg656gvkbe9b430f002e9c4517")
}
