package engage

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"carillon/shared/httpapi"
)

const (
	// chunkDestinations is how many destinations one chunk holds at most: what one call to the device gateway carries.
	chunkDestinations = 500
	// chunkBytes is how large a compressed chunk may be; an item of DynamoDB holds 400 KB.
	chunkBytes = 300_000
	// compression is the deflate level: on realistic data 2 % larger than the best, for a third of its CPU time (BenchmarkEncodeChunks).
	compression = 3
	// columnsFormat names this encoding in the item, so that a later one can be told from it.
	columnsFormat = 1
)

// A chunk is written once, and DynamoDB charges its every KB. So its destinations are stored by column (all bNumbers,
// all tracking ids, all texts of a variable), each a deflate block of its own: equal things compress well together.

// Chunk is an encoded part of a push.
type Chunk struct {
	Size    int // destinations
	Encoded []byte
}

// EncodeChunks splits destinations into chunks of at most 500, fewer where their texts are long, and encodes each.
func EncodeChunks(destinations []Destination) ([]Chunk, error) {
	encoder := getEncoder()
	defer encoders.Put(encoder)
	var chunks []Chunk
	for part := range slices.Chunk(destinations, chunkDestinations) {
		encoded, err := encoder.split(part)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, encoded...)
	}
	return chunks, nil
}

// encoders are kept from chunk to chunk: the deflater of each is more than a megabyte.
var encoders = sync.Pool{New: func() any { return new(columnEncoder) }}

func getEncoder() *columnEncoder { return encoders.Get().(*columnEncoder) }

type columnEncoder struct {
	out     bytes.Buffer
	deflate *flate.Writer
	column  []byte
}

func (e *columnEncoder) split(part []Destination) ([]Chunk, error) {
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

func (e *columnEncoder) encode(part []Destination) ([]byte, error) {
	names := variableNames(part)
	columns := []column{
		func(i int) (string, bool) { return part[i].BNumber, true },
		func(i int) (string, bool) { return part[i].CustomTrackingID, part[i].CustomTrackingID != "" },
	}
	for _, name := range names {
		columns = append(columns, func(i int) (string, bool) { return part[i].text(name) })
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

func variableNames(part []Destination) []string {
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

func (d Destination) text(variable string) (string, bool) {
	for _, v := range d.Personalization {
		if v.Name == variable {
			return v.Text, true
		}
	}
	return "", false
}

var errChunk = errors.New("engage: a chunk is not in the format it should be")

// DecodeChunk returns the destinations of an encoded chunk, their variables sorted by name.
func DecodeChunk(encoded []byte) ([]Destination, error) {
	r, rows, names, err := readColumns(encoded)
	if err != nil {
		return nil, err
	}
	destinations := make([]Destination, rows)
	for i := range destinations {
		destinations[i].BNumber, _ = r.text()
	}
	for i := range destinations {
		destinations[i].CustomTrackingID, _ = r.text()
	}
	for _, name := range names {
		for i := range destinations {
			if text, there := r.text(); there {
				destinations[i].Personalization = append(destinations[i].Personalization, Variable{Name: name, Text: text})
			}
		}
	}
	return destinations, r.end()
}

// readColumns returns a reader of the columns that encodeColumns wrote, behind their names.
func readColumns(encoded []byte) (r *columnReader, rows int, names []string, err error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(encoded)), httpapi.MaxBody))
	if err != nil {
		return nil, 0, nil, fmt.Errorf("%w: %w", errChunk, err)
	}
	r = &columnReader{rest: text}
	count, named := r.uvarint(), r.uvarint()
	if count > chunkDestinations || named > maxVariables {
		return nil, 0, nil, errChunk
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
		return errChunk
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

// encodeNumbers is a column alone. It takes any number of rows.
func encodeNumbers(numbers []string) ([]byte, error) {
	encoder := getEncoder()
	defer encoders.Put(encoder)
	return encoder.encodeColumns(len(numbers), nil, []column{func(i int) (string, bool) { return numbers[i], true }})
}

// decodeNumbers reads what encodeNumbers wrote.
func decodeNumbers(encoded []byte) ([]string, error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(encoded)), httpapi.MaxBody))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errChunk, err)
	}
	r := columnReader{rest: text}
	count := r.uvarint()
	r.uvarint() // no names
	var numbers []string
	for ; count > 0 && !r.bad; count-- {
		number, _ := r.text()
		numbers = append(numbers, number)
	}
	return numbers, r.end()
}
