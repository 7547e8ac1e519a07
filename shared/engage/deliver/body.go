package deliver

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/engage"
)

// encodeBody writes the body of a POST. It is the same bytes for the same attempt, whoever writes it. It returns
// engage.ErrChunk if what is kept is no JSON, or no Unicode.
func encodeBody(
	requestID string, chunk int, presentation *engage.Presentation, destinations []engage.Destination,
) ([]byte, error) {
	size := 0
	for _, d := range destinations {
		size += engage.BodySize(d)
	}
	content := presentation.Program.Content.Clone()
	if len(content) == 0 {
		content = jsontext.Value("{}")
	}
	b := appender{errs: []error{content.Compact()}}
	b.text = make([]byte, 0, size+len(content)+bodyHead)
	b.raw(`{"type":"push","requestId":`).quoted(requestID)
	b.raw(`,"chunk":`).number(chunk)
	b.raw(`,"program":{"uuid":`).quoted(presentation.Program.UUID)
	b.raw(`,"name":`).quoted(presentation.Program.Name)
	b.raw(`,"content":`).raw(string(content)).raw(`},"aNumbers":[`)
	for i, number := range presentation.ANumbers {
		b.comma(i).quoted(number)
	}
	b.raw(`],"ttlSeconds":`).number(presentation.TTLSeconds)
	b.raw(`,"keepAfterCall":`).raw(strconv.FormatBool(presentation.KeepAfterCall))
	b.raw(`,"notBefore":`).quoted(engage.WireTime(presentation.NotBefore))
	b.raw(`,"deliverBefore":`).quoted(engage.WireTime(presentation.DeliverBefore()))
	b.raw(`,"destinations":[`)
	for i, d := range destinations {
		b.comma(i).raw(`{"bNumber":`).quoted(d.BNumber).raw(`,"personalization":{`)
		for j, v := range d.Personalization {
			b.comma(j).quoted(v.Name).raw(`:`).quoted(v.Text)
		}
		b.raw(`},"customTrackingId":`)
		if d.CustomTrackingID == "" {
			b.raw(`null}`)
		} else {
			b.quoted(d.CustomTrackingID).raw(`}`)
		}
	}
	b.raw(`]}`)
	if err := errors.Join(b.errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", engage.ErrChunk, err)
	}
	return b.text, nil
}

// bodyHead is room for what all destinations have in common, but for the content: 400 aNumbers and some.
const bodyHead = 9_000

// appender writes JSON and collects errors.
type appender struct {
	text []byte
	errs []error
}

func (a *appender) raw(text string) *appender {
	a.text = append(a.text, text...)
	return a
}

func (a *appender) quoted(text string) *appender {
	quoted, err := jsontext.AppendQuote(a.text, text)
	if err != nil {
		a.errs = append(a.errs, err)
	}
	a.text = quoted
	return a
}

func (a *appender) number(n int) { a.text = strconv.AppendInt(a.text, int64(n), 10) }

// comma separates an element or member from the one before.
func (a *appender) comma(i int) *appender {
	if i > 0 {
		a.text = append(a.text, ',')
	}
	return a
}
