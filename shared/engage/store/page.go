package store

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"carillon/shared/engage"
	"carillon/shared/fault"
)

// Page returns a page of a push: at most limit destinations from where next points, in the order sent. It reads meta
// and the chunks that the page touches. It returns a fault NotFound as Meta does, Invalid for a next that is not one of
// the push's, engage.ErrChunk, or DynamoDB's error.
func (s *Pushes) Page(ctx context.Context, tenant, requestID string, limit int, next string) (*engage.Page, error) {
	meta, err := s.Meta(ctx, tenant, requestID)
	if err != nil {
		return nil, err
	}
	total := meta.Counts().Total
	from, err := decodeNext(next)
	if err != nil || from > total {
		var faults fault.Violations
		faults.Add(fault.BadValue, "next must be the next of the page before")
		return nil, faults.Err()
	}
	page := &engage.Page{Meta: meta}
	to := min(from+limit, total)
	start := 0
	for i, chunk := range meta.Chunks {
		end := start + chunk.Size
		if end > from && start < to {
			rows, err := s.rows(ctx, meta, i)
			if err != nil {
				return nil, err
			}
			page.Rows = append(page.Rows, rows[max(from-start, 0):min(to-start, chunk.Size)]...)
		}
		start = end
	}
	if to < total {
		page.Next = encodeNext(to)
	}
	return page, nil
}

func (s *Pushes) rows(ctx context.Context, meta *engage.Meta, i int) ([]engage.Row, error) {
	destinations, err := s.Destinations(ctx, meta.RequestID, i)
	if err != nil {
		return nil, err
	}
	results := make([]engage.Result, len(destinations))
	chunk := meta.Chunks[i]
	if chunk.Final != nil || !chunk.LeasedUntil.IsZero() {
		progress, known, err := s.Progress(ctx, meta.RequestID, i)
		if err != nil {
			return nil, err
		}
		if known {
			results = progress.Results
		}
	}
	if len(results) != len(destinations) || len(destinations) != chunk.Size {
		return nil, engage.ErrChunk
	}
	rows := make([]engage.Row, len(destinations))
	for j, d := range destinations {
		rows[j] = engage.Row{BNumber: d.BNumber, CustomTrackingID: d.CustomTrackingID, Result: results[j]}
		switch {
		case meta.IsCancelled(i):
			rows[j].State = engage.StateCancelled
		case results[j].IsPending():
			rows[j].State = engage.StatePending
		}
	}
	return rows, nil
}

// encodeNext hides that the place in a push is a number, so that nobody counts on it.
func encodeNext(place int) string {
	return base64.RawURLEncoding.EncodeToString(binary.AppendUvarint(nil, uint64(place))) //nolint:gosec // a length
}

func decodeNext(next string) (int, error) {
	if next == "" {
		return 0, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(next)
	if err != nil {
		return 0, err
	}
	place, size := binary.Uvarint(raw)
	if size != len(raw) || place > engage.MaxDestinations {
		return 0, fmt.Errorf("engage: %q is no place in a push", next)
	}
	return int(place), nil
}
