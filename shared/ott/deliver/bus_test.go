package deliver_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/ott"
	"carillon/shared/ott/deliver"
	"carillon/shared/stackname"
)

// What a rule on the bundle's bus sees of credentials.
func TestBus(t *testing.T) {
	t.Parallel()
	r := ott.StoredRegistration{
		Registration: ott.Registration{Platform: ott.LINE, PropertyID: channelID, Name: "not told"},
		Tenant:       "acme", SecretName: "not told",
	}
	since := time.Date(2026, 1, 2, 3, 4, 5, 60_000_000, time.FixedZone("", 3600))
	stack := emulatortest.Deploy(t)
	answer, code := "", http.StatusOK
	var bodies []string
	endpoint := emulatortest.Between(t, emulatortest.AWSEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			bodies = append(bodies, call.Body)
			if answer != "" {
				w.WriteHeader(code)
				_, _ = w.Write([]byte(answer))
			}
			return answer != ""
		})
	bus := deliver.NewBus(emulatortest.EventBridgeAt(endpoint), stackname.EventBus(stack))
	for state, want := range map[ott.CredentialState]string{
		{Name: ott.CredentialsAccepted, Since: since}: `{"tenant":"acme","platform":"line","ottPropertyId":"` + channelID +
			`","state":"accepted","since":"2026-01-02T02:04:05.06Z"}`,
		{Name: ott.CredentialsRefused, Since: since, Reason: "LINE answered 401"}: `{"tenant":"acme","platform":"line",` +
			`"ottPropertyId":"` + channelID + `","state":"refused","since":"2026-01-02T02:04:05.06Z",` +
			`"reason":"LINE answered 401"}`,
	} {
		bodies = nil
		require.NoError(t, bus.PutCredentials(t.Context(), r, state), "the bus takes it")
		require.Len(t, bodies, 1)
		var body struct {
			Entries []struct{ Source, DetailType, Detail, EventBusName string }
		}
		require.NoError(t, json.Unmarshal([]byte(bodies[0]), &body))
		require.Len(t, body.Entries, 1)
		entry := body.Entries[0]
		assert.Equal(t, "carillon.ott", entry.Source)
		assert.Equal(t, "Credentials State Change", entry.DetailType)
		assert.Equal(t, stackname.EventBus(stack), entry.EventBusName)
		assert.Equal(t, want, entry.Detail)
	}
	answer = `{"FailedEntryCount":1,"Entries":[{"ErrorCode":"ThrottlingException","ErrorMessage":"m"}]}`
	assert.EqualError(t, bus.PutCredentials(t.Context(), r, ott.CredentialState{Since: since}),
		"deliver: EventBridge refused an event: ThrottlingException")
	answer, code = `{}`, http.StatusInternalServerError
	assert.Error(t, bus.PutCredentials(t.Context(), r, ott.CredentialState{Since: since}))
}
