package columns

import (
	"strconv"
	"time"

	"carillon/shared/engage"
)

// EncodeResults writes the results of a chunk, in the order of its destinations.
func EncodeResults(results []engage.Result) ([]byte, error) {
	encoder := getEncoder()
	defer encoders.Put(encoder)
	return encoder.encodeColumns(len(results), nil, []column{
		func(i int) (string, bool) { return string(results[i].State), !results[i].IsPending() },
		func(i int) (string, bool) { return results[i].Reason, results[i].Reason != "" },
		func(i int) (string, bool) {
			at := results[i].DeliveredAt
			return strconv.FormatInt(at.UnixMilli(), 36), !at.IsZero()
		},
	})
}

// DecodeResults reads what EncodeResults wrote. It returns engage.ErrChunk if that did not write it.
func DecodeResults(encoded []byte) ([]engage.Result, error) {
	r, rows, _, err := readColumns(encoded)
	if err != nil {
		return nil, err
	}
	results := make([]engage.Result, rows)
	for i := range results {
		state, there := r.text()
		if !there {
			state = string(engage.StatePending)
		}
		results[i].State = engage.DestinationState(state)
	}
	for i := range results {
		results[i].Reason, _ = r.text()
	}
	for i := range results {
		text, there := r.text()
		if !there {
			continue
		}
		at, err := strconv.ParseInt(text, 36, 64)
		if err != nil {
			return nil, engage.ErrChunk
		}
		results[i].DeliveredAt = time.UnixMilli(at).UTC()
	}
	return results, r.end()
}
