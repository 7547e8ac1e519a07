package store

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// A message's body and the message as it was decoded are kept in one deflate block: they say nearly the same, so the
// second costs little, and a text of up to a thousand characters or so fits the one kilobyte of a write unit.
const (
	// textsLevel is the deflate level: the fastest one finds the repetition.
	textsLevel = flate.BestSpeed
	// maxKeptTexts is how large the block may be: an item holds 400 KB.
	maxKeptTexts = 350 << 10
	// maxTexts bounds what is read of a block.
	maxTexts = 1 << 20
)

var errTexts = errors.New("store: the texts of a message cannot be read")

// deflaters are kept from message to message: each is some hundred kilobytes.
var deflaters = sync.Pool{New: func() any {
	writer, err := flate.NewWriter(io.Discard, textsLevel)
	if err != nil {
		panic(err) // of the level, which is right
	}
	return writer
}}

// encodeTexts puts texts into one block.
func encodeTexts(texts ...[]byte) []byte {
	writer, _ := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(writer)
	var out bytes.Buffer
	writer.Reset(&out)
	for _, text := range texts { // a buffer takes everything
		_, _ = writer.Write(binary.AppendUvarint(nil, uint64(len(text))))
		_, _ = writer.Write(text)
	}
	_ = writer.Close()
	return out.Bytes()
}

// decodeTexts reads so many texts of a block. It returns an error for what encodeTexts did not write.
func decodeTexts(block []byte, count int) ([][]byte, error) {
	all, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(block)), maxTexts))
	if err != nil {
		return nil, errTexts
	}
	texts := make([][]byte, count)
	for i := range texts {
		length, size := binary.Uvarint(all)
		if size <= 0 || length > uint64(len(all)-size) { //nolint:gosec // G115: a length
			return nil, errTexts
		}
		texts[i] = all[size : size+int(length)] //nolint:gosec // G115: less than maxTexts
		all = all[size+int(length):]            //nolint:gosec // G115
	}
	return texts, nil
}
