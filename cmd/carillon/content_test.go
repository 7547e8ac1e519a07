package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
)

const smaller = `
providers:
  - {tenant: acme-calls, aNumbers: ["+5014008029"]}
businesses:
  - {id: PA, merchantAccountKey: another}
`

func TestContentApply(t *testing.T) {
	stackName := emulatortest.Deploy(t)
	example := []string{
		"content",
		"apply",
		"--stack",
		stackName,
		"-f",
		filepath.Join("..", "..", "content.example.yaml"),
	}

	r := run(t, append(example, "--dry-run")...)
	assert.Contains(t, r.stdout, "create provider acme-calls: program 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6\n")
	assert.Contains(
		t,
		r.stdout,
		"Dry run, nothing was changed in stack "+stackName+" in us-east-1: 5 to create, 0 to update, 0 to remove, 0 unchanged.\n",
	)

	r = run(t, example...)
	assert.Contains(t, r.stdout, "create business PA: product DISNEY disney-plus\n")
	assert.Contains(t, r.stdout, "5 created, 0 updated, 0 removed, 0 unchanged.\n")

	r = run(t, example...)
	assert.Equal(
		t,
		"Applied to stack "+stackName+" in us-east-1: 0 created, 0 updated, 0 removed, 5 unchanged.\n",
		r.stdout,
	)

	r = call{stdin: smaller}.run(t, "content", "apply", "--stack", stackName, "-f", "-")
	require.Zero(t, r.status, r.stderr)
	assert.Equal(t, `update provider acme-calls: aNumbers
remove provider acme-calls: group 935b91a0-f2fb-4c43-b629-63fea6634512
remove provider acme-calls: program 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6
update business PA: merchantAccountKey
remove business PA: product DISNEY disney-plus
Applied to stack `+stackName+` in us-east-1: 0 created, 2 updated, 3 removed, 0 unchanged.
`, r.stdout)
}

func TestContentApplyAsJSON(t *testing.T) {
	r := call{
		stdin: smaller,
	}.run(
		t,
		"content",
		"apply",
		"--stack",
		emulatortest.Deploy(t),
		"-f",
		"-",
		"--dry-run",
		"-o",
		"json",
	)

	require.Zero(t, r.status, r.stderr)
	var out struct {
		DryRun bool
		Steps  []struct{ Action, Owner, What string }
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &out))
	assert.True(t, out.DryRun)
	require.Len(t, out.Steps, 2)
	assert.Equal(t, "create", out.Steps[0].Action)
}

// A file with faults changes nothing and needs no AWS to be refused.
func TestContentApplyListsAllFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "content.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`providers:
  - tenant: acme
    numbers: []
    programs:
      - {uuid: 1, name: Demo, complete: true, variables: [a b], content: {}}
`), 0o600))

	r := call{environment: []string{"AWS_REGION="}}.run(t, "content", "apply", "-f", file)

	assert.Equal(t, 1, r.status)
	assert.Empty(t, r.stdout)
	assert.Equal(t, "carillon: "+file+` has 4 faults, nothing was changed:
line 3: providers[0].numbers is not known; known here: tenant, aNumbers, aNumberGroups, programs
line 2: providers[0].aNumbers is required, [] for none
line 5: providers[0].programs[0].uuid must be a UUID
line 5: providers[0].programs[0].variables[0] must be a letter or _, then letters, digits and _, at most 128
`, r.stderr)
}
