package deliver_test

import (
	"io"
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
	"carillon/shared/ott"
	"carillon/shared/secret"
)

// Credentials that are replaced while a message waits, or while it is sent.
func TestSecretRotationWhileSending(t *testing.T) {
	t.Parallel()
	var o *outbox
	var valid secret.Text
	rotate := false
	o = newOutbox(t, func(_ int, w http.ResponseWriter, r *http.Request, _ string) {
		if rotate { // between the reading of the old credentials and Messenger's look at them
			rotate = false
			valid = o.register(ott.Messenger, nil).PageAccessToken
		}
		if r.URL.Query().Get("access_token") != valid.Reveal() {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":{"message":"Invalid OAuth access token.","code":190}}`)
		}
	})
	valid = o.register(ott.Messenger, nil).PageAccessToken
	first := o.accept(messengerHello())
	o.done(first)
	assert.Equal(t, "Sent", o.status(first))

	waiting := o.accept(messengerHello())
	valid = o.register(ott.Messenger, nil).PageAccessToken
	o.done(waiting)
	assert.Equal(t, "Sent", o.status(waiting), "with the credentials of now, the old ones' secret being gone")

	under := o.accept(messengerHello())
	rotate = true
	wait := o.held(under)
	assert.Equal(t, "Queued: Messenger answered 401: Invalid OAuth access token. (code 190), and the property was "+
		"registered again meanwhile", o.status(under), "refused for the old credentials alone")
	assert.Equal(
		t,
		ott.CredentialsUnknown,
		o.credentials(ott.Messenger, pageID).Name,
		"of the new ones nothing is known",
	)
	o.clock.Advance(wait)
	o.done(under)
	assert.Equal(t, "Sent", o.status(under))

	valid = secret.NewText("revoked on Messenger's side")
	last := o.accept(messengerHello())
	o.done(last)
	assert.Equal(t, "Error: Messenger answered 401: Invalid OAuth access token. (code 190)", o.status(last))
}

// A registration whose secret was removed by hand is AWS's trouble, not the message's end.
func TestDeliverWithoutCredentials(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	r, err := o.registrations.Get(t.Context(), ott.Messenger, pageID)
	require.NoError(t, err)
	_, err = emulatortest.SecretsManager().DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
		SecretId: &r.SecretName, ForceDeleteWithoutRecovery: aws.Bool(true),
	})
	require.NoError(t, err)
	id := o.accept(messengerHello())
	assert.Equal(t, time.Second, o.held(id))
	assert.Equal(t, "Queued", o.status(id))
}

// What a platform says of credentials is told to the bus, and kept, when it changes and no more often.
func TestCredentialsAreNoted(t *testing.T) {
	t.Parallel()
	var refuses atomic.Bool
	o := newOutbox(t, func(n int, w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case refuses.Load():
			status(400, `{"error":{"message":"Session has expired","code":190}}`)(n, w, r, body)
		case strings.Contains(body, "nobody"):
			status(400, `{"error":{"message":"No such user","code":100}}`)(n, w, r, body)
		case strings.Contains(body, "later"):
			status(503, "")(n, w, r, body)
		}
	})
	o.register(ott.Messenger, nil)
	send := func(text string) {
		o.handle(o.job(o.accept(strings.Replace(messengerHello(), "hello", text, 1))))
		o.clock.Advance(time.Minute)
	}
	state := func() ott.CredentialState { return o.credentials(ott.Messenger, pageID) }
	send("nobody")
	send("later")
	assert.Equal(t, ott.CredentialState{Name: ott.CredentialsUnknown}, state(), "neither says anything of them")
	assert.Empty(t, o.news.told)

	accepted := ott.CredentialState{Name: ott.CredentialsAccepted, Since: o.clock.Now()}
	send("hello")
	assert.Equal(t, accepted, state())
	send("hello")
	assert.Equal(t, []ott.CredentialState{accepted}, o.news.told)

	refuses.Store(true)
	refused := ott.CredentialState{
		Name:   ott.CredentialsRefused,
		Since:  o.clock.Now(),
		Reason: "Messenger answered 400: Session has expired (code 190)",
	}
	send("hello")
	send("hello")
	assert.Equal(t, refused, state())
	assert.Equal(t, []ott.CredentialState{accepted, refused}, o.news.told)

	refuses.Store(false)
	send("hello")
	assert.Equal(t, ott.CredentialsAccepted, state().Name)
	assert.Empty(t, state().Reason)
	require.Len(t, o.news.told, 3)
	assert.Equal(t, state(), o.news.told[2])
}

// LINE says it of the channel's secret, by its token endpoint, and of a token that it has just granted.
func TestCredentialsOfAChannel(t *testing.T) {
	t.Parallel()
	for path, reason := range map[string]string{
		"/token": "LINE's token endpoint answered 401: invalid_client", "/push": "LINE answered 401: invalid_client",
	} {
		api := newLINEAPI(t)
		api.first = func(w http.ResponseWriter, asked string) bool {
			if strings.HasSuffix(asked, path) {
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
			}
			return strings.HasSuffix(asked, path)
		}
		o := newOutbox(t, api.serve)
		api.clock = o.clock
		o.register(ott.LINE, nil)
		id := o.accept(lineHello())
		o.done(id)
		assert.Equal(t, "Error: "+reason, o.status(id))
		state := o.credentials(ott.LINE, channelID)
		assert.Equal(t, ott.CredentialState{Name: ott.CredentialsRefused, Since: o.clock.Now(), Reason: reason}, state)
		assert.Equal(t, []ott.CredentialState{state}, o.news.told)
	}
}

// The bus is told first: what it was not told is not kept, so that the next message tells it. The message itself does
// not fail by either.
func TestCredentialsAreToldAtLeastOnce(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	items := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if !fails.Load() || !strings.Contains(call.Body, "credentialsState = :state") {
				return false
			}
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}))
	o := newOutboxOn(t, items, status(200, ""))
	o.register(ott.Messenger, nil)
	send := func() {
		id := o.accept(messengerHello())
		o.done(id)
		assert.Equal(t, "Sent", o.status(id))
	}
	o.news.fails = true
	send()
	assert.Equal(t, ott.CredentialsUnknown, o.credentials(ott.Messenger, pageID).Name)
	o.news.fails = false
	fails.Store(true)
	send()
	assert.Len(t, o.news.told, 1)
	assert.Equal(t, ott.CredentialsUnknown, o.credentials(ott.Messenger, pageID).Name)
	fails.Store(false)
	o.clock.Advance(time.Minute)
	send()
	assert.Len(t, o.news.told, 2)
	assert.Equal(t, o.news.told[1], o.credentials(ott.Messenger, pageID))
	send()
	assert.Len(t, o.news.told, 2)
	assert.Equal(t, 2, strings.Count(o.log.String(), `"msg":"what the platform says of credentials is not kept yet"`))
}

// What is said of former credentials is not kept of the new ones.
func TestCredentialsOfAFormerRegistering(t *testing.T) {
	t.Parallel()
	o := newOutbox(t, status(200, ""))
	o.register(ott.Messenger, nil)
	o.news.first = func() { o.register(ott.Messenger, nil) }
	o.done(o.accept(messengerHello()))
	assert.Len(t, o.news.told, 1)
	assert.Equal(t, ott.CredentialState{Name: ott.CredentialsUnknown}, o.credentials(ott.Messenger, pageID))
}
