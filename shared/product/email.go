package product

import (
	"net/mail"
	"strings"

	"carillon/shared/hostname"
)

// Limits of an address in characters (RFC 5321 §4.5.3.1).
const (
	maxEmail     = 254
	maxLocalPart = 64
)

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
	return at <= maxLocalPart && !strings.ContainsAny(text[:at], "\"\\ ()<>[]:;,@") && isMailDomain(text[at+1:])
}

// isMailDomain reports whether text is a full host name. Unlike others, those that get mail have no underscore.
func isMailDomain(text string) bool {
	return hostname.IsFull(strings.ToLower(text)) && !strings.Contains(text, "_")
}

func notPrintableASCII(r rune) bool { return r < ' ' || r > '~' }
