package engage

import "time"

// Millis is a time as Carillon keeps it: epoch milliseconds, rounded up, so that nothing happens before its time.
func Millis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

// WireTime is a time as partners see it: UTC, RFC 3339, milliseconds where there are any.
func WireTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.999Z07:00")
}
