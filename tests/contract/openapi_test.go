package contract_test

import (
	"context"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/provision"
	"carillon/tests/document"
	"carillon/tests/harness"
)

// loadOpenAPI reads the description that partners get.
func loadOpenAPI() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile(filepath.Join(harness.Root(), "openapi.yaml"))
}

func TestOpenAPIIsValidWithItsExamples(t *testing.T) {
	t.Parallel()
	description, err := loadOpenAPI()
	require.NoError(t, err)
	require.NoError(t, description.Validate(context.Background(), openapi3.EnableExamplesValidation()))
	require.Equal(t, "3.0.3", description.OpenAPI)
}

// What template.yaml routes, openapi.yaml describes, and the other way round. A route for a method that has no business
// there is answered 405.
func TestOpenAPIHasEveryEndpoint(t *testing.T) {
	t.Parallel()
	routed, described := map[string]string{}, map[string]*openapi3.Operation{} // by METHOD /path
	for name, function := range document.Load(t).Functions(t) {
		for _, route := range document.Routes(t, function) {
			routed[route] = name
		}
	}
	for path, item := range description.Paths.Map() {
		for method, operation := range item.Operations() {
			described[method+" "+path] = operation
		}
	}
	require.NotEmpty(t, routed)
	require.NotEmpty(t, described)
	for route, operation := range described {
		assert.Contains(t, routed, route, "openapi.yaml describes what template.yaml routes to no function")
		for status, response := range operation.Responses.Map() {
			require.Contains(t, response.Value.Headers, "x-request-id", "%s %s", route, status)
			require.True(t, response.Value.Headers["x-request-id"].Value.Required)
		}
	}
	for route, function := range routed {
		if described[route] != nil {
			continue
		}
		method, path, _ := strings.Cut(route, " ")
		if !assert.NotNil(
			t,
			description.Paths.Value(path),
			"openapi.yaml lacks %s of %s: describe it there",
			route,
			function,
		) {
			continue
		}
		methods := []string{method}
		if method == "ANY" {
			methods = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
		}
		for _, method := range methods {
			if described[method+" "+path] == nil {
				target := placeholder.ReplaceAllString(path, "any")
				assert.Equal(
					t,
					http.StatusMethodNotAllowed,
					bundle.Ask(t, method, target, nil).Status,
					"openapi.yaml lacks %s %s of %s: describe it there, or have the function answer 405",
					method,
					path,
					function,
				)
			}
		}
	}
}

var (
	placeholder = regexp.MustCompile(`\{[^}]*\}`)
	scopeFlags  = regexp.MustCompile(`--scope ([a-z_]+)`)
	scopeWords  = regexp.MustCompile("`([a-z]+_[a-z_]+)(?::[A-Z]{2})?`")
)

// The scopes that a client can hold are those of which openapi.yaml says what they open.
func TestOpenAPIHasEveryScope(t *testing.T) {
	t.Parallel()
	said := map[string]bool{}
	for _, scheme := range description.Components.SecuritySchemes {
		for _, word := range scopeWords.FindAllStringSubmatch(scheme.Value.Description, -1) {
			if !strings.HasPrefix(word[1], "client_") {
				said[word[1]] = true
			}
		}
		if flows := scheme.Value.Flows; flows != nil {
			for scope := range flows.ClientCredentials.Scopes {
				said[scope] = true
			}
		}
	}
	assert.ElementsMatch(t, provision.Scopes(), slices.Collect(maps.Keys(said)),
		"shared/clientauth and the security schemes of openapi.yaml: a scope is in one of them alone")
	for path, item := range description.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Security == nil {
				continue
			}
			for _, requirement := range *operation.Security {
				for _, scopes := range requirement {
					assert.Subset(t, provision.Scopes(), scopes, "%s %s", method, path)
				}
			}
		}
	}
}

// The clients that README.md adds have scopes that there are.
func TestREADMEKnowsItsScopes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "README.md"))
	require.NoError(t, err)
	for _, shown := range scopeFlags.FindAllStringSubmatch(string(text), -1) {
		assert.Contains(t, provision.Scopes(), shown[1], "README.md: there is no such scope")
	}
}
