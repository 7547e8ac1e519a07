package product_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/product"
)

func TestAnEmailAddressIsOneThatAMailHeaderTakesAsItIs(t *testing.T) {
	long := strings.Repeat("a", 61) + "."
	tests := map[string]bool{
		"abc@gmail.com":                        true,
		"donipudi-sai.vaishnavi@capgemini.com": true,
		"o'brien+tag@sub.example.co.uk":        true,
		"a@b.co":                               true,
		"A.B@EXAMPLE.COM":                      true,
		"a@xn--bcher-kva.example":              true,
		"a@1.example":                          true,
		strings.Repeat("a", 64) + "@b.co":      true,
		"a@" + long + long + long + strings.Repeat("b", 60) + ".com": true, // 252 characters

		"abc":                             false,
		"@gmail.com":                      false,
		"abc@":                            false,
		"abc@gmail":                       false,
		"abc@gmail.":                      false,
		"abc@.com":                        false,
		"abc@gmail..com":                  false,
		"abc@-gmail.com":                  false,
		"abc@gmail-.com":                  false,
		"abc@gmail.123":                   false,
		"abc@127.0.0.1":                   false,
		"abc@[127.0.0.1]":                 false,
		"abc@gm_ail.com":                  false,
		".abc@gmail.com":                  false,
		"abc.@gmail.com":                  false,
		"a..b@gmail.com":                  false,
		"a b@gmail.com":                   false,
		" abc@gmail.com":                  false,
		"abc@gmail.com ":                  false,
		"abc@gmail.com\n":                 false,
		"abc@gmail.com\r\nBcc: x@y.zz":    false,
		"abc\x00@gmail.com":               false,
		"abc\t@gmail.com":                 false,
		"a@b@gmail.com":                   false,
		"a,b@gmail.com":                   false,
		"a@gmail.com,b@gmail.com":         false,
		"a@gmail.com;b@gmail.com":         false,
		"<abc@gmail.com>":                 false,
		"Abc <abc@gmail.com>":             false,
		"abc@gmail.com (Abc)":             false,
		`"abc"@gmail.com`:                 false,
		`"a b"@gmail.com`:                 false,
		`a\b@gmail.com`:                   false,
		"=?utf-8?q?abc?=@gmail.com":       false,
		"ábc@gmail.com":                   false,
		"abc@bücher.example":              false,
		"abc@gmail.com.":                  false,
		"mailto:abc@gmail.com":            false,
		strings.Repeat("a", 65) + "@b.co": false,
		"a@" + long + long + long + strings.Repeat("b", 63) + ".com": false, // 255 characters
	}
	for address, valid := range tests {
		t.Run(address, func(t *testing.T) {
			_, err := product.DecodeProduct(strings.NewReader(changed(t, quoted(t, address), emailPath...)), now)
			if valid {
				require.NoError(t, err)
				return
			}
			assert.Equal(t, []string{emailMember + " must be an email address"}, messages(t, err))
		})
	}
}

func quoted(t *testing.T, text string) string {
	t.Helper()
	encoded, err := json.Marshal(text)
	require.NoError(t, err)
	return string(encoded)
}
