// Package secret is what a secret is to this bundle: a text that keeps out of logs, its versions, and a cache of them.
// It reads none itself, and links nothing of AWS: see package secretstore.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "REDACTED"

// Text is a secret string. However it is printed, logged or marshalled it reads REDACTED; Reveal is the one way to its
// value. Compare what Reveal returns: == compares where two Texts are kept.
type Text struct {
	// A pointer, because fmt calls no methods in another struct's unexported field, but shows what it holds.
	value *string
}

// NewText makes s a secret.
func NewText(s string) Text { return Text{value: &s} }

// Reveal returns the secret's value, for use and not for show.
func (t Text) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// IsZero reports whether the secret is empty.
func (t Text) IsZero() bool { return t.Reveal() == "" }

// Format implements fmt.Formatter, for every verb.
func (Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer, for those who print without package fmt.
func (Text) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (Text) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, so that no JSON holds the value by accident.
func (Text) MarshalText() ([]byte, error) { return []byte(redacted), nil }
