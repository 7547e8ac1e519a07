package store_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
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

// signing returns what may sign callbacks of a channel now.
func (r *registry) signing(id string) []string {
	r.t.Helper()
	_, credentials, err := r.reader(emulatortest.AWSEndpoint()).Load(r.t.Context(), ott.LINE, id)
	require.NoError(r.t, err)
	var texts []string
	for _, s := range credentials.SigningSecrets(ott.LINE, r.Clock.Now()) {
		texts = append(texts, s.Reveal())
	}
	return texts
}

// override registers the channel once more, with that channel secret.
func (r *registry) override(channelSecret string) error {
	registration, _ := decoded(r.t, otttest.SeedLINE)
	return r.Put(r.t.Context(), "tenant-1", uuid.NewString(), registration,
		ott.Credentials{ChannelSecret: secret.NewText(channelSecret)})
}

const (
	seedChannelSecret = "03d537gg656gvkbe9b430f002e9c4517"
	seedConnectSecret = "31234arajcauoherbasuhb213ijqjohbjhb123"
)

// docs/contract.md §1: the former secrets of a registration stay right for five minutes after it is overridden.
func TestFormerSecretsSignOnForFiveMinutes(t *testing.T) {
	r, id := registered(t)
	assert.Equal(t, []string{seedChannelSecret, seedConnectSecret}, r.signing(id))
	require.NoError(t, r.override("b"))
	assert.Equal(t, []string{"b", seedChannelSecret, seedConnectSecret}, r.signing(id))
	r.AssertWhole()

	r.Clock.Advance(2 * time.Minute)
	require.NoError(t, r.override("c"))
	assert.Equal(t, []string{"c", "b", seedChannelSecret, seedConnectSecret}, r.signing(id))
	r.Clock.Advance(3*time.Minute - time.Millisecond)
	assert.Equal(t, []string{"c", "b", seedChannelSecret, seedConnectSecret}, r.signing(id), "each to its own end")
	r.Clock.Advance(time.Millisecond)
	assert.Equal(t, []string{"c", "b"}, r.signing(id))

	require.NoError(t, r.override("b"))
	assert.Equal(t, []string{"b", "c"}, r.signing(id), "what is back is none of the former")
	require.NoError(t, r.override("b"))
	assert.Equal(t, []string{"b", "c"}, r.signing(id))
	r.Clock.Advance(5 * time.Minute)
	assert.Equal(t, []string{"b"}, r.signing(id))

	require.NoError(t, r.Delete(t.Context(), "tenant-1", ott.LINE, id))
	require.NoError(t, r.override("d"))
	assert.Equal(t, []string{"d"}, r.signing(id), "what was deleted is not overridden")
	r.AssertWhole()
}

// A few former secrets are kept, and only as many as a secret has room for.
func TestFormerSecretsAreBounded(t *testing.T) {
	r, id := registered(t)
	for i := range 20 {
		require.NoError(t, r.override(fmt.Sprint("secret-", i)))
	}
	signing := r.signing(id)
	assert.Len(t, signing, 11)
	assert.Equal(t, []string{"secret-19", "secret-18"}, signing[:2])
	assert.Equal(t, "secret-9", signing[10], "the oldest are left out")

	r = newRegistry(t)
	registration, _ := decoded(t, otttest.SeedMessenger)
	long := func(c string) secret.Text { return secret.NewText(c + strings.Repeat("\x01", 3071)) }
	for i := range 3 {
		version := fmt.Sprint("version-", i)
		require.NoError(t, r.Put(t.Context(), "tenant-1", version, registration, ott.Credentials{
			ApplicationSecret: long(fmt.Sprint(i)), PageAccessToken: long("p"), CallbackVerifyToken: long("v"),
		}))
	}
	out, err := r.Secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(dynamo.GetString(r.All()[0], "secretName")),
	})
	require.NoError(t, err)
	assert.LessOrEqual(t, len(*out.SecretString), 65536)
	_, kept, err := r.reader(emulatortest.AWSEndpoint()).Load(t.Context(), ott.Messenger, registration.PropertyID)
	require.NoError(t, err)
	assert.Equal(t, long("2").Reveal(), kept.ApplicationSecret.Reveal())
	assert.Empty(t, kept.Former, "there is no room for one of 18 KB")
}

// What others do between reading what is replaced and replacing it.
func TestPutOvertaken(t *testing.T) {
	registration, credentials := decoded(t, otttest.SeedLINE)
	for name, test := range map[string]struct {
		before    bool // something is registered
		meanwhile func(r *registry) error
		want      []string // what signs in the end; nil if the registering is refused
	}{
		"by an override": {true, func(r *registry) error { return r.override("other") },
			[]string{"mine", "other", seedChannelSecret, seedConnectSecret}},
		"by a first registering": {false, func(r *registry) error { return r.override("other") },
			[]string{"mine", "other"}},
		"by a deletion": {true, func(r *registry) error {
			return r.Delete(t.Context(), "tenant-1", ott.LINE, registration.PropertyID)
		}, []string{"mine"}},
		"by another tenant": {false, func(r *registry) error {
			return r.Put(t.Context(), "tenant-2", "other", registration, credentials)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			if test.before {
				require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
			}
			items := emulatortest.DynamoDBAt(onCall(t, "UpdateItem", 1,
				func(http.ResponseWriter, emulatortest.Call) bool {
					assert.NoError(t, test.meanwhile(r))
					return false
				}))
			err := r.Through(items, r.Secrets).Put(t.Context(), "tenant-1", "version-2", registration,
				ott.Credentials{ChannelSecret: secret.NewText("mine")})
			r.AssertWhole() // the loser's secret is deleted
			if test.want == nil {
				assert.True(t, fault.Is(err, fault.Forbidden), "%v", err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, r.signing(registration.PropertyID))
		})
	}
}

// However often others come first, it ends, with a whole registration.
func TestPutOvertakenAgainAndAgain(t *testing.T) {
	r, id := registered(t)
	calls := 0 // Put writes one item at a time
	items := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(_ http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation == "UpdateItem" {
				calls++
				assert.NoError(t, r.override(fmt.Sprint("other-", calls)))
			}
			return false
		}))
	registration, _ := decoded(t, otttest.SeedLINE)
	require.NoError(t, r.Through(items, r.Secrets).Put(t.Context(), "tenant-1", "mine", registration,
		ott.Credentials{ChannelSecret: secret.NewText("mine")}))
	assert.Equal(t, 5, calls)
	_, kept := r.AssertWhole()
	assert.Equal(t, "mine", kept["channelSecret"])
	assert.Subset(t, r.signing(id), []string{"other-4", seedChannelSecret}, "but for who stood an instant")
}

// The SDK repeats a write whose answer was lost: it finds its own, and that is no race lost.
func TestPutWhoseAnswerIsLost(t *testing.T) {
	for _, before := range []bool{false, true} {
		r := newRegistry(t)
		if before {
			require.NoError(t, r.override("former"))
		}
		lost := emulatortest.DynamoDBAt(onCall(t, "UpdateItem", 1, lose)).Options()
		lost.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
		registration, credentials := decoded(t, otttest.SeedLINE)
		require.NoError(t, r.Through(dynamodb.New(lost), r.Secrets).Put(t.Context(), "tenant-1", "mine", registration,
			credentials))
		item, _ := r.AssertWhole()
		assert.Equal(t, r.Prefix+"line/mine", dynamo.GetString(item, "secretName"), "at the first try")
	}
}

// Registering again mends a registration whose secret is gone, or is none.
func TestPutMendsCredentials(t *testing.T) {
	for name, breaks := range map[string]func(r *registry, secretName string) error{
		"gone": func(r *registry, secretName string) error {
			_, err := r.Secrets.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
				SecretId: &secretName, ForceDeleteWithoutRecovery: aws.Bool(true),
			})
			return err
		},
		"none": func(r *registry, secretName string) error {
			_, err := r.Secrets.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
				SecretId: &secretName, SecretString: aws.String("hunter2"),
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, id := registered(t)
			require.NoError(t, breaks(r, r.Prefix+"line/version-1"))
			require.NoError(t, r.override("b"))
			r.AssertWhole()
			assert.Equal(t, []string{"b"}, r.signing(id))
			assert.Contains(t, r.Log.String(), "the credentials that are replaced cannot be read")
			assert.NotContains(t, r.Log.String(), "hunter2")
		})
	}
}

// What cannot be read for the moment is not overridden: its secrets would be wrong at once.
func TestPutWhenTheFormerSecretCannotBeRead(t *testing.T) {
	r, id := registered(t)
	secrets := emulatortest.SecretsManagerAt(failing(t, emulatortest.AWSEndpoint(), "GetSecretValue", "before"))
	registration, _ := decoded(t, otttest.SeedLINE)
	err := r.Through(r.Items, secrets).Put(t.Context(), "tenant-1", "b", registration,
		ott.Credentials{ChannelSecret: secret.NewText("b")})
	assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
	r.AssertWhole()
	assert.Equal(t, []string{seedChannelSecret, seedConnectSecret}, r.signing(id))
}
