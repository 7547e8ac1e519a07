package contract_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/tests/harness"
)

// A token opens the API that granted it and no other.
func TestTokenOfAnotherAPI(t *testing.T) {
	t.Parallel()
	ott, engage := ottBearer(t, bundle.Demo.OTT, ""), engageBearer(t, bundle.Demo.Engage.DemoClient)
	require.Equal(t, 401, send(t, registration, messengerPage().text(t), "Authorization", engage).Status)
	require.Equal(t, 401, send(t, health, "", "Authorization", ott).Status)
	require.Equal(t, 401, send(t, demoProgram(), demoBatch().text(t), "Authorization", ott).Status)
	for _, bearer := range []string{ott, engage} {
		require.Equal(
			t,
			401,
			send(t, inPanama(), demoProduct().text(t), "Authorization", bearer, "X-Correlation-ID", unique()).Status,
		)
		require.Equal(
			t,
			401,
			createAs(
				t,
				local.DemoClient{ClientID: bundle.Demo.Product.ClientID, ClientSecret: bearer},
				inPanama(),
				unique(),
				demoProduct().text(t),
			).Status,
		)
	}
}

// A client gets a token of its own API and no other.
func TestClientOfAnotherAPI(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo
	for _, c := range []local.DemoClient{demo.Engage.DemoClient, demo.Product.DemoClient} {
		a := send(
			t,
			ottToken,
			object{
				"grant_type":    "client_credentials",
				"client_id":     c.ClientID,
				"client_secret": c.ClientSecret,
			}.text(
				t,
			),
		)
		require.Equal(t, 400, a.Status, "%s", a.Body)
		require.Equal(t, "invalid_scope", a.Object(t)["error"])
	}
	for _, c := range []local.DemoClient{demo.OTT, demo.Product.DemoClient} {
		requireEngageRefusal(t, send(t, engageToken, harness.EngageGrant(c), "X-Federated-Purpose", "inform"), 500)
	}
}

// guess asks an API with a wrong secret. Every API has one.
type guess struct {
	known string // a client that there is
	ask   func(t testing.TB, clientID string) answer
}

func guesses() map[string]guess {
	demo := bundle.Demo
	return map[string]guess{
		"POST /v2/token": {demo.OTT.ClientID, func(t testing.TB, id string) answer {
			return send(t, ottToken, ottCredentials().set(id, "client_id").set("wrong-secret", "client_secret").text(t))
		}},
		"POST /federated/content/v2/token": {demo.Engage.ClientID, func(t testing.TB, id string) answer {
			return send(
				t,
				engageToken,
				object{"clientId": id, "clientSecret": "wrong-secret"}.text(t),
				"X-Federated-Purpose",
				"inform",
			)
		}},
		"POST /dxp-ux/v1/{businessId}/product": {demo.Product.ClientID, func(t testing.TB, id string) answer {
			client := local.DemoClient{ClientID: id, ClientSecret: "wrong-secret"}
			return createAs(t, client, inPanama(), "the-same", demoProduct().text(t))
		}},
	}
}

// docs/contract.md §2: unknown client and wrong secret must be indistinguishable, in time too. So it is of every API. A
// refusal is given at a whole multiple of a step after the question: that it is so however long a look-up takes is
// tested where it is made, without a clock of this world. Here it shows that every API's refusals are given so, for an
// answer from memory takes a hundredth of the step. How alike the times are is a measurement, see BenchmarkRefusals.
func TestUnknownClientAndWrongSecretAreAlike(t *testing.T) {
	t.Parallel()
	const step = 250 * time.Millisecond
	for name, g := range guesses() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := g.ask(t, g.known) // looks the known client up, the next one need not
			for _, id := range []string{"nobody-" + unique(), g.known} {
				a := g.ask(t, id)
				require.Equal(t, first.Status, a.Status)
				require.Equal(t, anonymous(first), anonymous(a))
				require.Equal(t, headersOf(first), headersOf(a))
				require.GreaterOrEqual(t, a.Took, step, id)
			}
		})
	}
}

// BenchmarkRefusals prints the median time of a refusal for an unknown client and for a wrong secret, which are alike
// on a quiet machine: 1.00 is their ratio.
func BenchmarkRefusals(b *testing.B) {
	for name, g := range guesses() {
		b.Run(name, func(b *testing.B) {
			g.ask(b, g.known)
			var unknown, wrong []time.Duration
			for b.Loop() {
				unknown = append(unknown, g.ask(b, "nobody-"+unique()).Took)
				wrong = append(wrong, g.ask(b, g.known).Took)
			}
			u, w := median(unknown), median(wrong)
			b.ReportMetric(float64(u.Microseconds())/1000, "unknown-ms")
			b.ReportMetric(float64(w.Microseconds())/1000, "wrong-ms")
			b.ReportMetric(float64(u)/float64(w), "ratio")
		})
	}
}

// anonymous is a body without its request id.
func anonymous(a answer) string { return strings.ReplaceAll(a.Body, a.RequestID(), "…") }

// headersOf are an answer's headers but those that no two answers share.
func headersOf(a answer) map[string][]string {
	header := a.Header.Clone()
	for _, name := range []string{"X-Request-Id", "Apigw-Requestid", "Date"} {
		header.Del(name)
	}
	return header
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
