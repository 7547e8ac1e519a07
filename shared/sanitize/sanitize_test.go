package sanitize_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"carillon/shared/sanitize"
)

func TestText(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"plain":            {"number not in service", "number not in service"},
		"empty":            {"", ""},
		"blank":            {" \t\r\n", ""},
		"lines":            {"one\r\ntwo\u2028three\tfour", "one two three four"},
		"runs of space":    {"  a \n\n b  ", "a b"},
		"control":          {"a\x00b\x1b[31mc", "ab[31mc"},
		"bidirectional":    {"a\u202eb\u200bc", "abc"},
		"not UTF-8":        {"a\xffb", "ab"},
		"other scripts":    {"Ça ira, 鐘", "Ça ira, 鐘"},
		"as long as may":   {strings.Repeat("é", 30), strings.Repeat("é", 30)},
		"longer than that": {strings.Repeat("é", 31), strings.Repeat("é", 29) + "…"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, sanitize.Text(test.text, 30)) })
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\r\nb\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		clean := sanitize.Text(text, 30)
		if !utf8.ValidString(clean) || utf8.RuneCountInString(clean) > 30 {
			t.Fatalf("%q", clean)
		}
		if strings.ContainsFunc(clean, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q", clean)
		}
		if again := sanitize.Text(clean, 30); again != clean {
			t.Fatalf("%q becomes %q", clean, again)
		}
	})
}
