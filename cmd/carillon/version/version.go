// Package version says in a line what a command was built from.
package version

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"
)

// shownCommit is how many characters of a commit are shown, as many as git shows.
const shownCommit = 7

// untagged is the version that Go makes up for a commit that no tag precedes: time and commit are in it.
var untagged = regexp.MustCompile(`^v0\.0\.0-[0-9]{14}-[0-9a-f]{12}$`)

// Text returns the version of a build, its commit, and the Go it was built with: v0.0.0 (commit 19378e0, go1.26).
// Behind the commit it says modified if the tree held changes that were not committed. What a build does not know, Text
// does not guess: the version is then (devel) and the commit unknown, as after go run, which records neither. info may
// be nil.
func Text(info *debug.BuildInfo) string {
	if info == nil {
		info = &debug.BuildInfo{}
	}
	version, _, _ := strings.Cut(info.Main.Version, "+dirty") // the commit says so
	if untagged.MatchString(version) {
		version = "v0.0.0"
	}
	return fmt.Sprintf(
		"%s (commit %s, %s)",
		cmp.Or(version, "(devel)"),
		commit(info),
		cmp.Or(info.GoVersion, "unknown Go"),
	)
}

func commit(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		return "unknown"
	}
	text := revision[:min(shownCommit, len(revision))]
	if settings["vcs.modified"] == "true" {
		text += " modified"
	}
	return text
}
