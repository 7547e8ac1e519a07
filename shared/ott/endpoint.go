package ott

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"carillon/shared/hostname"
)

// localSuffixes end the names of hosts that are not on the public Internet (RFC 6761, RFC 6762, RFC 8375, cloud
// metadata services).
var localSuffixes = []string{
	".localhost", ".localdomain", ".local", ".internal", ".home.arpa", ".lan", ".intranet", ".corp", ".home",
	".metadata.goog",
}

// isPublicHTTPS reports whether an endpointUrl may be registered: an absolute https URL without userinfo whose host is
// neither a private, loopback, link-local, multicast or metadata address in any notation, nor a name that only resolves
// inside a network.
func isPublicHTTPS(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Opaque != "" || u.User != nil || u.Fragment != "" {
		return false
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if address, err := netip.ParseAddr(host); err == nil {
		return IsPublicAddress(address)
	}
	if !hostname.IsFull(host) { // localhost and other single names are not; nor 127.1, 2130706433, 0x7f.0.0.1
		return false
	}
	for _, suffix := range localSuffixes {
		if strings.HasSuffix("."+host, suffix) {
			return false
		}
	}
	return true
}

// specialPrefixes are the blocks beside those netip knows that are not on the public Internet (RFC 6890 and its
// updates).
var specialPrefixes = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's metadata service
	netip.MustParsePrefix("2001::/23"),        // Teredo, with an IPv4 address within, and others
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4: an IPv4 address within
	netip.MustParsePrefix("3fff::/20"),
}

// publicIPv6 is all of IPv6 that is given out (RFC 4291 §2.4). IPv4-compatible and NAT64 addresses, which hold an IPv4
// address, are outside it.
var publicIPv6 = netip.MustParsePrefix("2000::/3")

// IsPublicAddress reports whether an address is one of the public Internet; an IPv4-mapped address is judged as the
// IPv4 address it is.
func IsPublicAddress(address netip.Addr) bool {
	address = address.Unmap()
	if address.Zone() != "" || !address.IsGlobalUnicast() || address.IsPrivate() {
		return false // loopback, link-local (with 169.254.169.254), multicast and unspecified are no global unicast
	}
	if address.Is6() && !publicIPv6.Contains(address) {
		return false
	}
	for _, prefix := range specialPrefixes {
		if prefix.Contains(address) {
			return false
		}
	}
	return true
}
