package hostname_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"carillon/shared/hostname"
)

func TestIsFull(t *testing.T) {
	for name, want := range map[string]bool{
		"example.com":                        true,
		"a.b-c.example":                      true,
		"xn--bcher-kva.example":              true,
		"under_score.example.com":            true,
		"123.example":                        true,
		strings.Repeat("a", 63) + ".example": true,
		"localhost":                          false,
		"":                                   false,
		".example.com":                       false,
		"example.com.":                       false,
		"a..b":                               false,
		"-a.example":                         false,
		"a-.example":                         false,
		"Example.com":                        false,
		"exa mple.com":                       false,
		"bücher.example":                     false,
		"127.0.0.1":                          false,
		"127.1":                              false,
		"0x7f.0.0.0x1":                       false,
		"a.0x":                               false,
		strings.Repeat("a", 64) + ".example": false,
		strings.Repeat("abcdefgh.", 32) + "example": false,
	} {
		assert.Equal(t, want, hostname.IsFull(name), name)
	}
}

func TestIsThisMachine(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"host.docker.internal": true,
		"":                     false, "example.com": false, "localhost.example.com": false, "10.0.0.1": false, "0.0.0.0": false,
		"169.254.169.254": false, "127.1": false,
	} {
		assert.Equal(t, want, hostname.IsThisMachine(host), host)
	}
}
