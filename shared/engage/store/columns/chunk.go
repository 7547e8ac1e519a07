// Package columns encodes what a push keeps of its destinations. A chunk is written once, and DynamoDB charges its
// every KB. So it is stored by column (all bNumbers, all tracking ids, all texts of a variable), each a deflate block
// of its own: equal things compress well together.
package columns

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"carillon/shared/engage"
)

// ChunkSize is how many destinations one chunk holds at most: what one call to the device gateway carries.
const ChunkSize = 500

// Format names this encoding in the item, so that a later one can be told from it.
const Format = 1

const (
	// chunkBytes is how large a compressed chunk may be; an item of DynamoDB holds 400 KB.
	chunkBytes = 300_000
	// bodyBytes is how large the destinations of a chunk may be in the body of a POST (engage.BodySize). engage-deliver
	// sends ten chunks at the same time, each of which it holds as it was stored, decoded, and as a body, beside the
	// gateway's answer: with half of its memory to spare (BenchmarkMemory of tests/delivery).
	bodyBytes = 1 << 20
	// compression is the deflate level: on realistic data 2 % larger than the best, for a third of its CPU time
	// (BenchmarkEncodeChunks).
	compression = 3
	// maxText bounds what is made of an encoded text, in bytes; the body that it came with was no larger
	// (httpapi.MaxBody).
	maxText = 32 << 20
)

// Chunk is an encoded part of a push's destinations.
type Chunk struct {
	Size    int // destinations
	Encoded []byte
}

// EncodeChunks splits destinations into chunks of at most 500, fewer where their texts are long, and encodes each.
func EncodeChunks(destinations []engage.Destination) ([]Chunk, error) {
	encoder := getEncoder()
	defer encoders.Put(encoder)
	var chunks []Chunk
	for len(destinations) > 0 {
		n := fitting(destinations)
		part := destinations[:n]
		destinations = destinations[n:]
		encoded, err := encoder.split(part)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, encoded...)
	}
	return chunks, nil
}

// fitting returns how many of the first destinations make a chunk: one at least.
func fitting(destinations []engage.Destination) int {
	size := 0
	for i, d := range destinations {
		if size += engage.BodySize(d); i == ChunkSize || i > 0 && size > bodyBytes {
			return i
		}
	}
	return len(destinations)
}

// encoders are kept from chunk to chunk: the deflater of each is more than a megabyte.
var encoders = sync.Pool{New: func() any { return new(columnEncoder) }}

func getEncoder() *columnEncoder { return encoders.Get().(*columnEncoder) }

type columnEncoder struct {
	out     bytes.Buffer
	deflate *flate.Writer
	column  []byte
}

func (e *columnEncoder) split(part []engage.Destination) ([]Chunk, error) {
	encoded, err := e.encode(part)
	if err != nil {
		return nil, err
	}
	if len(encoded) <= chunkBytes || len(part) == 1 {
		return []Chunk{{Size: len(part), Encoded: encoded}}, nil
	}
	var all []Chunk
	pieces := len(encoded)/chunkBytes + 1
	for piece := range slices.Chunk(part, (len(part)+pieces-1)/pieces) {
		encoded, err := e.split(piece)
		if err != nil {
			return nil, err
		}
		all = append(all, encoded...)
	}
	return all, nil
}

func (e *columnEncoder) encode(part []engage.Destination) ([]byte, error) {
	names := variableNames(part)
	columns := []column{
		func(i int) (string, bool) { return part[i].BNumber, true },
		func(i int) (string, bool) { return part[i].CustomTrackingID, part[i].CustomTrackingID != "" },
	}
	for _, name := range names {
		columns = append(columns, func(i int) (string, bool) { return textOf(part[i], name) })
	}
	return e.encodeColumns(len(part), names, columns)
}

// column returns the text of a row, and whether there is one.
type column func(row int) (text string, there bool)

// encodeColumns writes the number of rows, names, and each column behind the other.
func (e *columnEncoder) encodeColumns(rows int, names []string, columns []column) ([]byte, error) {
	e.out.Reset()
	if e.deflate == nil {
		writer, err := flate.NewWriter(&e.out, compression)
		if err != nil {
			return nil, err
		}
		e.deflate = writer
	}
	e.deflate.Reset(&e.out)
	e.column = binary.AppendUvarint(e.column[:0], uint64(rows)) //nolint:gosec // a length
	e.column = binary.AppendUvarint(e.column, uint64(len(names)))
	for _, name := range names {
		e.column = appendText(e.column, name, true)
	}
	for _, value := range columns {
		for row := range rows {
			text, there := value(row)
			e.column = appendText(e.column, text, there)
		}
		if err := e.flush(); err != nil {
			return nil, err
		}
	}
	if err := e.deflate.Close(); err != nil {
		return nil, err
	}
	return bytes.Clone(e.out.Bytes()), nil
}

// flush ends a deflate block, so that each column gets a code table of its own.
func (e *columnEncoder) flush() error {
	if _, err := e.deflate.Write(e.column); err != nil {
		return err
	}
	e.column = e.column[:0]
	return e.deflate.Flush()
}

// appendText writes a text behind its length plus one, and an absent one as 0.
func appendText(b []byte, text string, there bool) []byte {
	if !there {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(text))+1), text...)
}

func variableNames(part []engage.Destination) []string {
	var names []string
	for _, d := range part {
		for _, v := range d.Personalization {
			if !slices.Contains(names, v.Name) {
				names = append(names, v.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

func textOf(d engage.Destination, variable string) (string, bool) {
	for _, v := range d.Personalization {
		if v.Name == variable {
			return v.Text, true
		}
	}
	return "", false
}

// DecodeChunk returns the destinations of an encoded chunk, their variables sorted by name. It returns engage.ErrChunk
// if EncodeChunks did not write it.
func DecodeChunk(encoded []byte) ([]engage.Destination, error) {
	r, rows, names, err := readColumns(encoded)
	if err != nil {
		return nil, err
	}
	destinations := make([]engage.Destination, rows)
	for i := range destinations {
		destinations[i].BNumber, _ = r.text()
	}
	for i := range destinations {
		destinations[i].CustomTrackingID, _ = r.text()
	}
	for _, name := range names {
		for i := range destinations {
			if text, there := r.text(); there {
				variable := engage.Variable{Name: name, Text: text}
				destinations[i].Personalization = append(destinations[i].Personalization, variable)
			}
		}
	}
	return destinations, r.end()
}

// readColumns returns a reader of the columns that encodeColumns wrote, behind their names.
func readColumns(encoded []byte) (r *columnReader, rows int, names []string, err error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(encoded)), maxText))
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%w: %w", engage.ErrChunk, err)
	}
	r = &columnReader{rest: text}
	count, named := r.uvarint(), r.uvarint()
	if count > ChunkSize || named > engage.MaxVariables {
		return nil, 0, nil, engage.ErrChunk
	}
	for range named {
		name, _ := r.text()
		names = append(names, name)
	}
	return r, int(count), names, nil
}

type columnReader struct {
	rest []byte
	bad  bool
}

// end returns an error unless all was read and all was there.
func (r *columnReader) end() error {
	if r.bad || len(r.rest) > 0 {
		return engage.ErrChunk
	}
	return nil
}

func (r *columnReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *columnReader) text() (string, bool) {
	n := r.uvarint()
	if n == 0 {
		return "", false
	}
	if n-1 > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return "", false
	}
	text := string(r.rest[:n-1])
	r.rest = r.rest[n-1:]
	return text, true
}
