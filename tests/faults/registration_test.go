package faults_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clock"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/stackname"
)

const (
	ottDelete = "OttDeleteFunction"
	ottGet    = "OttGetFunction"
)

func pagePath(pageID string) string { return "/ott/v1/registration/messenger/" + pageID }

func registrations() *store.Registrations {
	return store.NewRegistrations(
		bundle.DynamoDB(),
		bundle.Table(stackname.RegistrationsTable),
		bundle.SecretsManager(),
		stackname.RegistrationSecretPrefix(bundle.Demo.AWS.Stack),
		clock.System{},
		slog.New(slog.DiscardHandler),
	)
}

// orphansOf are the secrets of a page that no registration names, as `carillon ott sweep` finds them an hour later.
func orphansOf(t *testing.T, pageID string) []store.Orphan {
	t.Helper()
	survey, err := registrations().Orphans(t.Context(), time.Now().Add(time.Hour), func(int) {})
	require.NoError(t, err)
	var orphans []store.Orphan
	for _, orphan := range survey.Orphans {
		if orphan.Property == "messenger#"+pageID {
			orphans = append(orphans, orphan)
		}
	}
	return orphans
}

func sweep(t *testing.T, pageID string) {
	t.Helper()
	for _, orphan := range orphansOf(t, pageID) {
		require.NoError(t, registrations().DeleteOrphan(t.Context(), orphan))
	}
	assert.Empty(t, orphansOf(t, pageID))
}

// Whatever a registering leaves behind that was killed is found, and the registration is not touched.
func TestSweepAfterAKilledRegistration(t *testing.T) {
	ottLane.enter(t)
	items, secrets := bundle.Behind(t, ottRegister)
	tests := []struct {
		name    string
		items   *fault
		secret  *fault
		stands  string
		orphans int
	}{
		{name: "before the secret", secret: before("CreateSecret", ottRegister), stands: "old"},
		{name: "between secret and item", secret: after("CreateSecret", ottRegister), stands: "old", orphans: 1},
		{name: "after the item", items: after("UpdateItem", ottRegister), stands: "new", orphans: 1},
		{name: "after the old secret's deletion", secret: after("DeleteSecret", ottRegister), stands: "new"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, register(t, pageID, "old", token))
			items.Inject(test.items)
			secrets.Inject(test.secret)
			require.Equal(t, http.StatusInternalServerError, register(t, pageID, "new", token))
			items.Inject()
			secrets.Inject()
			assert.Len(t, orphansOf(t, pageID), test.orphans)
			sweep(t, pageID)
			assert.Equal(t, test.stands, registeredVersion(t, pageID))
		})
	}
}

func TestDeletionKilledBetweenTwoWrites(t *testing.T) {
	ottLane.enter(t)
	items, secrets := bundle.Behind(t, ottDelete)
	tests := []struct {
		name    string
		items   *fault
		secret  *fault
		stands  bool // the registration, after the kill
		orphans int
	}{
		{name: "before the look-up", items: before("DeleteItem", ottDelete), stands: true},
		{name: "after the look-up", items: after("DeleteItem", ottDelete), stands: true},
		{name: "before the item", items: later(1, before("DeleteItem", ottDelete)), stands: true},
		{name: "between item and secret", items: later(1, after("DeleteItem", ottDelete)), orphans: 1},
		{name: "before the secret", secret: before("DeleteSecret", ottDelete), orphans: 1},
		{name: "after the secret", secret: after("DeleteSecret", ottDelete)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, register(t, pageID, "old", token))
			items.Inject(test.items)
			secrets.Inject(test.secret)
			require.Equal(
				t,
				http.StatusInternalServerError,
				bundle.Ask(t, http.MethodDelete, pagePath(pageID), token).Status,
			)
			items.Inject()
			secrets.Inject()
			again := http.StatusNotFound
			if test.stands {
				assert.Equal(t, "old", registeredVersion(t, pageID), "whole")
				again = http.StatusNoContent
			}
			assert.Len(t, orphansOf(t, pageID), test.orphans)
			assert.Equal(t, again, bundle.Ask(t, http.MethodDelete, pagePath(pageID), token).Status)
			assert.Equal(t, http.StatusNotFound, bundle.Ask(t, http.MethodGet, pagePath(pageID), token).Status)
			sweep(t, pageID)
			assert.Equal(t, http.StatusCreated, register(t, pageID, "new", token))
			assert.Equal(t, "new", registeredVersion(t, pageID))
		})
	}
}

func TestDeletionWhenAWSFails(t *testing.T) {
	ottLane.enter(t)
	const internal = `{"message":"Internal Server Error","errorcode":0,"documentation":""}`
	const unavailable = `{"message":"Service Unavailable","errorcode":0,"documentation":""}`
	items, secrets := bundle.Behind(t, ottDelete)
	tests := []struct {
		name    string
		items   *fault
		secret  *fault
		status  int
		body    string
		orphans int
	}{
		{
			name:   "DynamoDB throttles three times",
			items:  times(3, "DeleteItem", awsError(400, "ProvisionedThroughputExceededException")),
			status: 204,
		},
		{name: "the answer to the item is lost", items: later(1, lost("DeleteItem")), status: 204},
		{name: "the answer to the secret is lost", secret: lost("DeleteSecret"), status: 204},
		{name: "Secrets Manager throttles three times", secret: times(3, "DeleteSecret", throttled), status: 204},
		{name: "DynamoDB throttles on and on", items: always("DeleteItem", throttled), status: 503, body: unavailable},
		{name: "DynamoDB denies access", items: always("DeleteItem", denied), status: 500, body: internal},
		{name: "the secret cannot be deleted", secret: always("DeleteSecret", denied), status: 204, orphans: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, register(t, pageID, "old", token))
			items.Inject(test.items)
			secrets.Inject(test.secret)
			answer := bundle.Ask(t, http.MethodDelete, pagePath(pageID), token)
			items.Inject()
			secrets.Inject()
			assert.Equal(t, test.status, answer.Status)
			assert.Equal(t, test.body, answer.Body)
			if test.status != http.StatusNoContent {
				assert.Equal(t, "old", registeredVersion(t, pageID), "whole")
				return
			}
			assert.Equal(t, http.StatusNotFound, bundle.Ask(t, http.MethodGet, pagePath(pageID), token).Status)
			assert.Len(t, orphansOf(t, pageID), test.orphans)
			sweep(t, pageID)
		})
	}
}

// The signing key is rotated while functions run: whoever holds a token stays logged in, and who gets a new one is let
// in.
func TestSigningKeyRotatedWhileFunctionsRun(t *testing.T) {
	// A process that read the old key less than a second ago does not look for another one: the tests that follow need
	// not wait.
	defer func() {
		for _, id := range []string{
			"OttRegisterFunction", "OttListFunction", ottGet, "OttDeleteFunction", ottSend, "OttSendStatusFunction",
			"EngageTokenFunction", "EngageTokenHealthFunction",
			"EngageBatchFunction", "EngageStatusFunction", "EngageCancelFunction",
		} {
			bundle.Function(id).Kill()
		}
	}()
	before, pageID := ottBearer(t), uuid.NewString()
	require.Equal(t, http.StatusCreated, register(t, pageID, "old", before))
	get := func(token map[string]string) int {
		return bundle.Ask(t, http.MethodGet, pagePath(pageID), token).Status
	}
	require.Equal(t, http.StatusOK, get(before))
	_, err := bundle.SecretsManager().PutSecretValue(context.Background(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String(
			stackname.SigningKeySecret(bundle.Demo.AWS.Stack),
		), SecretString: aws.String("another key of sixty-four characters, or so, for a rotation: " + uuid.NewString()),
		ClientRequestToken: aws.String(uuid.NewString()),
	})
	require.NoError(t, err)
	meanwhile := ottBearer(t) // by a process that keeps the key until now
	bundle.Function("OauthTokenFunction").Kill()
	after := ottBearer(t)
	// A process asks for the key again once its own is a second old.
	for start := time.Now(); get(after) != http.StatusOK; {
		require.Equal(t, http.StatusOK, get(before))
		require.Less(t, time.Since(start), 10*time.Second)
	}
	for range 2 {
		for _, token := range []map[string]string{before, meanwhile, after} {
			assert.Equal(t, http.StatusOK, get(token))
		}
		bundle.Function(ottGet).Kill() // and so in a process that starts with the new key
	}
}

// Secrets Manager is eventually consistent: for a moment it may not know a secret that was just made. A registration can
// be used and overridden at once all the same.
func TestRegistrationIsUsedAtOnce(t *testing.T) {
	ottLane.enter(t)
	_, ofCallback := bundle.Behind(t, "OttCallbackFunction")
	_, ofRegister := bundle.Behind(t, ottRegister)
	notThere := func(pageID string) *fault {
		stored, err := registrations().Get(t.Context(), ott.Messenger, pageID)
		require.NoError(t, err)
		return with(stored.SecretName, times(4, "GetSecretValue", awsError(400, "ResourceNotFoundException")))
	}
	token, pageID := ottBearer(t), uuid.NewString()
	handshake := "/ott/v1/callback/messenger/" + pageID + "?hub.mode=subscribe&hub.challenge=7&hub.verify_token=verify"
	require.Equal(t, http.StatusCreated, register(t, pageID, "old", token))
	ofCallback.Inject(notThere(pageID))
	answer := bundle.Ask(t, http.MethodGet, handshake, nil)
	assert.Equal(t, http.StatusOK, answer.Status, answer.Body)
	assert.Equal(t, 5, ofCallback.Count("GetSecretValue"))

	ofRegister.Inject(notThere(pageID))
	require.Equal(t, http.StatusCreated, register(t, pageID, "new", token))
	assert.GreaterOrEqual(t, ofRegister.Count("GetSecretValue"), 5)
	body := `{"object":"page","entry":[]}`
	former := ott.Credentials{ApplicationSecret: secret.NewText("secret old")}
	name, value := callback.Sign(ott.Messenger, former, []byte(body))
	answer = bundle.Post(t, "/ott/v1/callback/messenger/"+pageID, body, map[string]string{name: value})
	assert.Equal(t, http.StatusOK, answer.Status, "the former secret was read")
}
