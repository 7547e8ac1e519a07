package product

import (
	"fmt"
	"net/url"
	"strings"
)

// ActivationHosts are the hosts that an activation link may have: a mail of ours carries it, so not every host will do.
type ActivationHosts struct {
	any      bool
	exact    map[string]bool
	suffixes []string // ".example.com"
}

// ParseActivationHosts reads patterns: a host name, *.example.com for every host below example.com but not itself, or *
// for every host. It returns an error for a pattern that is none of these.
func ParseActivationHosts(patterns []string) (ActivationHosts, error) {
	hosts := ActivationHosts{exact: map[string]bool{}}
	for _, pattern := range patterns {
		below, wildcard := strings.CutPrefix(strings.ToLower(pattern), "*.")
		switch {
		case pattern == "*":
			hosts.any = true
		case !isHostName(below):
			return ActivationHosts{}, fmt.Errorf("product: %q is neither a host name, nor *.a-host-name, nor *", pattern)
		case wildcard:
			hosts.suffixes = append(hosts.suffixes, "."+below)
		default:
			hosts.exact[below] = true
		}
	}
	return hosts, nil
}

// isHostName reports whether a text is a host name in small letters: two labels or more, the last of which does not
// begin with a digit. It is no regular expression, because a cold start would wait for that.
func isHostName(text string) bool {
	labels := strings.Split(text, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	first := labels[len(labels)-1][0]
	return len(text) <= 253 && len(labels) > 1 && (first < '0' || first > '9')
}

func notInLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
}

// allow reports whether a link may have that host.
func (h ActivationHosts) allow(host string) bool {
	host = strings.ToLower(host)
	if h.any || h.exact[host] {
		return true
	}
	for _, suffix := range h.suffixes {
		if strings.HasSuffix(host, suffix) && len(host) > len(suffix) {
			return true
		}
	}
	return false
}

// activationHost returns the host of an activation link, and whether it is one: https, without credentials, and fit for a
// mail as it is.
func activationHost(text string) (host string, ok bool) {
	u, err := url.Parse(text)
	ok = err == nil && len(text) <= maxActivationURL && u.Scheme == "https" && u.Hostname() != "" && u.User == nil &&
		!strings.ContainsFunc(text, func(r rune) bool { return notPrintableASCII(r) || r == ' ' })
	if !ok {
		return "", false
	}
	return u.Hostname(), true
}
