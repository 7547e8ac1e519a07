// Package readme_test runs what README.md tells a newcomer to paste.
package readme_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/tests/harness"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

func TestTheCurlLinesOfTheREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## One call for each API\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var script strings.Builder
	for _, block := range shellBlock.FindAllStringSubmatch(section, -1) {
		script.WriteString(block[1])
	}

	// As pasted, but for where this bundle is.
	demoFile := filepath.Join(t.TempDir(), "demo.json")
	bundle := harness.StartFor(t, local.Options{Stack: "carillon-readme", DemoFile: demoFile})
	lines := script.String()
	for pasted, here := range map[string]string{"http://127.0.0.1:3000": bundle.BaseURL, ".local/demo.json": demoFile} {
		require.Contains(t, lines, pasted)
		lines = strings.ReplaceAll(lines, pasted, here)
	}
	command := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail")
	command.Stdin = strings.NewReader(lines)
	output, err := command.Output()
	require.NoError(t, err, "%s", output)
	assert.Contains(t, string(output), "HTTP/1.1 201 Created")
	assert.Regexp(
		t,
		`\{"response":"success","message":null,"errorCode":"","requestId":"[0-9a-f-]{36}"\}`,
		string(output),
	)
	assert.Regexp(t, `\{"id":"[0-9a-f-]{36}","href":"http://[^"]+","status":"created",`, string(output))
}
