package product

import (
	"net/mail"
	"regexp"
	"strings"
	"sync"
)

// Limits of an address in characters (RFC 5321 §4.5.3.1).
const (
	maxEmail     = 254
	maxLocalPart = 64
)

// mailDomain is a domain with a dot, of letters, digits and hyphens, whose last label is no number. It is compiled when the
// first address comes, because a cold start would wait for it.
var mailDomain = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
})

// isEmailAddress reports whether text is an address that a mail's header and SES take as it is: ASCII, local@domain and
// nothing around it; no quoted local part, comment, display name, line break, domain literal or encoded word.
func isEmailAddress(text string) bool {
	if len(text) > maxEmail || strings.Contains(text, "=?") || strings.ContainsFunc(text, notPrintableASCII) {
		return false
	}
	address, err := mail.ParseAddress(text)
	if err != nil || address.Name != "" || address.Address != text {
		return false
	}
	at := strings.LastIndexByte(text, '@')
	return at <= maxLocalPart && !strings.ContainsAny(text[:at], "\"\\ ()<>[]:;,@") && mailDomain().MatchString(text[at+1:])
}

func notPrintableASCII(r rune) bool { return r < ' ' || r > '~' }
