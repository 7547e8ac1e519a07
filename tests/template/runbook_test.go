package template_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/tests/document"
)

// runbookPage is how an alarm's description ends: behind its sentences, so that who is woken reads them first.
var runbookPage = regexp.MustCompile(`\S\. Runbook: docs/runbook/([a-z-]+)\.md$`)

// maxAlarmDescription is CloudWatch's limit, in characters.
const maxAlarmDescription = 1024

func TestEveryAlarmNamesItsRunbookPageAndEveryPageItsAlarm(t *testing.T) {
	pages := map[string]string{}
	for id, alarm := range document.Load(t).OfType(t, "AWS::CloudWatch::Alarm") {
		description := document.Text(document.At(t, alarm, "Properties", "AlarmDescription"))
		assert.LessOrEqual(t, len([]rune(description)), maxAlarmDescription, id)
		match := runbookPage.FindStringSubmatch(description)
		if !assert.NotNil(t, match, "%s: %q does not end with a page of the runbook", id, description) {
			continue
		}
		assert.Equal(t, document.Folder(strings.TrimSuffix(id, "Alarm")), match[1], "a page has its alarm's name")
		pages[match[1]] = id
	}

	index, err := os.ReadFile(filepath.Join(root, "docs/runbook/README.md"))
	require.NoError(t, err)
	var written []string
	files, err := filepath.Glob(filepath.Join(root, "docs/runbook/*.md"))
	require.NoError(t, err)
	for _, file := range files {
		page := strings.TrimSuffix(filepath.Base(file), ".md")
		if page == "README" {
			continue
		}
		written = append(written, page)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		title, _, _ := strings.Cut(string(content), "\n")
		assert.Equal(t, "# "+pages[page], title, "%s.md belongs to an alarm and says to which", page)
		assert.Contains(t, string(index), "["+pages[page]+"]("+page+".md)", "the index leads to every page")
	}
	for page, id := range pages {
		assert.Contains(t, written, page, "%s has no page", id)
	}
}
