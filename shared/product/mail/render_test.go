package mail_test

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/product"
	"carillon/shared/secret"
)

// mailed sends a mail and returns it as SES was given it.
func (b *bundle) mailed(t require.TestingT, changes ...func(*product.Mail)) sentMail {
	before := b.sent()
	name := fmt.Sprint("request ", len(before))
	b.keep(name, changes...)
	require.Empty(t, b.deliver(messageOf(name)))
	sent := b.sent()
	require.Len(t, sent, len(before)+1)
	return sent[len(before)]
}

func country(id string) func(*product.Mail) { return func(m *product.Mail) { m.BusinessID = id } }
func service(name string) func(*product.Mail) {
	return func(m *product.Mail) { m.Service = name }
}

func TestMailsAreWrittenInTheirLanguage(t *testing.T) {
	noExpiry := func(m *product.Mail) { m.LinkExpires = time.Time{} }
	tests := map[string][]func(*product.Mail){
		"en":           {country("TT")},
		"es":           {country("PA")},
		"en-no-expiry": {country("JM"), noExpiry},
		"es-no-expiry": {country("PR"), noExpiry},
	}
	b := deploy(t)
	for name, changes := range tests {
		t.Run(name, func(t *testing.T) {
			sent := b.mailed(t, changes...)
			golden(t, name+".txt", "Subject: "+sent.subject()+"\n\n"+sent.text())
			golden(t, name+".html", sent.html())
		})
	}
}

// golden compares a text with a file of testdata. With CARILLON_TEST_GOLDEN set it writes the file instead.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("CARILLON_TEST_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), text)
}

// docs/contract.md §3: Spanish where that is the country's language, else English.
func TestAMailsLanguageIsItsCountrys(t *testing.T) {
	b := deploy(t)
	for subject, countries := range map[string][]string{
		"Active Disney+": {
			"AR", "BO", "CL", "CO", "CR", "CU", "DO", "EC", "ES", "GQ", "GT", "HN", "MX", "NI", "PA", "PE", "PR", "PY",
			"SV", "UY", "VE",
		},
		"Activate Disney+": {"TT", "BB", "JM", "BR", "US", "GY", "BS", "FR", "ZZ"},
	} {
		for _, id := range countries {
			sent := b.mailed(t, country(id))
			assert.Equal(t, subject, sent.subject(), id)
			language := map[bool]string{true: "es", false: "en"}[subject == "Active Disney+"]
			assert.Contains(t, sent.html(), `<html lang="`+language+`">`, id)
		}
	}
}

// The link is there as a button and as text, and nothing else leads or loads from anywhere.
func TestAMailHasOneLinkAndLoadsNothing(t *testing.T) {
	b := deploy(t)
	for _, id := range []string{"TT", "PA"} {
		sent := b.mailed(t, country(id))
		assert.Equal(t, 1, strings.Count(sent.text(), "http"))
		assert.Equal(t, 1, strings.Count(sent.text(), link))
		assert.Equal(t, 2, strings.Count(sent.html(), "http"))
		assert.Equal(t, 1, strings.Count(sent.html(), `<a href="`+html.EscapeString(link)+`"`))
		assert.Equal(t, 1, strings.Count(sent.html(), `>`+html.EscapeString(link)+`<`))
		assert.NotRegexp(t,
			`(?i)<(img|script|link|iframe|object|style|form|base)|src=|url\(|@import|background=|\son[a-z]+=`,
			sent.html())
		assert.Contains(t, sent.text(), map[string]string{"TT": "23 November 2026, 10:00 (UTC)",
			"PA": "23 de noviembre de 2026, 10:00 (UTC)"}[id])
	}
}

// A link is given as the provider gave it, whatever characters it has.
func TestAMailsLinkIsTheProviders(t *testing.T) {
	b := deploy(t)
	for _, odd := range []string{
		"https://activate.example.com/?a=1&amp;b=2&c=%3Cscript%3E#x", "https://activate.example.com/'\"<b>`",
		"https://activate.example.com/{{.To}}/$1",
		"https://activate.example.com/" + strings.Repeat("x", 4000), "https://activate.example.com/(a)[b]|c",
	} {
		sent := b.mailed(t, func(m *product.Mail) { m.Link = secret.NewText(odd) })
		assert.Contains(t, sent.text(), "\n"+odd+"\n")
		assert.Contains(t, html.UnescapeString(sent.html()), ">"+odd+"<")
		assert.Equal(t, strings.Count(b.mailed(t).html(), "<"), strings.Count(sent.html(), "<"))
	}
}

func TestAServiceWithAHostileNameIsOnlyAName(t *testing.T) {
	tests := map[string]struct{ name, shown string }{
		"a header": {"Disney+\r\nBcc: victim@example.com\r\n\r\nBuy!",
			"Disney+ Bcc: victim@example.com Buy!"},
		"a bare line feed":   {"a\nb", "a b"},
		"a line separator":   {"a\u2028b\u2029c\u0085d\vd", "a b c d d"},
		"a tag":              {`<script>alert(1)</script>`, `<script>alert(1)</script>`},
		"an attribute":       {`" onmouseover="alert(1)`, `" onmouseover="alert(1)`},
		"an entity":          {`&lt;b&gt;`, `&lt;b&gt;`},
		"a template":         {`{{.Link}}`, `{{.Link}}`},
		"a comment":          {`<!-- `, `<!--`},
		"text that turns":    {"abc\u202edef\u2066ghi", "abcdefghi"},
		"a zero byte":        {"a\x00b", "ab"},
		"invisible letters":  {"\u200b\ufeff", "streaming"},
		"nothing":            {" ", "streaming"},
		"half a letter":      {"a\xffb", "ab"},
		"another script":     {"迪士尼+ Ñandú", "迪士尼+ Ñandú"},
		"an encoded word":    {"=?utf-8?q?Bcc?=", "=?utf-8?q?Bcc?="},
		"a very long name":   {strings.Repeat("ñ", 5000), strings.Repeat("ñ", 99) + "…"},
		"many blanks":        {"  a \t  b  ", "a b"},
		"a format directive": {"%s%d%!", "%s%d%!"},
	}
	b := deploy(t)
	plain := b.mailed(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			sent := b.mailed(t, service(test.name))
			assert.Equal(t, "Activate "+test.shown, sent.subject())
			assert.Equal(t, strings.ReplaceAll(plain.text(), "Disney+", test.shown), sent.text())
			assert.Equal(t, strings.ReplaceAll(html.UnescapeString(plain.html()), "Disney+", test.shown),
				html.UnescapeString(sent.html()))
			assert.Equal(t, strings.Count(plain.html(), "<"), strings.Count(sent.html(), "<"), "it adds no tag")
			assert.Equal(t, []string{address}, sent.Destination.ToAddresses)
		})
	}
}

// Whatever a service is called, its subject is one line, its text has the lines that it always has, and its HTML the
// tags.
func TestNoServiceNameChangesTheFormOfAMail(t *testing.T) {
	b := deploy(t)
	plain := b.mailed(t)
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.OneOf(rapid.String(),
			rapid.StringOf(rapid.SampledFrom([]rune("<>\"'&\r\n{}%=?:;@\u2028\u202e a")))).Draw(rt, "name")
		sent := b.mailed(rt, service(name))
		require.False(rt, strings.ContainsFunc(sent.subject(), func(r rune) bool { return !unicode.IsPrint(r) }), "%q",
			sent.subject())
		require.True(rt, utf8.ValidString(sent.text()))
		require.Equal(rt, strings.Count(plain.text(), "\n"), strings.Count(sent.text(), "\n"))
		for _, mark := range []string{"<", ">", `"`, "\n"} {
			require.Equal(rt, strings.Count(plain.html(), mark), strings.Count(sent.html(), mark), "%q", mark)
		}
	})
}
