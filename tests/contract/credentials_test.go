package contract_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
)

// A token opens the API that granted it and no other.
func TestTokenOfAnotherAPI(t *testing.T) {
	t.Parallel()
	ott, engage := ottBearer(t, bundle.Demo.OTT, ""), engageBearer(t, bundle.Demo.Engage.DemoClient)
	require.Equal(t, 401, send(t, registration, messengerPage().text(t), "Authorization", engage).status)
	require.Equal(t, 401, send(t, health, "", "Authorization", ott).status)
	require.Equal(t, 401, send(t, demoProgram(), demoBatch().text(t), "Authorization", ott).status)
	for _, bearer := range []string{ott, engage} {
		require.Equal(t, 401, send(t, inPanama(), demoProduct().text(t), "Authorization", bearer, "X-Correlation-ID", unique()).status)
		require.Equal(t, 401, createAs(t, local.DemoClient{ClientID: bundle.Demo.Product.ClientID, ClientSecret: bearer}, inPanama(), unique(), demoProduct().text(t)).status)
	}
}

// A client gets a token of its own API and no other.
func TestClientOfAnotherAPI(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo
	for _, c := range []local.DemoClient{demo.Engage.DemoClient, demo.Product.DemoClient} {
		a := send(t, ottToken, object{"grant_type": "client_credentials", "client_id": c.ClientID, "client_secret": c.ClientSecret}.text(t))
		require.Equal(t, 400, a.status, "%s", a.body)
		require.Equal(t, "invalid_scope", a.json(t)["error"])
	}
	for _, c := range []local.DemoClient{demo.OTT, demo.Product.DemoClient} {
		requireEngageRefusal(t, send(t, engageToken, engageCredentials(t, c), "X-Federated-Purpose", "inform"), 500)
	}
}

// contract.md §2: unknown client and wrong secret must be indistinguishable, in time too. So it is of every API.
// Parallel with itself alone: what is measured is the time that an answer takes.
func TestUnknownClientAndWrongSecretAreAlike(t *testing.T) {
	const rounds = 5
	demo := bundle.Demo
	for name, test := range map[string]struct {
		known string
		ask   func(t *testing.T, clientID string) answer
	}{
		"POST /v2/token": {demo.OTT.ClientID, func(t *testing.T, id string) answer {
			return send(t, ottToken, ottCredentials().set(id, "client_id").set("wrong-secret", "client_secret").text(t))
		}},
		"POST /federated/content/v2/token": {demo.Engage.ClientID, func(t *testing.T, id string) answer {
			return send(t, engageToken, object{"clientId": id, "clientSecret": "wrong-secret"}.text(t), "X-Federated-Purpose", "inform")
		}},
		"POST /dxp-ux/v1/{businessId}/product": {demo.Product.ClientID, func(t *testing.T, id string) answer {
			return createAs(t, local.DemoClient{ClientID: id, ClientSecret: "wrong-secret"}, inPanama(), "the-same", demoProduct().text(t))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			warm := test.ask(t, test.known) // the process runs, and has looked the known client up
			var unknown, wrong []time.Duration
			for range rounds {
				u, w := test.ask(t, "nobody-"+unique()), test.ask(t, test.known)
				unknown, wrong = append(unknown, u.took), append(wrong, w.took)
				for _, a := range []answer{u, w} {
					require.Equal(t, warm.status, a.status)
					require.Equal(t, anonymous(warm), anonymous(a))
					require.Equal(t, headersOf(warm), headersOf(a))
				}
			}
			// A look-up takes many times as long as an answer from memory; the factor leaves room for a busy machine.
			shorter, longer := median(unknown), median(wrong)
			if shorter > longer {
				shorter, longer = longer, shorter
			}
			assert.Less(t, longer, shorter*9/5, "unknown %v, wrong %v", unknown, wrong)
		})
	}
}

// anonymous is a body without its request id.
func anonymous(a answer) string { return strings.ReplaceAll(string(a.body), a.requestID(), "…") }

// headersOf are an answer's headers but those that no two answers share.
func headersOf(a answer) map[string][]string {
	header := a.header.Clone()
	for _, name := range []string{"X-Request-Id", "Apigw-Requestid", "Date"} {
		header.Del(name)
	}
	return header
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
