package deliver

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/engage"
	"carillon/shared/fault"
)

// encodeBody writes the body of a POST. It is the same bytes for the same attempt, whoever writes it.
func encodeBody(
	requestID string, chunk int, presentation *engage.Presentation, destinations []engage.Destination,
) ([]byte, error) {
	var b bytes.Buffer
	e := jsontext.NewEncoder(&b)
	w := tokenWriter{encoder: e}
	w.tokens(jsontext.BeginObject,
		jsontext.String("type"), jsontext.String("push"),
		jsontext.String("requestId"), jsontext.String(requestID),
		jsontext.String("chunk"), jsontext.Int(int64(chunk)),
		jsontext.String("program"), jsontext.BeginObject,
		jsontext.String("uuid"), jsontext.String(presentation.Program.UUID),
		jsontext.String("name"), jsontext.String(presentation.Program.Name),
		jsontext.String("content"))
	w.value(presentation.Program.Content)
	w.tokens(jsontext.EndObject, jsontext.String("aNumbers"), jsontext.BeginArray)
	for _, number := range presentation.ANumbers {
		w.tokens(jsontext.String(number))
	}
	w.tokens(jsontext.EndArray,
		jsontext.String("ttlSeconds"), jsontext.Int(int64(presentation.TTLSeconds)),
		jsontext.String("keepAfterCall"), jsontext.Bool(presentation.KeepAfterCall),
		jsontext.String("notBefore"), jsontext.String(engage.WireTime(presentation.NotBefore)),
		jsontext.String("deliverBefore"), jsontext.String(engage.WireTime(presentation.DeliverBefore())),
		jsontext.String("destinations"), jsontext.BeginArray)
	for _, d := range destinations {
		w.tokens(jsontext.BeginObject,
			jsontext.String("bNumber"), jsontext.String(d.BNumber),
			jsontext.String("personalization"), jsontext.BeginObject)
		for _, v := range d.Personalization {
			w.tokens(jsontext.String(v.Name), jsontext.String(v.Text))
		}
		w.tokens(jsontext.EndObject, jsontext.String("customTrackingId"))
		if d.CustomTrackingID == "" {
			w.tokens(jsontext.Null, jsontext.EndObject)
		} else {
			w.tokens(jsontext.String(d.CustomTrackingID), jsontext.EndObject)
		}
	}
	w.tokens(jsontext.EndArray, jsontext.EndObject)
	if w.err != nil {
		return nil, fault.Wrap(fault.Internal, w.err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// tokenWriter keeps the first error.
type tokenWriter struct {
	encoder *jsontext.Encoder
	err     error
}

func (w *tokenWriter) tokens(tokens ...jsontext.Token) {
	for _, token := range tokens {
		if w.err == nil {
			w.err = w.encoder.WriteToken(token)
		}
	}
}

func (w *tokenWriter) value(value jsontext.Value) {
	if len(value) == 0 {
		value = jsontext.Value("{}")
	}
	if w.err == nil {
		w.err = w.encoder.WriteValue(value)
	}
}
