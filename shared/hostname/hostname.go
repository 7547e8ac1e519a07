// Package hostname judges the names of hosts.
package hostname

import (
	"net/netip"
	"strings"
)

// Limits of a name and its labels in characters (RFC 1035 §2.3.4).
const (
	maxName  = 253
	maxLabel = 63
)

// IsFull reports whether a text is a full host name in small letters: two labels or more of letters, digits and
// hyphens, the last of which is no number in any notation, for URL parsers read 127.1 and 0x7f.0.0.1 as addresses
// (WHATWG URL, "ends in a number"). The underscore is no host's but is met, so it is taken.
//
// It is no regular expression, because a cold start would wait for that.
func IsFull(text string) bool {
	labels := strings.Split(text, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return false
		}
	}
	return len(text) <= maxName && len(labels) > 1 && !isNumber(labels[len(labels)-1])
}

func isNumber(label string) bool {
	digits, hex := strings.CutPrefix(label, "0x")
	if hex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// IsThisMachine reports whether a URL's host is a loopback address or name, or Docker's name for the machine that a
// container runs on (sam local): a stand-in there is spoken to without TLS, a partner never.
func IsThisMachine(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback() || host == "localhost" || host == "host.docker.internal"
}
