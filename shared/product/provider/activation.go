package provider

import (
	"fmt"
	"net/url"
	"strings"

	"carillon/shared/hostname"
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
		case !hostname.IsFull(below):
			return ActivationHosts{}, fmt.Errorf("provider: %q is neither a host name, nor *.a-host-name, nor *",
				pattern)
		case wildcard:
			hosts.suffixes = append(hosts.suffixes, "."+below)
		default:
			hosts.exact[below] = true
		}
	}
	return hosts, nil
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

// activationHost returns the host of an activation link, and whether it is one: https, without credentials, and fit for
// a mail as it is.
func activationHost(text string) (host string, ok bool) {
	u, err := url.Parse(text)
	ok = err == nil && len(text) <= maxActivationURL && u.Scheme == "https" && u.Hostname() != "" && u.User == nil &&
		!strings.ContainsFunc(text, notVisibleASCII)
	if !ok {
		return "", false
	}
	return u.Hostname(), true
}

func notVisibleASCII(r rune) bool { return r <= ' ' || r > '~' }
