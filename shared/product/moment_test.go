package product_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"carillon/shared/product"
)

func TestReadMoment(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-11-30T10:00:00Z":             at,
		"2026-11-30T10:00:00.000Z":         at,
		"2026-11-30t10:00:00z":             at,
		" 2026-11-30T10:00:00Z ":           at,
		"2026-11-30T05:00:00-05:00":        at,
		"2026-11-30T10:00:00+0000":         at,
		"2026-11-30T05:00:00.000-0500":     at,
		"2026-11-30T12:00:00+02":           at,
		"2026-11-30T10:00:00":              at,
		"2026-11-30T10:00":                 at,
		"2026-11-30T10:00Z":                at,
		"2026-11-30 10:00:00":              at,
		"2026-11-30 10:00":                 at,
		"2026-11-30 10:00:00Z":             at,
		"2026-11-30 10:00:00+00:00":        at,
		"2026-11-30 10:00:00 +0000":        at,
		"2026-11-30 10:00:00 UTC":          at,
		"2026-11-30 10:00:00 GMT":          at,
		"2026-11-30 10:00:00.5":            at.Add(500 * time.Millisecond),
		"2026-11-30T10:00:00.123456789Z":   at.Add(123456789),
		"2026-11-30":                       at.Truncate(24 * time.Hour),
		"":                                 {},
		"tomorrow":                         {},
		"2026":                             {},
		"20261130":                         {},
		"2026-13-30":                       {},
		"2026-02-30T10:00:00Z":             {},
		"2026-11-30T":                      {},
		"2026-11-30X10:00:00Z":             {},
		"2026-11-30T25:00:00Z":             {},
		"2026-11-30T10:00:00 CET":          {},
		"2026-11-30T10:00:00Z2026":         {},
		"30/11/2026":                       {},
		"30-11-2026 10:00:00":              {},
		"Mon, 30 Nov 2026 10:00:00 GMT":    {},
		"2026-11-30T10:00:00+00:00[UTC]":   {},
		"2026-11-30T10:00:00\u200b":        {},
		"\xff026-11-30T10:00:00Z":          {},
		"UTC":                              {},
		"2026-11-30T10:00:00+99:99999":     {},
		"2026-11-30T10:00:00.Z":            {},
		"99999-11-30T10:00:00Z":            {},
		"2026-11-30T10:00:00ZZ":            {},
		"2026-11-30T10:00:00+00:00 +00:00": {},
	} {
		got, ok := product.ReadMoment(text, false)
		assert.Equal(t, !want.IsZero(), ok, "%q", text)
		assert.True(t, want.Equal(got), "%q is read as %s", text, got)
	}
	end, ok := product.ReadMoment("2026-11-30", true)
	assert.True(t, ok)
	assert.Equal(t, time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC), end)
}

// Whatever the time and the form, it is read as what was written.
func TestReadMomentReadsWhatGoWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := rapid.IntRange(-12*4, 14*4).Draw(t, "quarters of an hour") * 15 * 60
		at := time.Unix(rapid.Int64Range(0, 253402300799-14*3600).Draw(t, "seconds"), 0).
			In(time.FixedZone("", offset))
		form := rapid.SampledFrom([]string{
			time.RFC3339, time.RFC3339Nano, "2006-01-02T15:04:05-0700", "2006-01-02 15:04:05Z07:00",
			"2006-01-02 15:04:05 -0700",
		}).Draw(t, "form")
		got, ok := product.ReadMoment(at.Format(form), true)
		if !ok || !got.Equal(at) {
			t.Fatalf("%q is read as %s, %v", at.Format(form), got, ok)
		}
	})
}
