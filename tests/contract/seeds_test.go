package contract_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seed reads an example of the partners' guides as they print it.
func seed(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	return string(raw)
}

// without removes the line of a member that an example is to lack.
func without(t *testing.T, example, member string) string {
	t.Helper()
	cut := regexp.MustCompile(`(?m)^\s*"`+member+`"\s*:\s*([^\[\n]*,|\[[^\]]*\],)\n`).ReplaceAllString(example, "")
	require.NotEqual(t, example, cut)
	return cut
}

// generated are the members whose values no example can foresee.
var generated = regexp.MustCompile(`"(requestId|accessToken)":"[^"]+"`)

// comparableJSON takes white space and generated values out of JSON; the order of members and the types of values stay.
func comparableJSON(t *testing.T, text []byte) string {
	t.Helper()
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, text), "%s", text)
	return generated.ReplaceAllString(compact.String(), `"$1":"…"`)
}

func requireSeed(t *testing.T, name string, status int, a answer) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s", a.Body)
	require.Equal(t, comparableJSON(t, []byte(seed(t, name))), comparableJSON(t, []byte(a.Body)))
}

// Seed 001: the example requests get the example answers.
func TestSeedRegistration(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"03d537gg656gvkbe9b430f002e9c4517", "someaccesstoken4fasdcruib213123knubkdnfisdubnu12312ub3pijnb", "this_is_the_verify_token", "31234arajcauoherbasuhb213ijqjohbjhb123"} {
		secrets.add(secret)
	}
	for _, name := range []string{"seed-001-messenger-request", "seed-001-line-request"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 2 { // the second overrides the first
				require.Equal(t, 201, register(t, seed(t, name)).Status) // without a body: openapi.yaml knows
			}
		})
	}
	t.Run("error", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"seed-001-messenger-request", "seed-001-line-request"} {
			request := without(t, without(t, seed(t, name), "endpointUrl"), "ottPlatformName")
			requireSeed(t, "seed-001-error-answer", 400, register(t, request))
		}
	})
}

// Seed 002: the example requests get the example answers.
func TestSeedEngage(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo.Engage
	token := strings.NewReplacer("<clientId>", demo.ClientID, "<clientSecret>", demo.ClientSecret).
		Replace(seed(t, "seed-002-token-request"))
	program := withProgram("3e1b9b27-d1f9-4c8d-800f-bb534d6928d6")
	t.Run("Get Token", func(t *testing.T) {
		t.Parallel()
		a := send(t, engageToken, token, "X-Federated-Purpose", "inform")
		requireSeed(t, "seed-002-token-answer", 200, a)
		secrets.add(a.Object(t)["accessToken"].(string))
	})
	t.Run("Get Token: missing clientId", func(t *testing.T) {
		t.Parallel()
		requireSeed(
			t,
			"seed-002-token-refused-answer",
			500,
			send(t, engageToken, without(t, token, "clientId"), "X-Federated-Purpose", "inform"),
		)
	})
	t.Run("Check Token Health", func(t *testing.T) {
		t.Parallel()
		bearer := engageBearer(t, demo.DemoClient)
		requireSeed(
			t,
			"seed-002-health-answer",
			200,
			send(t, health, "", "Authorization", bearer, "Content-Type", "application/json"),
		)
		require.Equal(
			t,
			401,
			send(t, health, "", "Authorization", bearer+"x", "Content-Type", "application/json").Status,
		)
	})
	for name, request := range map[string]string{"list": seed(t, "seed-002-batch-anumbers-request"), "group": seed(t, "seed-002-batch-group-request")} {
		t.Run("Batch Push: "+name, func(t *testing.T) {
			t.Parallel()
			requireSeed(t, "seed-002-batch-answer", 200, push(t, program, request))
			requireSeed(t, "seed-002-batch-program-answer", 400, push(t, withProgram(incompleteProgram), request))
			require.Equal(t, 401, send(t, program, request, "Authorization", "Bearer invalid").Status)
		})
	}
	t.Run("Batch Push: an aNumber of somebody else", func(t *testing.T) {
		t.Parallel()
		request := strings.Replace(
			seed(t, "seed-002-batch-anumbers-request"),
			"+5013509988",
			bundle.Demo.EngageOther.ANumbers[0],
			1,
		)
		requireSeed(t, "seed-002-batch-not-allowed-answer", 200, push(t, program, request))
	})
	t.Run("Batch Push: no aNumbers", func(t *testing.T) {
		t.Parallel()
		requireSeed(
			t,
			"seed-002-batch-no-numbers-answer",
			400,
			push(t, program, without(t, seed(t, "seed-002-batch-anumbers-request"), "aNumbers")),
		)
		requireSeed(
			t,
			"seed-002-batch-no-numbers-answer",
			400,
			push(t, program, without(t, seed(t, "seed-002-batch-group-request"), "aNumberGroupId")),
		)
	})
}

// Seed 003 prints no request; its error scenarios get its answers.
func TestSeedProduct(t *testing.T) {
	t.Parallel()
	require.Equal(t, "PA", bundle.Demo.Product.BusinessID)
	require.Equal(t, "DISNEY", bundle.Demo.Product.ReferredType)
	requireSeed(t, "seed-003-type-answer", 400, create(t, demoProduct().set("TTO", "@type").text(t)))
	requireSeed(t, "seed-003-type-answer", 400, create(t, demoProduct().without("@type").text(t)))
	requireSeed(
		t,
		"seed-003-referred-type-answer",
		400,
		create(t, demoProduct().set("YENSID", "@referredType").text(t)),
	)
}
