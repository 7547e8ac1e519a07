package contract_test

import (
	"context"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// loadOpenAPI reads the description that partners get.
func loadOpenAPI() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile("../../openapi.yaml")
}

func TestOpenAPIIsValidWithItsExamples(t *testing.T) {
	t.Parallel()
	description, err := loadOpenAPI()
	require.NoError(t, err)
	require.NoError(t, description.Validate(context.Background(), openapi3.EnableExamplesValidation()))
	require.Equal(t, "3.0.3", description.OpenAPI)
}

func TestOpenAPIHasEveryEndpoint(t *testing.T) {
	t.Parallel()
	description, err := loadOpenAPI()
	require.NoError(t, err)
	for _, endpoint := range []struct{ method, path string }{
		{"POST", "/v2/token"},
		{"POST", "/ott/v1/registration"},
		{"GET", "/ott/v1/registration/{platform}"},
		{"GET", "/ott/v1/registration/{platform}/{ottPropertyId}"},
		{"DELETE", "/ott/v1/registration/{platform}/{ottPropertyId}"},
		{"POST", "/ott/v1/send"},
		{"GET", "/ott/v1/send/{messageId}"},
		{"GET", "/ott/v1/callback/{platform}/{ottPropertyId}"},
		{"POST", "/ott/v1/callback/{platform}/{ottPropertyId}"},
		{"POST", "/federated/content/v2/token"},
		{"GET", "/federated/content/v2/token/health"},
		{"POST", "/federated/outbound/v2/batch"},
		{"GET", "/federated/outbound/v2/batch/{requestId}"},
		{"DELETE", "/federated/outbound/v2/batch/{requestId}"},
		{"POST", "/dxp-ux/v1/{businessId}/product"},
		{"GET", "/dxp-ux/v1/{businessId}/product"},
		{"GET", "/dxp-ux/v1/{businessId}/product/{id}"},
	} {
		item := description.Paths.Value(endpoint.path)
		require.NotNil(t, item, endpoint.path)
		operation := item.GetOperation(endpoint.method)
		require.NotNil(t, operation, "%s %s", endpoint.method, endpoint.path)
		for status, response := range operation.Responses.Map() {
			require.Contains(t, response.Value.Headers, "x-request-id", "%s %s %s", endpoint.method, endpoint.path, status)
			require.True(t, response.Value.Headers["x-request-id"].Value.Required)
		}
	}
}
