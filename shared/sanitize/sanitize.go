// Package sanitize makes texts from elsewhere fit to be kept, logged and shown.
package sanitize

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxReason is how much is kept of what a partner gives as its reason, in characters.
const MaxReason = 256

// Text returns a text as one line of printable characters, at most limit of them: every run of white space and control
// characters that separate is a space, what cannot be shown is left out, and an ellipsis ends a text that was cut.
func Text(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) > limit {
		text = string([]rune(text)[:limit-1]) + "…"
	}
	return text
}
