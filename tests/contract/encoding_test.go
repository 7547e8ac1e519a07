package contract_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"sync"
)

// zipped compresses a body.
func zipped(body string) string {
	var b bytes.Buffer
	writer := gzip.NewWriter(&b)
	_, _ = io.WriteString(writer, body) // a buffer takes everything
	_ = writer.Close()
	return b.String()
}

// padded puts an unknown member of that many bytes in front of an object's own.
func padded(body string, size int) string {
	return `{"unknown":"` + strings.Repeat("x", size) + `",` + body[1:]
}

const mebibyte = 1 << 20

var zippedMebibyte = sync.OnceValue(func() string { return zipped(strings.Repeat("x", mebibyte)) })

// zippedPadded is zipped(padded(body, size)) for that many MiB, without the time that takes: gzip may come in parts.
func zippedPadded(body string, mebibytes int) string {
	return zipped(`{"unknown":"`) + strings.Repeat(zippedMebibyte(), mebibytes) + zipped(`",`+body[1:])
}

// bomb is a valid JSON object of 1 GiB in about 1 MB of gzip.
var bomb = sync.OnceValue(func() string { return zippedPadded(`{"a":1}`, 1024) })
