package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/store/columns"
)

// encodeMeta returns the meta of a push that nothing has been claimed of yet.
func encodeMeta(push *engage.Push, chunks []columns.Chunk, dueAt time.Time) dynamo.Item {
	item := dynamo.Item{
		"requestId":    dynamo.String(push.RequestID),
		"part":         dynamo.String(partMeta),
		"tenant":       dynamo.String(push.Tenant),
		"programUuid":  dynamo.String(push.Program.UUID),
		"createdAt":    dynamo.Int(engage.Millis(push.CreatedAt)),
		"chunks":       dynamo.Int(len(chunks)),
		"total":        dynamo.Int(len(push.Destinations)),
		"duePartition": dynamo.String(duePartition(push.RequestID)),
		"dueAt":        dynamo.Int(engage.Millis(dueAt)),
	}
	addTerms(item, push.Terms)
	sizes := make([]int, len(chunks))
	for i, chunk := range chunks {
		sizes[i] = chunk.Size
	}
	if text := encodeSizes(sizes); text != "" {
		item["sizes"] = dynamo.String(text)
	}
	return item
}

func decodeMeta(item dynamo.Item) *engage.Meta {
	m := &engage.Meta{
		Terms:       decodeTerms(item),
		RequestID:   dynamo.GetString(item, "requestId"),
		Tenant:      dynamo.GetString(item, "tenant"),
		ProgramUUID: dynamo.GetString(item, "programUuid"),
		CreatedAt:   getMillis(item, "createdAt"),
		CancelledAt: getMillis(item, "cancelledAt"),
		DueAt:       getMillis(item, "dueAt"),
		EnqueuedAt:  getMillis(item, "enqueuedAt"),
	}
	chunks, total := int(dynamo.GetInt(item, "chunks")), int(dynamo.GetInt(item, "total"))
	for i, size := range decodeSizes(dynamo.GetString(item, "sizes"), chunks, total) {
		m.Chunks = append(m.Chunks, decodeState(item[chunkAttribute(i)], size, m.NotBefore))
	}
	return m
}

// addTerms writes the terms of a push into one of its items.
func addTerms(item dynamo.Item, t engage.Terms) {
	item["notBefore"] = dynamo.Int(engage.Millis(t.NotBefore))
	item["ttlSeconds"] = dynamo.Int(t.TTLSeconds)
	item["keepAfterCall"] = dynamo.Bool(t.KeepAfterCall)
}

func decodeTerms(item dynamo.Item) engage.Terms {
	return engage.Terms{
		NotBefore:     getMillis(item, "notBefore"),
		TTLSeconds:    int(dynamo.GetInt(item, "ttlSeconds")),
		KeepAfterCall: dynamo.GetBool(item, "keepAfterCall"),
	}
}

// encodeSizes writes the chunks' sizes, or nothing where all but the last are as large as may be.
func encodeSizes(sizes []int) string {
	for _, size := range sizes[:len(sizes)-1] {
		if size != columns.ChunkSize {
			return strings.Trim(strings.ReplaceAll(fmt.Sprint(sizes), " ", ","), "[]")
		}
	}
	return ""
}

func decodeSizes(text string, chunks, total int) []int {
	sizes := make([]int, chunks)
	fields := strings.Split(text, ",")
	for i := range sizes {
		switch {
		case text != "" && i < len(fields):
			sizes[i], _ = strconv.Atoi(fields[i]) // what encodeSizes wrote
		case i < chunks-1:
			sizes[i] = columns.ChunkSize
		default:
			sizes[i] = total - columns.ChunkSize*(chunks-1)
		}
	}
	return sizes
}

func getMillis(item dynamo.Item, name string) time.Time {
	if ms := dynamo.GetInt(item, name); ms != 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}
