package jsonbody

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Digest returns a hash of the value of a JSON object, by which the same body is known again (docs/contract.md,
// common). Bodies have the same digest if RFC 8785 has one canonical form for them: the order of members, white space,
// a byte order mark, escapes and the way a number is written do not matter. In one point it is finer than RFC 8785:
// numbers are the same if their decimal values are, however many digits they have, while doubles would be the same for
// two ids of 17 digits. (Numbers with an exponent of more than 18 digits are told apart by their text.)
//
// It is of a body that Decode takes; half surrogate pairs, as a HalfReader knows them, and duplicate members are not
// refused, and have digests of their own. Digest reads body to its end, keeps 32 bytes for each member of the objects
// that are open, and the largest text of the body. It returns a fault Malformed, or the reader's own.
func Digest(body io.Reader) ([sha256.Size]byte, error) {
	from := newSource(body)
	halves := NewHalfReader(from)
	// That no member is there twice was seen when the body was decoded. Here it would cost memory once more.
	d := digester{decoder: jsontext.NewDecoder(halves, jsontext.AllowDuplicateNames(true))}
	whole := sha256.New()
	err := d.value(whole, 0)
	if err == nil {
		err = atEnd(d.decoder)
	}
	if err != nil {
		return [sha256.Size]byte{}, malformed(d.decoder, from, err)
	}
	if len(halves.Offsets()) > 0 {
		// What looks like the marks of these halves in another body is none.
		_, _ = whole.Write([]byte("half")) // a hash never fails
	}
	return [sha256.Size]byte(whole.Sum(nil)), nil
}

// digester hashes a tree: an array is the hash of its elements, an object that of its members' hashes in ascending
// order. What is written into a hash begins with its JSON kind and is of a fixed length or says its length, so that
// nothing else is written in the same bytes.
type digester struct {
	decoder *jsontext.Decoder
	levels  []*level
	head    []byte // of a scalar: its kind and length
	scratch []byte // of one write
}

// level is what arrays and objects need that are as deep as each other. They need it one after the other.
type level struct {
	hash    hash.Hash
	members [][sha256.Size]byte
}

// value writes the next value into a hash.
func (d *digester) value(to hash.Hash, depth int) error {
	switch kind := d.decoder.PeekKind(); kind {
	case '"', '0':
		return d.scalar(to, kind)
	case '[':
		return d.array(to, depth)
	case '{':
		return d.object(to, depth)
	default:
		if _, err := d.decoder.ReadToken(); err != nil {
			return err
		}
		d.write(to, byte(kind), nil)
		return nil
	}
}

// scalar writes a string or a number.
func (d *digester) scalar(to hash.Hash, kind jsontext.Kind) error {
	raw, err := d.decoder.ReadValue()
	if err != nil {
		return err
	}
	if kind == '0' {
		d.scratch = appendDecimal(d.scratch[:0], raw)
		raw = d.scratch
	} else if raw, err = d.unquote(raw); err != nil {
		return err
	}
	d.head = binary.AppendUvarint(append(d.head[:0], byte(kind)), uint64(len(raw)))
	_, _ = to.Write(d.head) // a hash never fails
	_, _ = to.Write(raw)
	return nil
}

// unquote returns the characters of a string, until the next one is read.
func (d *digester) unquote(raw []byte) (_ []byte, err error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	d.scratch, err = jsontext.AppendUnquote(d.scratch[:0], raw)
	return d.scratch, err
}

func (d *digester) array(to hash.Hash, depth int) error {
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	elements := d.level(depth).hash
	elements.Reset()
	for d.decoder.PeekKind() != ']' {
		if err := d.value(elements, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	d.write(to, '[', elements)
	return nil
}

func (d *digester) object(to hash.Hash, depth int) error {
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	own := d.level(depth)
	own.members = own.members[:0]
	for d.decoder.PeekKind() != '}' {
		own.hash.Reset()
		if err := d.scalar(own.hash, '"'); err != nil {
			return err
		}
		if err := d.value(own.hash, depth+1); err != nil {
			return err
		}
		own.members = append(own.members, [sha256.Size]byte{})
		own.hash.Sum(own.members[len(own.members)-1][:0])
	}
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	// The names are in the hashes, so these have an order that is the value's own as well.
	slices.SortFunc(own.members, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	own.hash.Reset()
	for i := range own.members {
		_, _ = own.hash.Write(own.members[i][:]) // a hash never fails
	}
	d.write(to, '{', own.hash)
	return nil
}

func (d *digester) level(depth int) *level {
	if depth == len(d.levels) {
		d.levels = append(d.levels, &level{hash: sha256.New()})
	}
	return d.levels[depth]
}

// write writes a kind and what is in a hash, if any.
func (d *digester) write(to hash.Hash, kind byte, of hash.Hash) {
	d.scratch = append(d.scratch[:0], kind)
	if of != nil {
		d.scratch = of.Sum(d.scratch)
	}
	_, _ = to.Write(d.scratch) // a hash never fails
}

// maxExponent is how many digits an exponent has at most that is counted with.
const maxExponent = 18

// appendDecimal appends a number of JSON's grammar in the one way in which its decimal value is written here: digits
// that neither begin nor end with 0, and the power of ten that they are multiplied by, as in -12e-3; 0 for zero.
func appendDecimal(to, number []byte) []byte {
	start := len(to)
	mantissa, exponent := number, []byte(nil)
	if e := bytes.IndexAny(number, "eE"); e >= 0 {
		mantissa, exponent = number[:e], number[e+1:]
	}
	mantissa, negative := bytes.CutPrefix(mantissa, []byte("-"))
	if negative {
		to = append(to, '-')
	}
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	digits := len(to)
	to = append(to, bytes.TrimLeft(whole, "0")...)
	if len(to) == digits {
		to = append(to, bytes.TrimLeft(fraction, "0")...)
	} else {
		to = append(to, fraction...)
	}
	significant := len(bytes.TrimRight(to[digits:], "0"))
	if significant == 0 {
		return append(to[:start], '0')
	}
	power := int64(len(to)-digits-significant) - int64(len(fraction))
	to = to[:digits+significant]
	if len(exponent) > 0 {
		sign, rest := exponent[0], bytes.TrimLeft(exponent, "+-0")
		if len(rest) > maxExponent {
			return append(append(to[:start], '?'), number...)
		}
		shift, _ := strconv.ParseInt(string(rest), 10, 64) // of digits alone; 0 for none
		if sign == '-' {
			shift = -shift
		}
		power += shift
	}
	return strconv.AppendInt(append(to, 'e'), power, 10)
}
