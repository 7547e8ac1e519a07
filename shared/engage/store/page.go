package store

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"carillon/shared/engage"
	"carillon/shared/fault"
)

// Page returns a page of a push: at most limit destinations from where next points, in the order sent. It reads meta
// and the chunks that the page touches, and counts these from their rows: a POST may have ended since meta was read. So
// it does those that a process left when it died, whether or not the page touches them. It
// returns a fault NotFound as Meta does, Invalid for a next that is not one of the push's, engage.ErrChunk if results
// cannot be read, or DynamoDB's error.
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
	if err := s.countLeft(ctx, meta, s.clock.Now()); err != nil { // the counts of every page are the same
		return nil, err
	}
	page := &engage.Page{Meta: meta}
	to := min(from+limit, total)
	start := 0
	for i, chunk := range meta.Chunks {
		size := chunk.Counts.Total
		end := start + size
		if end > from && start < to {
			rows, err := s.rows(ctx, meta, i)
			if err != nil {
				return nil, err
			}
			page.Rows = append(page.Rows, rows[max(from-start, 0):min(to-start, size)]...)
		}
		start = end
	}
	if to < total {
		page.Next = encodeNext(to)
	}
	return page, nil
}

// rows returns the rows of a chunk, and corrects its counts in meta by them. Destinations that cannot be read have no
// number; the chunk ends with that as the reason.
func (s *Pushes) rows(ctx context.Context, meta *engage.Meta, i int) ([]engage.Row, error) {
	chunk := &meta.Chunks[i]
	destinations, err := s.Destinations(ctx, meta.RequestID, i)
	unreadable := errors.Is(err, engage.ErrChunk) || fault.Is(err, fault.NotFound)
	if err != nil && !unreadable {
		return nil, err
	}
	if unreadable || len(destinations) != chunk.Counts.Total {
		destinations = make([]engage.Destination, chunk.Counts.Total)
	}
	results, err := s.results(ctx, meta.RequestID, i, *chunk)
	if err != nil {
		return nil, err
	}
	chunk.Counts = engage.Count(results)
	rows := make([]engage.Row, len(destinations))
	for j, d := range destinations {
		rows[j] = engage.Row{BNumber: d.BNumber, CustomTrackingID: d.CustomTrackingID, Result: results[j]}
		switch {
		case !results[j].IsPending():
		case meta.IsCancelled(i):
			rows[j].State = engage.StateCancelled
		default:
			rows[j].State = engage.StatePending
		}
	}
	return rows, nil
}

// results returns the result of each destination of a chunk.
func (s *Pushes) results(
	ctx context.Context, requestID string, i int, chunk engage.ChunkState,
) ([]engage.Result, error) {
	size := chunk.Counts.Total
	results := make([]engage.Result, size)
	if chunk.Phase != engage.Unclaimed && (chunk.Phase != engage.Final || chunk.RestSize < size) {
		progress, known, err := s.Progress(ctx, requestID, i)
		switch {
		case err != nil:
			return nil, err
		case known && len(progress.Results) != size, !known && chunk.Phase == engage.Final:
			return nil, engage.ErrChunk
		case known:
			results = progress.Results
		}
	}
	if chunk.Phase == engage.Final {
		for j := range results {
			if results[j].IsPending() {
				results[j] = chunk.Rest
			}
		}
	}
	return results, nil
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
