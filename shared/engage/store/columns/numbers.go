package columns

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"

	"carillon/shared/engage"
)

// EncodeNumbers writes a column alone. It takes any number of rows.
func EncodeNumbers(numbers []string) ([]byte, error) {
	encoder := getEncoder()
	defer encoders.Put(encoder)
	return encoder.encodeColumns(len(numbers), nil, []column{func(i int) (string, bool) { return numbers[i], true }})
}

// DecodeNumbers reads what EncodeNumbers wrote, or returns engage.ErrChunk.
func DecodeNumbers(encoded []byte) ([]string, error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(encoded)), maxText))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engage.ErrChunk, err)
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
