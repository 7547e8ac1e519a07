package secret_test

import (
	"bytes"
	stdjson "encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/secret"
)

const value = "hunter2"

// holder is a struct as anyone might log one: fmt calls no methods in its unexported field.
type holder struct {
	Shown  secret.Text
	hidden secret.Text
	List   []secret.Text
	Map    map[string]secret.Text
	Ref    *secret.Text
	Any    any
}

func newHolder() holder {
	s := secret.NewText(value)
	return holder{Shown: s, hidden: s, List: []secret.Text{s}, Map: map[string]secret.Text{"a": s}, Ref: &s, Any: s}
}

func TestTextNeverPrints(t *testing.T) {
	s := secret.NewText(value)
	h := newHolder()
	things := map[string]any{
		"itself":            s,
		"pointer":           &s,
		"struct":            h,
		"pointer to struct": &h,
		"version":           secret.Version{ID: "1", Value: s},
		"slice":             h.List,
		"map":               h.Map,
	}
	verbs := []string{
		"%v",
		"%+v",
		"%#v",
		"%s",
		"%q",
		"%x",
		"%X",
		"% x",
		"%d",
		"%t",
		"%c",
		"%U",
		"%e",
		"%b",
		"%o",
		"%10s",
		"%-10.2s",
		"%!",
	}
	for name, thing := range things {
		for _, verb := range verbs {
			assertHidden(t, name+" "+verb, fmt.Sprintf(verb, thing))
		}
		assertHidden(t, name+" Sprint", fmt.Sprint(thing))
		assertHidden(t, name+" error", fmt.Errorf("look: %v %w", thing, errors.New("x")).Error())
	}
	for _, verb := range verbs[:len(verbs)-1] {
		assert.Equal(t, "REDACTED", fmt.Sprintf(verb, s), verb)
	}
	assert.Equal(t, "REDACTED", s.String())
}

// assertHidden looks for the value as it is, in hexadecimal, and as numbers.
func assertHidden(t *testing.T, name, printed string) {
	t.Helper()
	for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value), fmt.Sprintf("% x", value), fmt.Sprint([]byte(value))} {
		assert.NotContains(t, printed, form, name)
	}
}

func TestTextNeverLogs(t *testing.T) {
	h := newHolder()
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			slog.New(handler(&out)).
				With("with", h.Shown).
				Info("x", "itself", h.Shown, "pointer", h.Ref, "struct", h, "pointer to struct", &h,
					"error", fmt.Errorf("secret %v", h.Shown), slog.Group("group", "a", h.Shown), "list", h.List)
			assertHidden(t, name, out.String())
			assert.Contains(t, out.String(), "REDACTED")
		})
	}
}

func TestTextNeverMarshals(t *testing.T) {
	h := newHolder()
	for name, marshal := range map[string]func(any) ([]byte, error){
		"encoding/json":      stdjson.Marshal,
		"go-json-experiment": func(v any) ([]byte, error) { return json.Marshal(v) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, thing := range []any{h.Shown, h.Ref, h, &h, h.List, h.Map, map[secret.Text]int{h.Shown: 1}} {
				out, err := marshal(thing)
				require.NoError(t, err)
				assertHidden(t, name, string(out))
				assert.Contains(t, string(out), `"REDACTED"`)
			}
		})
	}
	out, err := xml.Marshal(secret.Version{Value: h.Shown})
	require.NoError(t, err)
	assertHidden(t, "xml", string(out))
	assert.NotContains(t, fmt.Sprint(h), h.hidden.Reveal())
}

func TestTextReveals(t *testing.T) {
	assert.True(t, secret.Text{}.IsZero())
	assert.True(t, secret.NewText("").IsZero())
	assert.Empty(t, secret.Text{}.Reveal())
	assert.Equal(t, "REDACTED", fmt.Sprint(secret.Text{}), "an empty secret looks like any other")
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		s := secret.NewText(text)
		assert.Equal(t, text, s.Reveal())
		assert.Equal(t, text == "", s.IsZero())
		if len(text) > 3 && !strings.Contains("REDACTED", text) {
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", s, s, s), text)
		}
	})
}
