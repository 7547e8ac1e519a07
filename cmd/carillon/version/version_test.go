package version_test

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"

	"carillon/cmd/carillon/version"
)

func TestText(t *testing.T) {
	const revision = "19378e08f8dc2194ed7cf9d7d50b8c63fb888ca8"
	build := func(mainVersion string, settings ...string) *debug.BuildInfo {
		info := &debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Path: "carillon", Version: mainVersion}}
		for i := 0; i < len(settings); i += 2 {
			info.Settings = append(info.Settings, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return info
	}
	tests := map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"a commit that no tag precedes": {
			build(
				"v0.0.0-20261122101500-19378e08f8dc",
				"vcs",
				"git",
				"vcs.revision",
				revision,
				"vcs.modified",
				"false",
			),
			"v0.0.0 (commit 19378e0, go1.26)",
		},
		"with changes": {
			build("v0.0.0-20261122101500-19378e08f8dc+dirty", "vcs.revision", revision, "vcs.modified", "true"),
			"v0.0.0 (commit 19378e0 modified, go1.26)",
		},
		"a release": {
			build("v1.2.3", "vcs.revision", revision, "vcs.modified", "false"),
			"v1.2.3 (commit 19378e0, go1.26)",
		},
		"a release, changed": {
			build("v1.2.3+dirty", "vcs.revision", revision, "vcs.modified", "true"),
			"v1.2.3 (commit 19378e0 modified, go1.26)",
		},
		"behind a release": {
			build("v1.2.4-0.20261122101500-19378e08f8dc", "vcs.revision", revision),
			"v1.2.4-0.20261122101500-19378e08f8dc (commit 19378e0, go1.26)",
		},
		"go run":               {build("(devel)", "-compiler", "gc"), "(devel) (commit unknown, go1.26)"},
		"a test's binary":      {build(""), "(devel) (commit unknown, go1.26)"},
		"a short commit":       {build("(devel)", "vcs.revision", "19"), "(devel) (commit 19, go1.26)"},
		"no build information": {nil, "(devel) (commit unknown, unknown Go)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, version.Text(test.info)) })
	}
}
