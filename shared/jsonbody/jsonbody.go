// Package jsonbody decodes JSON request bodies strictly (one object, UTF-8, no duplicate members, nothing behind it)
// and leniently per member: a member of the wrong type does not fail the decoding but is kept as such, so that all
// faults of a request can be reported at once. Unknown members are ignored.
//
// Digest tells by its value whether a body is the same as an earlier one.
package jsonbody

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
)

// AnyCase makes member names match without regard to case.
var AnyCase = json.MatchCaseInsensitiveNames(true)

// Decode reads a JSON object from body into v, a pointer to a struct of this package's types. It reads body to its end.
// A UTF-8 byte order mark before the object is skipped. It returns a fault Malformed, also of more members than
// MaxMembers, or the reader's own fault.
func Decode(body io.Reader, v any, options ...json.Options) error {
	from := newSource(body)
	return decode(from, from, v, options)
}

// DecodeHalves is Decode through a HalfReader. It returns the offsets of the halves as well, as jsontext.Decoder counts
// in UnmarshalJSONFrom: from behind a byte order mark.
func DecodeHalves(body io.Reader, v any, options ...json.Options) (offsets []int64, err error) {
	from := newSource(body)
	halves := NewHalfReader(from)
	err = decode(halves, from, v, options)
	return halves.Offsets(), err
}

// decode decodes what it reads, which comes from a source.
func decode(reader io.Reader, from *source, v any, options []json.Options) error {
	decoder := jsontext.NewDecoder(reader, options...)
	if kind := decoder.PeekKind(); kind != '{' && kind != 0 {
		return fault.New(fault.Malformed, "the body must be a JSON object")
	}
	err := json.UnmarshalDecode(decoder, v, options...)
	if err == nil {
		err = atEnd(decoder)
	}
	return malformed(decoder, from, err)
}

// atEnd returns an error unless the end of the input is what comes next.
func atEnd(decoder *jsontext.Decoder) error {
	_, err := decoder.ReadToken()
	switch {
	case err == nil:
		return fault.New(fault.Malformed, "unexpected data after the JSON object")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

func malformed(decoder *jsontext.Decoder, from *source, err error) error {
	if err == nil {
		return nil
	}
	message := "the body is not valid JSON"
	known, isFault := errors.AsType[*fault.Error](err)
	syntax, isSyntax := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case isFault:
		return known
	case errors.Is(err, io.EOF) && decoder.InputOffset() == 0:
		message = "the body is empty"
	case errors.Is(err, jsontext.ErrDuplicateName):
		message = "duplicate member in a JSON object"
	case isSyntax:
		message = fmt.Sprintf("the body is not valid JSON at byte %d", from.skipped+syntax.ByteOffset)
	}
	return &fault.Error{Code: fault.Malformed, Message: message, Cause: err}
}

// Value is a member of any JSON type. Its zero value is a member that is absent.
type Value struct {
	Kind jsontext.Kind // 0 if absent, else n, f, t, ", 0, { or [ as jsontext has it
	Text string        // a string's value or a number's digits as sent; empty for every other kind
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It fails only on what is no JSON.
func (v *Value) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	v.Kind, v.Text = decoder.PeekKind(), ""
	if v.Kind != '"' && v.Kind != '0' {
		return decoder.SkipValue()
	}
	token, err := decoder.ReadToken()
	if err != nil {
		return err
	}
	v.Text = token.String()
	return nil
}

// Missing reports whether the member is absent, null or a blank string.
func (v Value) Missing() bool {
	return v.Kind == 0 || v.Kind == 'n' || v.Kind == '"' && strings.TrimSpace(v.Text) == ""
}

// IsString reports whether the member is a string.
func (v Value) IsString() bool { return v.Kind == '"' }

// Object is a member that should be a JSON object of the shape T. Its zero value is a member that is absent.
type Object[T any] struct {
	Kind  jsontext.Kind // as in Value
	Value T             // what the object holds, if Kind is {
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It fails only on what is no JSON.
func (o *Object[T]) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	o.Kind = decoder.PeekKind()
	if o.Kind != '{' {
		return decoder.SkipValue()
	}
	return json.UnmarshalDecode(decoder, &o.Value)
}

// Missing reports whether the member is absent or null.
func (o Object[T]) Missing() bool { return o.Kind == 0 || o.Kind == 'n' }

// IsObject reports whether the member is an object.
func (o Object[T]) IsObject() bool { return o.Kind == '{' }

// defaultMax is how many items an Array keeps that says nothing else: enough for every list that is not the point of
// its request.
const defaultMax = 1000

// Array is a member that should be a JSON array of T. Its zero value is a member that is absent.
type Array[T any] struct {
	// Max is how many items to keep, set before decoding; 0 is 1000. A body of nothing but brackets costs no memory.
	Max   int
	Kind  jsontext.Kind // as in Value
	Items []T           // the first Max items, if Kind is [
	Count int           // how many items there were
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It fails only on what is no JSON.
func (a *Array[T]) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	a.Kind, a.Items, a.Count = decoder.PeekKind(), nil, 0
	if a.Kind != '[' {
		return decoder.SkipValue()
	}
	limit := a.Max
	if limit == 0 {
		limit = defaultMax
	}
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	for ; decoder.PeekKind() != ']'; a.Count++ {
		if a.Count >= limit {
			if err := decoder.SkipValue(); err != nil {
				return err
			}
			continue
		}
		var absent T
		a.Items = append(a.Items, absent)
		if err := json.UnmarshalDecode(decoder, &a.Items[a.Count]); err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken()
	return err
}

// Missing reports whether the member is absent or null.
func (a Array[T]) Missing() bool { return a.Kind == 0 || a.Kind == 'n' }

// IsArray reports whether the member is an array.
func (a Array[T]) IsArray() bool { return a.Kind == '[' }
