package api

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/jsonbody"
	"carillon/shared/ott"
)

// readSend reads a message. It returns ott.DecodeSend's faults, or TooLarge for a message that cannot be kept.
func readSend(r *httpapi.Request) (ott.Message, fault.Violations, ott.SendBody, error) {
	refuse := func(err error) (ott.Message, fault.Violations, ott.SendBody, error) {
		return ott.Message{}, nil, ott.SendBody{}, err
	}
	reader, err := r.Body()
	if err != nil {
		return refuse(err)
	}
	kept := new(beginning)
	message, faults, err := ott.DecodeSend(io.TeeReader(reader, kept))
	if err != nil {
		return refuse(err)
	}
	body := ott.SendBody{Kept: jsonbody.TrimMark(kept.bytes)}
	if kept.whole() {
		body.Hash, err = jsonbody.Digest(bytes.NewReader(body.Kept))
		return message, faults, body, err
	}
	if reader, err = r.Body(); err != nil { // from its start once more
		return refuse(err)
	}
	if body.Hash, err = jsonbody.Digest(reader); err != nil {
		return refuse(err)
	}
	if reader, err = r.Body(); err != nil {
		return refuse(err)
	}
	if body.Kept, err = copyMembers(reader, isSendMember); err != nil {
		return refuse(err)
	}
	if len(body.Kept) > ott.MaxBody {
		return refuse(fault.New(fault.TooLarge, "the message is larger than 256 KiB"))
	}
	return message, faults, body, nil
}

// beginning keeps what is written to it up to ott.MaxBody bytes and one more, which tells that there was more.
type beginning struct{ bytes []byte }

// Write implements io.Writer.
func (b *beginning) Write(p []byte) (int, error) {
	b.bytes = append(b.bytes, p[:min(len(p), ott.MaxBody+1-len(b.bytes))]...)
	return len(p), nil
}

func (b *beginning) whole() bool { return len(b.bytes) <= ott.MaxBody }

// isSendMember reports whether a member of the outermost object is one that ott.DecodeSend reads.
func isSendMember(name string) bool {
	known := []string{"messagekey", "messagegroupkey", "from", "to", "message", "validityperiod"}
	// As jsonbody.AnyCase compares.
	return slices.Contains(known, strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name)))
}

// copyMembers copies an object with those members alone whose names are to be kept, and more behind them, name and
// value in turn.
func copyMembers(
	body io.Reader, keep func(name string) bool, more ...jsontext.Token,
) (jsontext.Value, error) {
	var out bytes.Buffer
	decoder, encoder := jsontext.NewDecoder(jsonbody.SkipMark(body)), jsontext.NewEncoder(&out)
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	if err := encoder.WriteToken(jsontext.BeginObject); err != nil {
		return nil, err
	}
	for decoder.PeekKind() == '"' {
		name, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		if !keep(name.String()) {
			if err := decoder.SkipValue(); err != nil {
				return nil, err
			}
			continue
		}
		if err := encoder.WriteToken(name); err != nil {
			return nil, err
		}
		value, err := decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		if err := encoder.WriteValue(value); err != nil {
			return nil, err
		}
	}
	for _, token := range append(more, jsontext.EndObject) {
		if err := encoder.WriteToken(token); err != nil {
			return nil, err
		}
	}
	return bytes.TrimSpace(out.Bytes()), nil
}
