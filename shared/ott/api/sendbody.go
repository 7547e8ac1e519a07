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

// readSend reads a message. It returns ott.DecodeSend's faults, or TooLarge for a message that cannot be kept. However
// much a body holds, no more of it is kept in memory than of a message.
func readSend(r *httpapi.Request) (ott.Message, fault.Violations, ott.SendBody, error) {
	refuse := func(err error) (ott.Message, fault.Violations, ott.SendBody, error) {
		return ott.Message{}, nil, ott.SendBody{}, err
	}
	reader, err := r.Body()
	if err != nil {
		return refuse(err)
	}
	text, err := io.ReadAll(io.LimitReader(reader, ott.MaxBody+1))
	if err != nil {
		return refuse(err)
	}
	whole := len(text) <= ott.MaxBody
	if !whole {
		if text, err = sendMembersOf(io.MultiReader(bytes.NewReader(text), reader)); err != nil {
			return refuse(err)
		}
	}
	message, faults, err := ott.DecodeSend(bytes.NewReader(text))
	if err != nil || len(faults) > 0 {
		return message, faults, ott.SendBody{}, err
	}
	body := ott.SendBody{Kept: jsonbody.TrimMark(text)}
	reader = bytes.NewReader(text)
	if !whole {
		if reader, err = r.Body(); err != nil { // from its start once more
			return refuse(err)
		}
	}
	body.Hash, err = jsonbody.Digest(reader)
	return message, faults, body, err
}

// sendMembersOf copies a body without the members of the outermost object that ott.DecodeSend does not read. It returns
// jsonbody.Decode's faults, or TooLarge for more than ott.MaxBody.
func sendMembersOf(body io.Reader) ([]byte, error) {
	var members sendMembers
	if err := jsonbody.Decode(body, &members); err != nil {
		return nil, err
	}
	text := bytes.TrimSpace(members.text.Bytes())
	if members.tooLarge || len(text) > ott.MaxBody {
		return nil, fault.New(fault.TooLarge, "the message is larger than 256 KiB")
	}
	return text, nil
}

type sendMembers struct {
	text     bytes.Buffer
	tooLarge bool // more than can be kept was left out
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It fails only on what is no JSON.
func (m *sendMembers) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	// The decoder finds duplicates.
	encoder := jsontext.NewEncoder(&m.text, jsontext.AllowDuplicateNames(true))
	outermost := decoder.StackDepth()
	for {
		_, length := decoder.StackIndex(decoder.StackDepth())
		isName := decoder.StackDepth() == outermost+1 && length%2 == 0
		kind := decoder.PeekKind()
		var value jsontext.Value
		var token jsontext.Token
		var err error
		if kind == '"' || kind == '0' {
			value, err = decoder.ReadValue()
		} else {
			token, err = decoder.ReadToken()
		}
		if err != nil {
			return err
		}
		switch {
		case isName && kind == '"' && !isSendMemberQuoted(value):
			err = decoder.SkipValue()
		case m.tooLarge:
		case encoder.OutputOffset()+int64(len(value)) > ott.MaxBody:
			m.tooLarge = true
		case value != nil:
			err = encoder.WriteValue(value)
		default:
			err = encoder.WriteToken(token)
		}
		if err != nil || decoder.StackDepth() == outermost {
			return err
		}
	}
}

func isSendMemberQuoted(quoted jsontext.Value) bool {
	const longest = 6 * len("message-group-key") // each character escaped, and a few more
	if len(quoted) > 2*longest {
		return false
	}
	name, err := jsontext.AppendUnquote(nil, quoted)
	return err == nil && isSendMember(string(name))
}

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
	decoder, encoder := jsontext.NewDecoder(body), jsontext.NewEncoder(&out)
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
