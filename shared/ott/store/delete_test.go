package store_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/otttest"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
)

// registered is a registry with one channel of tenant-1 in it, and its id.
func registered(t *testing.T) (r *registry, id string) {
	t.Helper()
	r = newRegistry(t)
	registration, credentials := decoded(t, otttest.SeedLINE)
	require.NoError(t, r.Put(t.Context(), "tenant-1", "version-1", registration, credentials))
	return r, registration.PropertyID
}

// through is the registry's store by way of other clients.
func (r *registry) through(items *dynamodb.Client, secretsEndpoint string) *store.Registrations {
	return r.Through(items, emulatortest.SecretsManagerAt(secretsEndpoint))
}

// onCall is a DynamoDB endpoint that does something of its own at the nth call of an operation.
func onCall(
	t *testing.T, operation string, nth int32, do func(w http.ResponseWriter, call emulatortest.Call) (answered bool),
) string {
	t.Helper()
	var calls atomic.Int32
	between := func(w http.ResponseWriter, call emulatortest.Call) bool {
		return call.Operation == operation && calls.Add(1) == nth && do(w, call)
	}
	return emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), between)
}

func lose(w http.ResponseWriter, call emulatortest.Call) bool {
	call.Send(call.Body)
	w.WriteHeader(http.StatusServiceUnavailable)
	return true
}

func refuse(w http.ResponseWriter, _ emulatortest.Call) bool {
	w.WriteHeader(http.StatusServiceUnavailable)
	return true
}

// Wherever a call fails, the registration stands whole or is gone, and what is left behind can be swept.
func TestDeleteThatFailsMidway(t *testing.T) {
	for name, test := range map[string]struct {
		nth    int32 // call of DeleteItem: the first looks up
		do     func(http.ResponseWriter, emulatortest.Call) bool
		stands bool
	}{
		"look-up fails":              {1, refuse, true},
		"item is not deleted":        {2, refuse, true},
		"answer to the item is lost": {2, lose, false},
		"it takes no third call":     {3, refuse, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, id := registered(t)
			items := emulatortest.DynamoDBAt(onCall(t, "DeleteItem", test.nth, test.do))
			err := r.through(items, emulatortest.AWSEndpoint()).Delete(t.Context(), "tenant-1", ott.LINE, id)
			assert.Equal(t, test.nth < 3, err != nil)
			if test.stands {
				r.AssertWhole()
				require.NoError(t, r.Delete(t.Context(), "tenant-1", ott.LINE, id))
			}
			assert.Empty(t, r.All())
			r.sweep()
			assert.Empty(t, r.Live())
		})
	}
}

func TestDeleteWhenItsSecretCannotBeDeleted(t *testing.T) {
	for when, left := range map[string]int{"before": 1, "after": 0} {
		t.Run(when, func(t *testing.T) {
			r, id := registered(t)
			registrations := r.through(r.Items, failing(t, emulatortest.AWSEndpoint(), "DeleteSecret", when))
			require.NoError(t, registrations.Delete(t.Context(), "tenant-1", ott.LINE, id),
				"the registration is gone; what is left behind is logged")
			assert.Empty(t, r.All())
			assert.Len(t, r.Live(), left)
			assert.Contains(t, r.Log.String(), `"msg":"a deleted registration's secret is left behind"`)
			r.sweep()
			assert.Empty(t, r.Live())
		})
	}
}

// The SDK repeats a call whose answer is lost: the repeat finds nothing, and the deletion is one all the same.
func TestDeleteWhoseAnswerIsLost(t *testing.T) {
	r, id := registered(t)
	lost := emulatortest.DynamoDBAt(onCall(t, "DeleteItem", 2, lose)).Options()
	lost.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
	require.NoError(t,
		r.through(dynamodb.New(lost), emulatortest.AWSEndpoint()).Delete(t.Context(), "tenant-1", ott.LINE, id))
	assert.Empty(t, r.All())
	assert.Empty(t, r.Live())
}

// What others do between the look-up and the deletion.
func TestDeleteOvertaken(t *testing.T) {
	registration, credentials := decoded(t, otttest.SeedLINE)
	for name, test := range map[string]struct {
		meanwhile func(t *testing.T, r *registry)
		stands    string // whose registration is there in the end
	}{
		"by an override": {func(t *testing.T, r *registry) {
			assert.NoError(t, r.Put(t.Context(), "tenant-1", "version-2", registration, credentials))
		}, ""},
		"by another deletion": {func(t *testing.T, r *registry) {
			assert.NoError(t, r.Delete(t.Context(), "tenant-1", ott.LINE, registration.PropertyID))
		}, ""},
		"by a deletion and a registration": {func(t *testing.T, r *registry) {
			assert.NoError(t, r.Delete(t.Context(), "tenant-1", ott.LINE, registration.PropertyID))
			assert.NoError(t, r.Put(t.Context(), "tenant-1", "version-2", registration, credentials))
		}, ""},
		"by another tenant's registration": {func(t *testing.T, r *registry) {
			assert.NoError(t, r.Delete(t.Context(), "tenant-1", ott.LINE, registration.PropertyID))
			assert.NoError(t, r.Put(t.Context(), "tenant-2", "version-2", registration, credentials))
		}, "tenant-2"},
	} {
		t.Run(name, func(t *testing.T) {
			r, id := registered(t)
			overtake := func(http.ResponseWriter, emulatortest.Call) bool {
				test.meanwhile(t, r)
				return false
			}
			items := emulatortest.DynamoDBAt(onCall(t, "DeleteItem", 2, overtake))
			require.NoError(t,
				r.through(items, emulatortest.AWSEndpoint()).Delete(t.Context(), "tenant-1", ott.LINE, id))
			if test.stands != "" {
				item, _ := r.AssertWhole()
				assert.Equal(t, test.stands, dynamo.GetString(item, "tenant"))
				return
			}
			assert.Empty(t, r.All())
			assert.Empty(t, r.Live())
		})
	}
}

// However 50 overrides and ten deletions race, there is one registration with its own secret, or neither item nor
// secret.
func TestDeleteRacingOverrides(t *testing.T) {
	r, id := registered(t)
	registration, _ := decoded(t, otttest.SeedLINE)
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			one := registration
			one.Name = fmt.Sprint(i)
			credentials := ott.Credentials{ChannelSecret: secret.NewText(fmt.Sprint("secret-", i))}
			assert.NoError(t, r.Put(t.Context(), "tenant-1", uuid.NewString(), one, credentials))
		})
		if i%5 == 0 {
			group.Go(func() {
				if err := r.Delete(t.Context(), "tenant-1", ott.LINE, id); err != nil {
					assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
				}
			})
		}
	}
	group.Wait()
	if len(r.All()) == 0 {
		assert.Empty(t, r.Live())
		return
	}
	item, kept := r.AssertWhole()
	assert.Equal(t, "secret-"+dynamo.GetString(item, "name"), kept["channelSecret"],
		"name and secret are the same writer's")
}

// AWS keeps a deleted secret's name for days and refuses to create, write or delete it again, which moto does in part
// (docs/design.md): a registration, overridden and deleted, can be registered again at once all the same.
func TestRegisterAfterDeleteWhereDeletedNamesAreKept(t *testing.T) {
	r := newRegistry(t)
	var deleted sync.Map
	between := func(w http.ResponseWriter, call emulatortest.Call) bool {
		var secret struct{ SecretID, Name string }
		assert.NoError(t, json.Unmarshal([]byte(call.Body), &secret))
		name := secret.SecretID + secret.Name
		_, gone := deleted.Load(name)
		switch {
		case gone:
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"InvalidRequestException","Message":"You can't perform this operation ` +
				`on the secret because it was marked for deletion."}`))
			return true
		case call.Operation == "DeleteSecret":
			deleted.Store(name, true)
		}
		return false
	}
	endpoint := emulatortest.Between(t, emulatortest.AWSEndpoint(), between)
	registrations := r.through(r.Items, endpoint)
	registration, credentials := decoded(t, otttest.SeedMessenger)
	for range 3 {
		require.NoError(t, registrations.Put(t.Context(), "tenant-1", uuid.NewString(), registration, credentials))
		require.NoError(t, registrations.Put(t.Context(), "tenant-1", uuid.NewString(), registration, credentials))
		r.AssertWhole()
		require.NoError(t, registrations.Delete(t.Context(), "tenant-1", ott.Messenger, registration.PropertyID))
		assert.Empty(t, r.Live())
	}
}
