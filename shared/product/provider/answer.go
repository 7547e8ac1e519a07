package provider

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/product"
)

// answer is what is read of the provider's answer, of a grant and of a refusal. entitlementID, responseCode and url
// decide; whatever else is missing or odd costs only itself.
type answer struct {
	entitlementID   string
	responseCode    string
	responseMessage string
	url             string
	urlOdd          bool           // it is there and no text
	urlExpiry       jsontext.Value // nil if it is not there
}

// readAnswer reads an answer: a JSON object, in which members that decide nothing may be of any kind, twice, and not
// UTF-8. It returns none, and false, for what is no JSON object, and where a member that decides is there twice with
// different values.
func readAnswer(text []byte) (answer, bool) {
	var a answer
	from := jsontext.NewDecoder(bytes.NewReader(text),
		jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	decided := deciding{}
	err := eachMember(from, func(name string) error {
		if name == "parameters" && from.PeekKind() == '{' {
			return eachMember(from, func(name string) error {
				value, err := from.ReadValue()
				switch name {
				case "url":
					a.url, a.urlOdd = decided.text("url", value)
				case "urlExpiry":
					a.urlExpiry = value.Clone()
				}
				return err
			})
		}
		value, err := from.ReadValue()
		switch name {
		case "entitlementId":
			a.entitlementID, _ = decided.text(name, value)
		case "responseCode":
			a.responseCode, _ = decided.text(name, value)
		case "responseMessage":
			a.responseMessage, _ = textOf(value)
		}
		return err
	})
	if err == nil {
		_, err = from.ReadToken()
	}
	if err != io.EOF || decided["twice"] != "" { //nolint:errorlint // the decoder's, which wraps none at the end
		return answer{}, false
	}
	return a, true
}

// deciding are the values of the members that decide, as they came first; "twice" is one that came otherwise too.
type deciding map[string]string

// text returns a member's text, and whether it is odd: there, and no text.
func (d deciding) text(name string, value jsontext.Value) (text string, odd bool) {
	text, ok := textOf(value)
	if first, known := d[name]; known && first != string(value) {
		d["twice"] = name
	}
	d[name] = string(value)
	return text, !ok && value.Kind() != 'n'
}

func textOf(value jsontext.Value) (text string, ok bool) {
	if value.Kind() != '"' {
		return "", false
	}
	err := json.Unmarshal(value, &text, jsontext.AllowInvalidUTF8(true))
	return text, err == nil
}

// eachMember reads an object, whose values visit reads.
func eachMember(from *jsontext.Decoder, visit func(name string) error) error {
	if from.PeekKind() != '{' {
		return io.ErrUnexpectedEOF
	}
	if _, err := from.ReadToken(); err != nil {
		return err
	}
	for from.PeekKind() == '"' {
		name, err := from.ReadToken()
		if err != nil {
			return err
		}
		if err := visit(name.String()); err != nil {
			return err
		}
	}
	_, err := from.ReadToken() // } or what is wrong
	return err
}

// An expiry before or after these is none: a zero or a largest time of some system.
var (
	firstExpiry = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	lastExpiry  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// fromMilliseconds is the number from which one of a time counts milliseconds: of seconds it would be the year 5138.
const fromMilliseconds = 1e11

// readExpiry reads urlExpiry: what product.ReadMoment reads, or seconds or milliseconds since 1970, as a number or as a
// text. It returns zero if there is none, null and a blank text included; and false for what it cannot read.
func readExpiry(value jsontext.Value) (time.Time, bool) {
	text := string(value)
	switch value.Kind() {
	case '"':
		text, _ = textOf(value)
		text = strings.TrimSpace(text)
	case '0':
	case 'n':
		text = ""
	default:
		if value != nil {
			return time.Time{}, false
		}
	}
	if text == "" {
		return time.Time{}, true
	}
	at, ok := product.ReadMoment(text, true)
	if !ok {
		at, ok = readEpoch(text)
	}
	if !ok || at.Before(firstExpiry) || at.After(lastExpiry) {
		return time.Time{}, false
	}
	return at, true
}

func readEpoch(text string) (time.Time, bool) {
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || !(number >= 0 && number < 1e15) { // NaN is neither
		return time.Time{}, false
	}
	if number < fromMilliseconds {
		number *= 1000
	}
	return time.UnixMilli(int64(number)).UTC(), true
}

// shape returns what the log may be told of a value that might be anything, a secret too: its first characters, digits
// as 9 and letters as a.
func shape(value jsontext.Value) string {
	const most = 40
	text := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return '9'
		case r < ' ' || r > '~':
			return '?'
		case r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z':
			return 'a'
		}
		return r
	}, string(value[:min(len(value), most)]))
	if len(value) > most {
		text += "…"
	}
	return text
}
