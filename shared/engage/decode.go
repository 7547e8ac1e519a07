package engage

import (
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
)

// batchBody is the body of POST /federated/outbound/v2/batch as it was sent: right or wrong.
type batchBody struct {
	Destinations   list[destinationItem] `json:"destinations"`
	ANumbers       list[jsonbody.Value]  `json:"aNumbers"`
	ANumberGroupID jsonbody.Value        `json:"aNumberGroupId"`
	NotBefore      jsonbody.Value        `json:"notBefore"`
	TTLSeconds     jsonbody.Value        `json:"ttlSeconds"`
	KeepAfterCall  jsonbody.Value        `json:"keepAfterCall"`
}

type destinationBody struct {
	BNumber          jsonbody.Value  `json:"bNumber"`
	Personalization  personalization `json:"personalization"`
	CustomTrackingID jsonbody.Value  `json:"customTrackingId"`
}

// list is an array that knows where in the body it stands.
type list[T any] struct {
	jsonbody.Array[T]
	start, end int64
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It fails only on what is no JSON.
func (l *list[T]) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	l.start = decoder.InputOffset()
	err := l.Array.UnmarshalJSONFrom(decoder)
	l.end = decoder.InputOffset()
	return err
}

// destinationItem is an object that knows where in the body it ends.
type destinationItem struct {
	jsonbody.Object[destinationBody]
	end int64
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It fails only on what is no JSON.
func (d *destinationItem) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	err := d.Object.UnmarshalJSONFrom(decoder)
	d.end = decoder.InputOffset()
	return err
}

// Batch is a body that was decoded and not yet checked.
type Batch struct {
	body   batchBody
	halves []int64 // where in the body halves of surrogate pairs stand, as jsonbody.HalfReader has it
}

// DecodeBatch reads a body in one pass. Of more items than the limits allow it keeps one too many, to say so.
// It returns a fault Malformed, or the reader's own; whatever else is wrong with the body, Check says. Half a surrogate
// pair is wrong where a member is read, and malformed elsewhere.
func DecodeBatch(body io.Reader) (*Batch, error) {
	batch := &Batch{}
	batch.body.Destinations.Max = MaxDestinations
	batch.body.ANumbers.Max = MaxANumbers
	halves := jsonbody.NewHalfReader(body)
	if err := jsonbody.Decode(halves, &batch.body); err != nil {
		return nil, err
	}
	batch.halves = halves.Offsets()
	if batch.hasStrayHalf() {
		return nil, fault.New(fault.Malformed, "the body is not valid JSON: it holds half a surrogate pair")
	}
	return batch, nil
}

// hasStrayHalf reports whether a half stands where no member is read, so that no check would find it. Those within the
// lists are found by where they are, and the others by their marks.
func (b *Batch) hasStrayHalf() bool {
	outside := 0
	for _, at := range b.halves {
		if !b.body.Destinations.holds(at) && !b.body.ANumbers.holds(at) {
			outside++
		}
	}
	found := 0
	for _, v := range []jsonbody.Value{
		b.body.ANumberGroupID, b.body.NotBefore, b.body.TTLSeconds, b.body.KeepAfterCall,
	} {
		found += jsonbody.CountHalves(v.Text)
	}
	return outside > found
}

func (l *list[T]) holds(at int64) bool { return l.start <= at && at < l.end }

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
	c := checker{halves: b.halves}
	push := &Push{
		ANumbers:      c.aNumbers(b.body.ANumbers),
		CreatedAt:     now,
		NotBefore:     c.notBefore(b.body.NotBefore, now),
		TTLSeconds:    c.ttlSeconds(b.body.TTLSeconds),
		KeepAfterCall: c.keepAfterCall(b.body.KeepAfterCall),
		Destinations:  c.destinations(b.body.Destinations, variables),
	}
	return push, c.faults.Err()
}

// checker reads members and collects what is wrong with them.
type checker struct {
	faults fault.Violations
	halves []int64 // those that are ahead
}

func (c *checker) bad(format string, args ...any) { c.faults.Add(fault.BadValue, format, args...) }

func (c *checker) aNumbers(sent list[jsonbody.Value]) []string {
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
	if v.Kind == 0 || v.Kind == 'n' {
		return now
	}
	t, ok := parseTime(v.Text)
	switch {
	case !v.IsString() || !ok:
		c.bad("notBefore must be an RFC 3339 time with an offset, such as 2020-02-10T16:00:00Z")
	case t.Sub(now) > maxAhead:
		c.bad("notBefore must be at most 30 days ahead")
	case t.After(now):
		return t
	}
	return now
}

func (c *checker) ttlSeconds(v jsonbody.Value) int {
	if v.Kind == 0 || v.Kind == 'n' {
		return defaultTTL
	}
	seconds, ok := parseInteger(v.Text)
	if !ok || seconds < 1 || seconds > maxTTL {
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
func (c *checker) destinations(sent list[destinationItem], variables []string) []Destination {
	if !sent.IsArray() || sent.Count < 1 || sent.Count > MaxDestinations {
		c.bad("destinations must be an array of 1 to %d destinations", MaxDestinations)
		return nil
	}
	destinations := make([]Destination, 0, len(sent.Items))
	last := make(map[string]int, len(sent.Items))
	c.halvesBefore(sent.start)
	for i := range sent.Items {
		item := &sent.Items[i]
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

// The rules of a destination's texts.
const (
	noControls = "must not contain control characters"
	noDisguise = "must not contain control characters or bidirectional overrides"
	noHalves   = "must be valid Unicode"
)

var (
	trackingIDLimit      = "must be a string of at most " + strconv.Itoa(maxTrackingID) + " characters"
	personalizationLimit = "must be a string of at most " + strconv.Itoa(maxPersonalization) + " characters"
)

func (c *checker) destination(i int, item *destinationItem, variables []string) Destination {
	halves := c.halvesBefore(item.end)
	if !item.IsObject() {
		c.destinationFault(i, "", "must be an object")
		return Destination{}
	}
	sent := &item.Value
	if !sent.BNumber.IsString() || !IsE164(sent.BNumber.Text) {
		c.destinationFault(i, ".bNumber", "must be an E.164 number")
		halves -= halvesOf(sent.BNumber.Text, halves)
	}
	if id := sent.CustomTrackingID; id.Kind != 0 && id.Kind != 'n' {
		found := halvesOf(id.Text, halves)
		halves -= found
		switch {
		case found > 0:
			c.destinationFault(i, ".customTrackingId", noHalves)
		case !id.IsString() || !isAtMost(maxTrackingID, id.Text):
			c.destinationFault(i, ".customTrackingId", trackingIDLimit)
		case hasControls(id.Text):
			c.destinationFault(i, ".customTrackingId", noControls)
		}
	}
	if p := &sent.Personalization; p.kind != 0 && p.kind != 'n' && p.kind != '{' {
		c.destinationFault(i, ".personalization", "must be an object of strings")
	}
	texts, found := c.personalization(i, sent.Personalization.variables, variables, halves)
	if halves > found {
		c.destinationFault(i, "", noHalves) // in a member that nobody reads
	}
	return Destination{BNumber: sent.BNumber.Text, Personalization: texts, CustomTrackingID: sent.CustomTrackingID.Text}
}

// personalization returns the texts of a destination, and how many of its halves it found in them.
func (c *checker) personalization(i int, sent []variableBody, variables []string, halves int) ([]Variable, int) {
	var texts []Variable
	found := 0
	for _, v := range sent {
		inName, inText := halvesOf(v.name, halves), halvesOf(v.text.Text, halves)
		found += inName + inText
		switch {
		case inName == 0 && !slices.Contains(variables, v.name):
			c.variableFault(i, v.name, "is not a variable of the program")
		case inName > 0, inText > 0:
			c.variableFault(i, v.name, noHalves)
		case !v.text.IsString() || !isAtMost(maxPersonalization, v.text.Text):
			c.variableFault(i, v.name, personalizationLimit)
		case isDisguised(v.text.Text):
			c.variableFault(i, v.name, noDisguise)
		case len(c.faults) == 0: // else nobody reads them
			if texts == nil {
				texts = make([]Variable, 0, len(sent))
			}
			texts = append(texts, Variable{Name: v.name, Text: v.text.Text})
		}
	}
	return texts, found
}

// destinationFault adds what is wrong with a destination's member, or with the destination. It allocates nothing for a
// fault that is only counted: a batch can have millions.
func (c *checker) destinationFault(i int, member, rule string) {
	if c.faults.Full() {
		c.faults.Add(fault.BadValue, "")
		return
	}
	c.bad("destinations[%d]%s %s", i, member, rule)
}

func (c *checker) variableFault(i int, name, rule string) {
	if c.faults.Full() {
		c.faults.Add(fault.BadValue, "")
		return
	}
	c.destinationFault(i, ".personalization."+shown(name), rule)
}

// halvesBefore returns how many of the halves that are ahead stand before an offset, and leaves them behind.
func (c *checker) halvesBefore(end int64) int {
	count := 0
	for count < len(c.halves) && c.halves[count] < end {
		count++
	}
	c.halves = c.halves[count:]
	return count
}

// halvesOf returns how many halves a text holds: none where there are none at all, whatever it looks like.
func halvesOf(text string, most int) int {
	if most == 0 {
		return 0
	}
	return min(most, jsonbody.CountHalves(text))
}

// shown shortens a name that a caller made up, for a message.
func shown(name string) string {
	const limit = 64
	count := 0
	for end := range name {
		if count == limit {
			name = name[:end] + "…"
			break
		}
		count++
	}
	return jsonbody.ReplaceHalves(name)
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
