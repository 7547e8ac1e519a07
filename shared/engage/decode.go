package engage

import (
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
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
	var err error
	if batch.halves, err = jsonbody.DecodeHalves(body, &batch.body); err != nil {
		return nil, err
	}
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
	texts, found := c.personalization(i, sent.Personalization, variables, halves)
	if halves > found {
		c.destinationFault(i, "", noHalves) // in a member that nobody reads
	}
	return Destination{BNumber: sent.BNumber.Text, Personalization: texts, CustomTrackingID: sent.CustomTrackingID.Text}
}

// personalization returns the texts of a destination, as long as no fault was found, and how many of its halves it
// found in them.
func (c *checker) personalization(i int, sent personalization, variables []string, halves int) ([]Variable, int) {
	var texts []Variable
	found := 0
	for name, text := range sent.all() {
		inName, inText := halvesOf(name, halves), halvesOf(text.Text, halves)
		found += inName + inText
		switch {
		case inName == 0 && !slices.Contains(variables, name):
			c.variableFault(i, name, "is not a variable of the program")
		case inName > 0, inText > 0:
			c.variableFault(i, name, noHalves)
		case !text.IsString() || !isAtMost(maxPersonalization, text.Text):
			c.variableFault(i, name, personalizationLimit)
		case isDisguised(text.Text):
			c.variableFault(i, name, noDisguise)
		case len(c.faults) == 0: // else nobody reads them
			if texts == nil {
				texts = make([]Variable, 0, min(sent.count, len(variables)))
			}
			texts = append(texts, Variable{Name: name, Text: text.Text})
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

// personalization is an object of any members, in the order sent. A body has room for millions of them, which are kept
// in no more memory than they took in the body: those of a destination are one string.
type personalization struct {
	kind    jsontext.Kind
	count   int
	members string // of each its name, behind fieldEnd, its kind and its text, behind fieldEnd
}

// fieldEnd is no byte of any text in UTF-8.
const fieldEnd = 0xff

// MaxVariables is how many variables a program declares at most, and so how many a destination has.
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
	var few [512]byte
	members := few[:0]
	for ; decoder.PeekKind() != '}'; p.count++ {
		var err error
		if members, err = appendText(members, decoder); err != nil {
			return err
		}
		kind := decoder.PeekKind()
		members = append(members, fieldEnd, byte(kind))
		if kind == '"' {
			members, err = appendText(members, decoder)
		} else {
			err = decoder.SkipValue()
		}
		if err != nil {
			return err
		}
		members = append(members, fieldEnd)
	}
	p.members = string(members)
	_, err := decoder.ReadToken()
	return err
}

// appendText appends the next value or name, which is a string unless the JSON is broken.
func appendText(to []byte, decoder *jsontext.Decoder) ([]byte, error) {
	quoted, err := decoder.ReadValue()
	if err != nil {
		return to, err
	}
	return jsontext.AppendUnquote(to, quoted)
}

// all returns the members and their values, which have no Text where they are no strings.
func (p *personalization) all() iter.Seq2[string, jsonbody.Value] {
	return func(yield func(string, jsonbody.Value) bool) {
		for next := p.members; next != ""; {
			name, behind := cutField(next)
			value, rest := cutField(behind)
			if !yield(name, jsonbody.Value{Kind: jsontext.Kind(value[0]), Text: value[1:]}) {
				return
			}
			next = rest
		}
	}
}

func cutField(members string) (field, next string) {
	end := strings.IndexByte(members, fieldEnd)
	return members[:end], members[end+1:]
}
