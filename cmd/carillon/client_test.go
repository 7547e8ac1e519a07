package main_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
)

func TestTheLifeOfAClient(t *testing.T) {
	stackName := emulatortest.Deploy(t)
	flags := []string{"--stack", stackName}
	add := append(
		[]string{
			"client",
			"add",
			"acme-ott",
			"--tenant",
			"acme",
			"--scope",
			"ott_registration_write",
			"--scope=dxp_product:PA",
		},
		flags...)

	r := run(t, append([]string{"client", "list"}, flags...)...)
	assert.Empty(t, r.stdout)
	assert.Contains(t, r.stderr, "No clients in stack "+stackName)

	r = run(t, add...)
	first := r.stdout
	assert.Regexp(t, `^[A-Za-z0-9_-]{43}\n$`, first, "the secret alone, to be piped")
	assert.Contains(t, r.stderr, "Added client acme-ott of tenant acme to stack "+stackName+" in us-east-1")
	assert.NotContains(t, r.stderr, strings.TrimSpace(first))

	again := call{}.run(t, add...)
	assert.Equal(t, 1, again.status)
	assert.Empty(t, again.stdout)
	assert.Contains(t, again.stderr, `client "acme-ott": client exists already. `+"`carillon client rotate`")

	r = run(t, append([]string{"client", "list"}, flags...)...)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Len(t, lines, 2)
	assert.Equal(t, []string{"CLIENT", "TENANT", "SCOPES", "CREATED", "ROTATED"}, strings.Fields(lines[0]))
	assert.Regexp(
		t,
		`^acme-ott +acme +ott_registration_write,dxp_product:PA +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ +-$`,
		lines[1],
	)

	r = run(t, append([]string{"client", "rotate", "acme-ott", "--window", "2h"}, flags...)...)
	second := r.stdout
	assert.Regexp(t, `^[A-Za-z0-9_-]{43}\n$`, second)
	assert.NotEqual(t, first, second)
	assert.Contains(
		t,
		r.stderr,
		"The secret until now stays valid until "+time.Now().UTC().Add(2*time.Hour).Format("2006-01-02"),
	)
	assert.NotContains(t, r.stderr, "second rotation")

	r = run(t, append([]string{"client", "rotate", "acme-ott"}, flags...)...)
	assert.Contains(t, r.stderr, "has stopped working with this second rotation")

	r = run(t, append([]string{"client", "list", "-o", "json"}, flags...)...)
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &list))
	require.Len(t, list, 1)
	assert.Equal(t, "acme-ott", list[0]["clientId"])
	assert.NotEmpty(t, list[0]["rotated"])
	assert.NotContains(t, r.stdout, "ecret")

	r = run(t, append([]string{"client", "remove", "acme-ott"}, flags...)...)
	assert.Empty(t, r.stdout)
	assert.Contains(t, r.stderr, "Removed client acme-ott")

	run(t, add...)
}

func TestCredentialsAsJSON(t *testing.T) {
	stackName := emulatortest.Deploy(t)
	type issued struct {
		ClientID, ClientSecret, Tenant string
		Scopes                         []string
		PreviousValidUntil             time.Time
	}
	read := func(r result) (out issued) {
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &out))
		return out
	}

	added := read(
		run(
			t,
			"client",
			"add",
			"acme-engage",
			"--tenant",
			"acme",
			"--scope",
			"engage_inform",
			"-o",
			"json",
			"--stack",
			stackName,
		),
	)
	rotated := read(run(t, "client", "rotate", "acme-engage", "--output=json", "--stack", stackName))

	assert.Len(t, added.ClientSecret, 43)
	assert.Equal(t, issued{"acme-engage", added.ClientSecret, "acme", []string{"engage_inform"}, time.Time{}}, added)
	assert.NotEqual(t, added.ClientSecret, rotated.ClientSecret)
	assert.WithinDuration(t, time.Now().Add(24*time.Hour), rotated.PreviousValidUntil, time.Minute)
}
