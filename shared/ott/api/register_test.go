package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"carillon/shared/ott/api"
	"carillon/shared/ott/otttest"
	"carillon/shared/secret"
)

// The whole call, from the body to the tables: 201 with an empty body.
func TestRegister(t *testing.T) {
	r := otttest.NewRegistry(t)
	handler := &api.RegisterHandler{
		Tokens: api.NewAuthority(secret.NewCache(vault{}), keyName), Registrations: r.Registrations,
	}
	e := newEndpoint(handler.Serve, api.EncodeError)
	for _, seed := range []string{otttest.SeedMessenger, otttest.SeedLINE, otttest.SeedLINE} {
		answer := e.post(t, seed, map[string]string{
			"authorization": bearer(t, writeScope), "content-type": "application/json",
		})
		assert.Equal(t, http.StatusCreated, answer.StatusCode)
		assert.Empty(t, answer.Body)
		assert.NotContains(t, answer.Headers, "content-type")
	}
	assert.Len(t, r.All(), 2)
	assert.Len(t, r.Live(), 2)
	assert.Contains(t, e.log.String(), `"client":"ott-client"`)
	assert.NotContains(t, e.log.String(), "03d537gg656gvkbe9b430f002e9c4517")
}
