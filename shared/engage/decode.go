package engage

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
)

// batchBody is the body of POST /federated/outbound/v2/batch as it was sent: right or wrong.
type batchBody struct {
	Destinations   jsonbody.Array[jsonbody.Object[destinationBody]] `json:"destinations"`
	ANumbers       jsonbody.Array[jsonbody.Value]                   `json:"aNumbers"`
	ANumberGroupID jsonbody.Value                                   `json:"aNumberGroupId"`
	NotBefore      jsonbody.Value                                   `json:"notBefore"`
	TTLSeconds     jsonbody.Value                                   `json:"ttlSeconds"`
	KeepAfterCall  jsonbody.Value                                   `json:"keepAfterCall"`
}

type destinationBody struct {
	BNumber          jsonbody.Value  `json:"bNumber"`
	Personalization  personalization `json:"personalization"`
	CustomTrackingID jsonbody.Value  `json:"customTrackingId"`
}

// Batch is a body that was decoded and not yet checked.
type Batch struct{ body batchBody }

// DecodeBatch reads a body in one pass. Of more items than the limits allow it keeps one too many, to say so.
// It returns a fault Malformed, or the reader's own; whatever else is wrong with the body, Check says.
func DecodeBatch(body io.Reader) (*Batch, error) {
	batch := &Batch{}
	batch.body.Destinations.Max = MaxDestinations
	batch.body.ANumbers.Max = MaxANumbers
	if err := jsonbody.Decode(body, &batch.body); err != nil {
		return nil, err
	}
	return batch, nil
}

// HasANumbers reports whether aNumbers is there and not an empty array.
func (b *Batch) HasANumbers() bool {
	return !b.body.ANumbers.Missing() && !(b.body.ANumbers.IsArray() && b.body.ANumbers.Count == 0)
}

// GroupID returns aNumberGroupId, or "" if it is missing or not a string.
func (b *Batch) GroupID() string {
	if !b.body.ANumberGroupID.IsString() {
		return ""
	}
	return b.body.ANumberGroupID.Text
}

// HasGroup reports whether aNumberGroupId is there and not empty.
func (b *Batch) HasGroup() bool { return !b.body.ANumberGroupID.Missing() }

// Check returns the push that the batch asks for, with the aNumbers that were sent, as of now and with the variables a
// program declares. It returns a fault Invalid that says of each bad field what is wrong and where.
func (b *Batch) Check(variables []string, now time.Time) (*Push, error) {
	var c checker
	push := &Push{
		ANumbers:  c.aNumbers(b.body.ANumbers),
		CreatedAt: now,
		Terms: Terms{
			NotBefore:     c.notBefore(b.body.NotBefore, now),
			TTLSeconds:    c.ttlSeconds(b.body.TTLSeconds),
			KeepAfterCall: c.keepAfterCall(b.body.KeepAfterCall),
		},
		Destinations: c.destinations(b.body.Destinations, variables),
	}
	return push, c.faults.Err()
}

// checker reads members and collects what is wrong with them.
type checker struct{ faults fault.Violations }

func (c *checker) bad(format string, args ...any) { c.faults.Add(fault.BadValue, format, args...) }

func (c *checker) aNumbers(sent jsonbody.Array[jsonbody.Value]) []string {
	if sent.Missing() {
		return nil
	}
	if !sent.IsArray() || sent.Count > MaxANumbers {
		c.bad("aNumbers must be an array of at most %d E.164 numbers", MaxANumbers)
		return nil
	}
	numbers := make([]string, 0, len(sent.Items))
	for i, v := range sent.Items {
		if !v.IsString() || !IsE164(v.Text) {
			c.bad("aNumbers[%d] must be an E.164 number", i)
		}
		numbers = append(numbers, v.Text)
	}
	return numbers
}

// notBefore takes a time that is past, or none at all, as now.
func (c *checker) notBefore(v jsonbody.Value, now time.Time) time.Time {
	if v.Missing() {
		return now
	}
	t, err := parseTime(v.Text)
	switch {
	case !v.IsString() || err != nil:
		c.bad("notBefore must be an RFC 3339 time with an offset, such as 2020-02-10T16:00:00Z")
	case t.Sub(now) > maxAhead:
		c.bad("notBefore must be at most 30 days ahead")
	case t.After(now):
		return t
	}
	return now
}

// parseTime is strict where time.Parse is not: it takes an hour of one digit, and a comma for the point.
func parseTime(text string) (time.Time, error) {
	if len(text) < len("2006-01-02T15:04:05Z") || text[len("2006-01-02T15")] != ':' || strings.Contains(text, ",") {
		return time.Time{}, errors.New("engage: not an RFC 3339 time")
	}
	return time.Parse(time.RFC3339, text)
}

func (c *checker) ttlSeconds(v jsonbody.Value) int {
	if v.Kind == 0 || v.Kind == 'n' {
		return defaultTTL
	}
	seconds, err := strconv.Atoi(v.Text)
	if err != nil || strings.HasPrefix(v.Text, "+") || seconds < 1 || seconds > maxTTL {
		c.bad("ttlSeconds must be an integer from 1 to %d", maxTTL)
	}
	return seconds
}

func (c *checker) keepAfterCall(v jsonbody.Value) bool {
	switch {
	case v.Kind == 't', v.IsString() && v.Text == "true":
		return true
	case v.Kind == 'f', v.Kind == 0, v.Kind == 'n', v.IsString() && v.Text == "false":
	default:
		c.bad("keepAfterCall must be a boolean")
	}
	return false
}

// destinations drops all but the last of those with the same bNumber.
func (c *checker) destinations(
	sent jsonbody.Array[jsonbody.Object[destinationBody]], variables []string,
) []Destination {
	if !sent.IsArray() || sent.Count < 1 || sent.Count > MaxDestinations {
		c.bad("destinations must be an array of 1 to %d destinations", MaxDestinations)
		return nil
	}
	destinations := make([]Destination, 0, len(sent.Items))
	last := make(map[string]int, len(sent.Items))
	for i, item := range sent.Items {
		destinations = append(destinations, c.destination(i, item, variables))
		last[item.Value.BNumber.Text] = i
	}
	if len(last) == len(destinations) {
		return destinations
	}
	kept := destinations[:0]
	for i, d := range destinations {
		if last[d.BNumber] == i {
			kept = append(kept, d)
		}
	}
	return kept
}

func (c *checker) destination(i int, object jsonbody.Object[destinationBody], variables []string) Destination {
	sent := object.Value
	if !object.IsObject() {
		c.bad("destinations[%d] must be an object", i)
		return Destination{}
	}
	if !sent.BNumber.IsString() || !IsE164(sent.BNumber.Text) {
		c.bad("destinations[%d].bNumber must be an E.164 number", i)
	}
	id := sent.CustomTrackingID
	if id.Kind != 0 && id.Kind != 'n' && (!id.IsString() || utf8.RuneCountInString(id.Text) > maxTrackingID) {
		c.bad("destinations[%d].customTrackingId must be a string of at most %d characters", i, maxTrackingID)
	}
	if p := sent.Personalization; p.kind != 0 && p.kind != 'n' && p.kind != '{' {
		c.bad("destinations[%d].personalization must be an object of strings", i)
	}
	var texts []Variable
	for _, v := range sent.Personalization.variables {
		switch {
		case !slices.Contains(variables, v.name):
			c.bad("destinations[%d].personalization.%s is not a variable of the program", i, shown(v.name))
		case !v.text.IsString() || utf8.RuneCountInString(v.text.Text) > maxPersonalization:
			c.bad("destinations[%d].personalization.%s must be a string of at most %d characters",
				i, v.name, maxPersonalization)
		default:
			texts = append(texts, Variable{Name: v.name, Text: v.text.Text})
		}
	}
	return Destination{BNumber: sent.BNumber.Text, Personalization: texts, CustomTrackingID: id.Text}
}

// shown shortens a name that a caller made up, for a message.
func shown(name string) string {
	const limit = 64
	if runes := []rune(name); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return name
}

// personalization is an object of any members, in the order sent.
type personalization struct {
	kind      jsontext.Kind
	variables []variableBody
}

type variableBody struct {
	name string
	text jsonbody.Value
}

// MaxVariables is how many variables a destination has at most: more than any program declares, so that of one member
// more some are wrong.
const MaxVariables = 256

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It fails only on what is no JSON.
func (p *personalization) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	p.kind = decoder.PeekKind()
	if p.kind != '{' {
		return decoder.SkipValue()
	}
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadToken()
		if err != nil {
			return err
		}
		variable := variableBody{name: name.String()}
		if err := variable.text.UnmarshalJSONFrom(decoder); err != nil {
			return err
		}
		if len(p.variables) <= MaxVariables {
			p.variables = append(p.variables, variable)
		}
	}
	_, err := decoder.ReadToken()
	return err
}
