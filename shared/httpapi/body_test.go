package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
)

// zipped returns a text's gzip form.
func zipped(t testing.TB, text io.Reader) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.Copy(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

func base64ed(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// zippedZeros is n bytes of the digit 0 as gzip: the same member again and again, which is the quickest bomb to build.
func zippedZeros(t testing.TB, n int) string {
	t.Helper()
	const mega = 1 << 20
	member := zipped(t, strings.NewReader(strings.Repeat("0", mega)))
	return strings.Repeat(member, n/mega) + zipped(t, strings.NewReader(strings.Repeat("0", n%mega)))
}

func withBody(body, encoding string, isBase64 bool) *httpapi.Request {
	event := events.APIGatewayV2HTTPRequest{Body: body, IsBase64Encoded: isBase64, Headers: map[string]string{}}
	if encoding != "" {
		event.Headers["content-encoding"] = encoding
	}
	return httpapi.NewRequest(context.Background(), event)
}

func TestBody(t *testing.T) {
	const text = `{"name":"José"}`
	gzipped := zipped(t, strings.NewReader(text))
	tests := map[string]struct {
		body, encoding string
		isBase64       bool
	}{
		"plain":                     {text, "", false},
		"identity":                  {text, "identity", false},
		"Identity in other case":    {text, " Identity ", false},
		"base64":                    {base64ed(text), "", true},
		"base64 with line breaks":   {base64ed(text)[:8] + "\r\n" + base64ed(text)[8:], "", true},
		"gzip":                      {base64ed(gzipped), "gzip", true},
		"GZIP":                      {base64ed(gzipped), " GZIP ", true},
		"x-gzip":                    {base64ed(gzipped), "x-gzip", true},
		"gzip that nobody base64ed": {gzipped, "gzip", false},
		"gzip in two members": {
			base64ed(zipped(t, strings.NewReader(text[:5])) + zipped(t, strings.NewReader(text[5:]))),
			"gzip",
			true,
		},
		"gzip of nothing before it":    {base64ed(zipped(t, strings.NewReader("")) + gzipped), "gzip", true},
		"gzip, stored and not deflate": {base64ed(stored(t, text)), "gzip", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := withBody(test.body, test.encoding, test.isBase64)
			for range 2 { // a body can be read again
				body, err := r.Body()
				require.NoError(t, err)
				read, err := io.ReadAll(iotest.OneByteReader(body))
				require.NoError(t, err)
				assert.Equal(t, text, string(read))
			}
		})
	}
}

func stored(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	require.NoError(t, err)
	_, err = io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

func TestBodyThatIsBroken(t *testing.T) {
	gzipped := zipped(t, strings.NewReader(strings.Repeat("hunter2 ", 1000)))
	flipped := []byte(gzipped)
	flipped[len(flipped)-5] ^= 1 // of the checksum
	tests := map[string]struct {
		body, encoding string
		isBase64       bool
		code           fault.Code
	}{
		"unknown encoding":          {"{}", "br", false, fault.UnsupportedMediaType},
		"deflate":                   {"{}", "deflate", false, fault.UnsupportedMediaType},
		"two encodings":             {base64ed(gzipped), "gzip, gzip", true, fault.UnsupportedMediaType},
		"not base64":                {"hunter2!", "", true, fault.Malformed},
		"half of a base64 group":    {"aHVudGVyMg=", "", true, fault.Malformed},
		"base64 with more behind":   {base64ed("hunter2") + "hunter2", "", true, fault.Malformed},
		"base64url":                 {"_-_-", "", true, fault.Malformed},
		"not gzip":                  {base64ed("hunter2 is no gzip"), "gzip", true, fault.Malformed},
		"gzip that is not base64":   {"hunter2!", "gzip", true, fault.Malformed},
		"no body, but gzip":         {"", "gzip", false, fault.Malformed},
		"gzip header alone":         {base64ed(gzipped[:10]), "gzip", true, fault.Malformed},
		"half a gzip header":        {base64ed(gzipped[:4]), "gzip", true, fault.Malformed},
		"gzip cut off":              {base64ed(gzipped[:len(gzipped)-12]), "gzip", true, fault.Malformed},
		"gzip without its checksum": {base64ed(gzipped[:len(gzipped)-8]), "gzip", true, fault.Malformed},
		"wrong checksum":            {base64ed(string(flipped)), "gzip", true, fault.Malformed},
		"more behind gzip":          {base64ed(gzipped + "hunter2"), "gzip", true, fault.Malformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			body, err := withBody(test.body, test.encoding, test.isBase64).Body()
			if err == nil {
				_, err = io.Copy(io.Discard, body)
			}
			var failure *fault.Error
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, test.code, failure.Code)
			assert.NotEmpty(t, failure.Message)
			for _, inside := range []string{"hunter2", "gzip:", "base64:", "flate:", "EOF", "input byte"} {
				assert.NotContains(t, failure.Message, inside)
			}
		})
	}
}

func TestBodyAtItsLimit(t *testing.T) {
	tests := map[string]struct {
		size int
		fits bool
	}{
		"one byte below": {httpapi.MaxBody - 1, true},
		"exactly":        {httpapi.MaxBody, true},
		"one byte above": {httpapi.MaxBody + 1, false},
		"twice":          {2 * httpapi.MaxBody, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			body, err := withBody(zippedZeros(t, test.size), "gzip", false).Body()
			require.NoError(t, err)
			n, err := io.Copy(io.Discard, body)
			if test.fits {
				require.NoError(t, err)
				assert.Equal(t, int64(test.size), n)
				return
			}
			assert.True(t, fault.Is(err, fault.TooLarge), "%v", err)
			assert.LessOrEqual(t, n, int64(httpapi.MaxBody))
			_, again := body.Read(make([]byte, 1))
			assert.True(t, fault.Is(again, fault.TooLarge), "it stays too large: %v", again)
		})
	}
	t.Run("6 MB of valid input, plain", func(t *testing.T) {
		body, err := withBody(strings.Repeat("0", 6_000_000), "", false).Body()
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, body)
		require.NoError(t, err)
		assert.Equal(t, int64(6_000_000), n)
	})
}

func TestTokenBodyAtItsLimit(t *testing.T) {
	for size, fits := range map[int]bool{
		0: true, httpapi.MaxTokenBody: true, httpapi.MaxTokenBody + 1: false, 2 * httpapi.MaxBody: false,
	} {
		for encoding, body := range map[string]string{
			"gzip": zippedZeros(t, size), "": strings.Repeat("0", size),
		} {
			reader, err := withBody(body, encoding, false).TokenBody()
			if !fits {
				assert.True(t, fault.Is(err, fault.TooLarge), "%d bytes: %v", size, err)
				assert.ErrorContains(t, err, "the body is larger than 64 KiB when decoded")
				continue
			}
			require.NoError(t, err)
			n, err := io.Copy(io.Discard, reader)
			require.NoError(t, err)
			assert.Equal(t, int64(size), n)
		}
	}
	_, err := withBody("hunter2", "gzip", false).TokenBody()
	assert.True(t, fault.Is(err, fault.Malformed), "%v", err)
	_, err = withBody("hunter2", "br", false).TokenBody()
	assert.True(t, fault.Is(err, fault.UnsupportedMediaType), "%v", err)
}

// A bomb of gigabytes fits a request; it is given up after 32 MiB, and reading those takes the memory of a small body.
func TestGzipBombCostsNoMemory(t *testing.T) {
	const size = 1 << 30
	bomb := base64ed(zippedZeros(t, size))
	require.Less(t, len(bomb), 6_000_000)
	r := withBody(bomb, "gzip", true)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body, err := r.Body()
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, body)
	runtime.ReadMemStats(&after)
	assert.True(t, fault.Is(err, fault.TooLarge), "%v", err)
	assert.LessOrEqual(t, n, int64(httpapi.MaxBody))
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated")
}

func FuzzBody(f *testing.F) {
	f.Add(zipped(f, strings.NewReader("{}")), "gzip", false)
	f.Add(base64ed(zipped(f, strings.NewReader("{}"))), "x-gzip", true)
	f.Add("e30=", "", true)
	f.Add("{}", "identity", false)
	f.Add("", "br", false)
	f.Fuzz(func(t *testing.T, text, encoding string, isBase64 bool) {
		body, err := withBody(text, encoding, isBase64).Body()
		var n int64
		if err == nil {
			n, err = io.Copy(io.Discard, body)
		}
		require.LessOrEqual(t, n, int64(httpapi.MaxBody))
		if err != nil {
			var failure *fault.Error
			require.ErrorAs(t, err, &failure)
			require.Contains(t, []fault.Code{fault.Malformed, fault.TooLarge, fault.UnsupportedMediaType}, failure.Code)
			require.NotEmpty(t, failure.Message)
		}
	})
}

func TestRawBody(t *testing.T) {
	const text = "{\"a\":\r\n \"\u00e9\"}\x00"
	gzipped := zipped(t, strings.NewReader(text))
	tests := map[string]struct {
		body, encoding string
		isBase64       bool
		want           string
	}{
		"empty":              {"", "", false, ""},
		"text":               {text, "", false, text},
		"base64":             {base64ed("\xff" + text), "", true, "\xff" + text},
		"gzip stays gzip":    {base64ed(gzipped), "gzip", true, gzipped},
		"an unknown coding":  {text, "br", false, text},
		"no base64 by event": {base64ed(text), "", false, base64ed(text)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			raw, err := withBody(test.body, test.encoding, test.isBase64).RawBody()
			require.NoError(t, err)
			assert.Equal(t, test.want, string(raw))
		})
	}
	_, err := withBody("*", "", true).RawBody()
	assert.True(t, fault.Is(err, fault.Malformed), "%v", err)
}
