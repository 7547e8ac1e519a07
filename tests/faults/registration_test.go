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
	"carillon/shared/ott/store"
	"carillon/shared/stackname"
)

const (
	ottDelete = "OttDeleteFunction"
	ottGet    = "OttGetFunction"
)

// ask calls the API without a body.
func ask(t *testing.T, method, path string, headers map[string]string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, bundle.BaseURL+path, http.NoBody)
	require.NoError(t, err)
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	return send(t, request)
}

func pagePath(pageID string) string { return "/ott/v1/registration/messenger/" + pageID }

func registrations() *store.Registrations {
	return store.NewRegistrations(bundle.DynamoDB(), *table("registrations"), bundle.SecretsManager(), stackname.RegistrationSecretPrefix(bundle.Demo.AWS.Stack),
		clock.System{}, slog.New(slog.DiscardHandler))
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
	items, secrets := behindProxies(t, ottRegister)
	kill := func() { bundle.Function(ottRegister).Kill() }
	tests := []struct {
		name    string
		items   *fault
		secret  *fault
		stands  string
		orphans int
	}{
		{name: "before the secret", secret: &fault{operation: "CreateSecret", answer: killed(ottRegister)}, stands: "old"},
		{name: "between secret and item", secret: &fault{operation: "CreateSecret", after: kill}, stands: "old", orphans: 1},
		{name: "after the item", items: &fault{operation: "UpdateItem", after: kill}, stands: "new", orphans: 1},
		{name: "after the old secret's deletion", secret: &fault{operation: "DeleteSecret", after: kill}, stands: "new"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "old"), token).status)
			inject(items, test.items)
			inject(secrets, test.secret)
			require.Equal(t, http.StatusInternalServerError, post(t, "/ott/v1/registration", registrationBody(pageID, "new"), token).status)
			inject(items, nil)
			inject(secrets, nil)
			assert.Len(t, orphansOf(t, pageID), test.orphans)
			sweep(t, pageID)
			assert.Equal(t, test.stands, registeredVersion(t, pageID))
		})
	}
}

func inject(p *awsProxy, f *fault) {
	if f == nil {
		p.inject()
		return
	}
	p.inject(f)
}

func TestDeletionKilledBetweenTwoWrites(t *testing.T) {
	items, secrets := behindProxies(t, ottDelete)
	kill := func() { bundle.Function(ottDelete).Kill() }
	tests := []struct {
		name    string
		items   *fault
		secret  *fault
		stands  bool // the registration, after the kill
		orphans int
	}{
		{name: "before the look-up", items: &fault{operation: "DeleteItem", answer: killed(ottDelete)}, stands: true},
		{name: "after the look-up", items: &fault{operation: "DeleteItem", after: kill}, stands: true},
		{name: "before the item", items: &fault{operation: "DeleteItem", skip: 1, answer: killed(ottDelete)}, stands: true},
		{name: "between item and secret", items: &fault{operation: "DeleteItem", skip: 1, after: kill}, orphans: 1},
		{name: "before the secret", secret: &fault{operation: "DeleteSecret", answer: killed(ottDelete)}, orphans: 1},
		{name: "after the secret", secret: &fault{operation: "DeleteSecret", after: kill}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "old"), token).status)
			inject(items, test.items)
			inject(secrets, test.secret)
			require.Equal(t, http.StatusInternalServerError, ask(t, http.MethodDelete, pagePath(pageID), token).status)
			inject(items, nil)
			inject(secrets, nil)
			again := http.StatusNotFound
			if test.stands {
				assert.Equal(t, "old", registeredVersion(t, pageID), "whole")
				again = http.StatusNoContent
			}
			assert.Len(t, orphansOf(t, pageID), test.orphans)
			assert.Equal(t, again, ask(t, http.MethodDelete, pagePath(pageID), token).status)
			assert.Equal(t, http.StatusNotFound, ask(t, http.MethodGet, pagePath(pageID), token).status)
			sweep(t, pageID)
			assert.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "new"), token).status)
			assert.Equal(t, "new", registeredVersion(t, pageID))
		})
	}
}

func TestDeletionWhenAWSFails(t *testing.T) {
	const internal = `{"message":"Internal Server Error","errorcode":0,"documentation":""}`
	const unavailable = `{"message":"Service Unavailable","errorcode":0,"documentation":""}`
	items, secrets := behindProxies(t, ottDelete)
	tests := []struct {
		name    string
		items   *fault
		secret  *fault
		status  int
		body    string
		orphans int
	}{
		{name: "DynamoDB throttles three times", items: &fault{operation: "DeleteItem", times: 3, answer: awsError(400, "ProvisionedThroughputExceededException")}, status: 204},
		{name: "the answer to the item is lost", items: &fault{operation: "DeleteItem", skip: 1, after: func() {}}, status: 204},
		{name: "the answer to the secret is lost", secret: &fault{operation: "DeleteSecret", after: func() {}}, status: 204},
		{name: "Secrets Manager throttles three times", secret: &fault{operation: "DeleteSecret", times: 3, answer: awsError(400, "ThrottlingException")}, status: 204},
		{name: "DynamoDB throttles on and on", items: &fault{operation: "DeleteItem", times: -1, answer: awsError(400, "ThrottlingException")}, status: 503, body: unavailable},
		{name: "DynamoDB denies access", items: &fault{operation: "DeleteItem", times: -1, answer: awsError(400, "AccessDeniedException")}, status: 500, body: internal},
		{name: "the secret cannot be deleted", secret: &fault{operation: "DeleteSecret", times: -1, answer: awsError(400, "AccessDeniedException")}, status: 204, orphans: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, pageID := ottBearer(t), uuid.NewString()
			require.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "old"), token).status)
			inject(items, test.items)
			inject(secrets, test.secret)
			answer := ask(t, http.MethodDelete, pagePath(pageID), token)
			inject(items, nil)
			inject(secrets, nil)
			assert.Equal(t, test.status, answer.status)
			assert.Equal(t, test.body, answer.body)
			if test.status != http.StatusNoContent {
				assert.Equal(t, "old", registeredVersion(t, pageID), "whole")
				return
			}
			assert.Equal(t, http.StatusNotFound, ask(t, http.MethodGet, pagePath(pageID), token).status)
			assert.Len(t, orphansOf(t, pageID), test.orphans)
			sweep(t, pageID)
		})
	}
}

// The signing key is rotated while functions run: whoever holds a token stays logged in, and who gets a new one is let in.
func TestSigningKeyRotatedWhileFunctionsRun(t *testing.T) {
	// A process that read the old key less than a second ago does not look for another one: the tests that follow need not wait.
	defer func() {
		for _, id := range []string{
			"OttRegisterFunction", "OttListFunction", ottGet, "OttDeleteFunction", ottSend, "OttSendStatusFunction",
			"EngageTokenFunction", "EngageTokenHealthFunction", "EngageBatchFunction", "EngageStatusFunction", "EngageCancelFunction",
		} {
			bundle.Function(id).Kill()
		}
	}()
	before, pageID := ottBearer(t), uuid.NewString()
	require.Equal(t, http.StatusCreated, post(t, "/ott/v1/registration", registrationBody(pageID, "old"), before).status)
	get := func(token map[string]string) int { return ask(t, http.MethodGet, pagePath(pageID), token).status }
	require.Equal(t, http.StatusOK, get(before))
	_, err := bundle.SecretsManager().PutSecretValue(context.Background(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String(stackname.SigningKeySecret(bundle.Demo.AWS.Stack)), SecretString: aws.String("another key of sixty-four characters, or so, for a rotation: " + uuid.NewString()),
		ClientRequestToken: aws.String(uuid.NewString()),
	})
	require.NoError(t, err)
	meanwhile := ottBearer(t) // by a process that keeps the key until now
	bundle.Function("OauthTokenFunction").Kill()
	after := ottBearer(t)
	for start := time.Now(); get(after) != http.StatusOK; { // a process asks for the key again once its own is a second old
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
