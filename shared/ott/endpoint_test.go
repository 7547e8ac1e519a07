package ott_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/otttest"
)

// docs/contract.md §1: endpointUrl not absolute https, or with userinfo, or to a private, loopback, link-local or
// metadata host.
func TestContractEndpointURL(t *testing.T) {
	long := strings.Repeat("a", 63)
	public := []string{
		"https://graph.facebook.com/v2.6/me/messages",
		"https://example.com",
		"https://example.com/",
		"https://example.com./",
		"https://EXAMPLE.com/Path?q=1&r=a%20b",
		"HTTPS://example.com/",
		"https://example.com:443/",
		"https://example.com:8443/x",
		"https://example.com:65535/",
		"https://xn--bcher-kva.example/",
		"https://a_b.example.com/",
		"https://1.example.com/",
		"https://127.0.0.1.example.com/",
		"https://localhost.example.com/",
		"https://internal.example.com/",
		"https://goog.example.com/",
		"https://notmetadata.goog/",
		"https://" + long + "." + long + ".com/",
		"https://8.8.8.8/",
		"https://1.1.1.1:8443/",
		"https://172.15.255.255/",
		"https://172.32.0.1/",
		"https://100.63.255.255/",
		"https://100.128.0.1/",
		"https://[2606:4700:4700::1111]/",
		"https://[2a00:1450:4001:81b::200e]:443/",
		"https://[::ffff:8.8.8.8]/",
	}
	refused := []string{
		// not absolute https
		"http://example.com/", "ftp://example.com/", "//example.com/x", "example.com", "/path", "https:",
		"https:/example.com", "https:///x", "https://", "https:example.com",
		"https://?x", "https://:443/", "javascript:alert(1)", "file:///etc/passwd", " https://example.com/",
		"https ://example.com", "https://example.com\n/", "ttps://example.com",
		// userinfo
		"https://user@example.com/", "https://user:password@example.com/", "https://@example.com/",
		"https://:@example.com/", "https://example.com@127.0.0.1/",
		`https://example.com\@127.0.0.1/`, `https://127.0.0.1\.example.com/`,
		// fragments and broken parts
		"https://example.com/#x", "https://example.com/%zz", "https://exa mple.com/", "https://example.com /",
		"https://exa%6dple.com/", "https://exämple.com/", "https://example。com/",
		"https://[::1/", "https://::1/", "https://example..com/", "https://.example.com/", "https://-a.example.com/",
		"https://a-.example.com/", "https://example.com../",
		"https://" + long + "a.com/", "https://" + strings.Repeat("a.", 127) +
			"com/", "https://a*b.example.com/", "https://example.com,127.0.0.1/",
		// ports
		"https://example.com:0/", "https://example.com:65536/", "https://example.com:99999999999/",
		"https://example.com:-1/", "https://example.com:x/",
		// names within a network
		"https://localhost/", "https://LOCALHOST/", "https://localhost./", "https://localhost:8443/",
		"https://x.localhost/", "https://localhost.localdomain/", "https://printer.local/", "https://router.lan/",
		"https://metadata/", "https://intranet/", "https://host.intranet/", "https://db.corp/", "https://x.home/",
		"https://x.home.arpa/",
		"https://metadata.google.internal/", "https://METADATA.google.INTERNAL./", "https://x.internal/",
		"https://ip-10-0-0-1.eu-west-1.compute.internal/", "https://metadata.goog/",
		// IPv4: loopback, private, link-local, metadata, shared, reserved
		"https://127.0.0.1/", "https://127.0.0.1./", "https://127.255.255.254/", "https://10.0.0.1/",
		"https://10.255.255.255/", "https://172.16.0.1/", "https://172.31.255.255/", "https://192.168.0.1/",
		"https://169.254.169.254/", "https://169.254.169.254:443/", "https://169.254.170.2/",
		"https://100.100.100.200/", "https://168.63.129.16/", "https://192.0.0.192/",
		"https://0.0.0.0/", "https://0.1.2.3/", "https://100.64.0.1/", "https://198.18.0.1/", "https://192.0.2.1/",
		"https://198.51.100.1/", "https://203.0.113.1/",
		"https://224.0.0.1/", "https://239.255.255.250/", "https://240.0.0.1/", "https://255.255.255.255/",
		// IPv4 in other notations, which many clients resolve
		"https://2130706433/", "https://0x7f000001/", "https://0X7F000001/", "https://017700000001/", "https://127.1/",
		"https://127.0.1/", "https://0177.0.0.1/", "https://0x7f.0.0.1/",
		"https://127.0.0.0x1/", "https://010.0.0.1/", "https://0/", "https://0x/", "https://1.2.3.4.5/",
		"https://256.256.256.256/", "https://example.0x/", "https://8.8.8.8.8/", "https://１２７.0.0.1/",
		"https://①②⑦.0.0.1/", "https://%31%32%37.0.0.1/",
		// IPv6
		"https://[::1]/", "https://[::]/", "https://[0:0:0:0:0:0:0:1]/", "https://[fe80::1]/",
		"https://[fe80::1%25eth0]/", "https://[2606:4700:4700::1111%25eth0]/", "https://[fc00::1]/",
		"https://[fd00:ec2::254]/",
		"https://[fec0::1]/", "https://[ff02::1]/", "https://[2001:db8::1]/", "https://[3fff::1]/",
		"https://[4000::1]/", "https://[100::1]/", "https://[5f00::1]/",
		// IPv6 that holds an IPv4 address
		"https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[::ffff:169.254.169.254]/",
		"https://[::ffff:a9fe:a9fe]/", "https://[::127.0.0.1]/", "https://[::7f00:1]/", "https://[::8.8.8.8]/",
		"https://[64:ff9b::7f00:1]/", "https://[64:ff9b::169.254.169.254]/", "https://[64:ff9b:1::1]/",
		"https://[2002:7f00:1::]/", "https://[2002:a9fe:a9fe::1]/", "https://[2001::1]/", "https://[2001:0:7f00:1::1]/",
		"https://[::ffff:0:127.0.0.1]/", "https://[127.0.0.1]/", "https://[example.com]/",
	}
	for _, url := range public {
		assert.Empty(t, faultsOf(t, otttest.Body(t, otttest.SeedLINE, "endpointUrl", fmt.Sprintf("%q", url))), url)
	}
	for _, url := range refused {
		quoted := fmt.Sprintf("%q", url)
		assert.Equal(t, []string{"bad_value EndpointUrl is invalid"},
			faultsOf(t, otttest.Body(t, otttest.SeedLINE, "endpointUrl", quoted)), url)
	}
}

// FuzzDecodeRegistration holds what is accepted to what the stores and the callers of registered URLs rely on.
func FuzzDecodeRegistration(f *testing.F) {
	for _, seed := range []string{
		otttest.SeedMessenger, otttest.SeedLINE, `{}`, ``, `{"ottPlatformName":"line","ottPlatformAttributes":[]}`,
		strings.ToUpper(otttest.SeedLINE),
		otttest.Body(f, otttest.SeedLINE, "endpointUrl", `"https://[::ffff:7f00:1]:443/"`, "isActive", "0"),
		otttest.Body(f, otttest.SeedMessenger, "endpointUrl", `"https://0x7f.1/"`, "pageId", "1e400"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		registration, credentials, err := ott.DecodeRegistration(strings.NewReader(text))
		if err != nil {
			var failure *fault.Error
			require.ErrorAs(t, err, &failure)
			require.Contains(t, []fault.Code{fault.Malformed, fault.Invalid}, failure.Code)
			require.Equal(t, failure.Code == fault.Invalid, len(failure.Violations) > 0)
			for _, v := range failure.Violations {
				require.Regexp(t, `^[A-Za-z]+ (must be provided|is invalid)$`, v.Message)
				require.Contains(t, []fault.Code{fault.Missing, fault.WrongType, fault.BadValue}, v.Code)
			}
			return
		}
		require.Contains(t, []ott.Platform{ott.Messenger, ott.LINE}, registration.Platform)
		require.NotEmpty(t, strings.TrimSpace(registration.PropertyID))
		require.NotEmpty(t, strings.TrimSpace(registration.Name))
		require.LessOrEqual(t, len(registration.PropertyID), 255*4, "fits DynamoDB's key")
		require.True(t, strings.HasPrefix(strings.ToLower(registration.EndpointURL), "https://"))
		messenger := registration.Platform == ott.Messenger
		require.Equal(t, messenger, registration.ApplicationID != "")
		require.Equal(t, messenger, !credentials.ApplicationSecret.IsZero())
		require.Equal(t, messenger, !credentials.PageAccessToken.IsZero())
		require.Equal(t, messenger, !credentials.CallbackVerifyToken.IsZero())
		require.Equal(t, !messenger, !credentials.ChannelSecret.IsZero())
		if messenger {
			require.True(t, credentials.CustomerConnectSecret.IsZero())
			require.False(t, registration.IsTransactional || registration.IsTestChannel)
		}
	})
}
