package product

import (
	"strings"
	"time"
)

// Partners write times in more ways than RFC 3339. What has no offset is in UTC.
const (
	dateOnly = "2006-01-02"
	endOfDay = 24*time.Hour - time.Second
)

// ReadMoment reads a time that a partner has written: RFC 3339, also with +0000 or +00 for an offset, with a space for
// the T, without seconds or without an offset, which is UTC; or a date alone, which is the beginning of that day in
// UTC, or its last second if it is where something ends. It reports whether text is one of these.
func ReadMoment(text string, ends bool) (time.Time, bool) {
	text = strings.ToUpper(strings.TrimSpace(text))
	if day, err := time.Parse(dateOnly, text); err == nil {
		if ends {
			day = day.Add(endOfDay)
		}
		return day, true
	}
	if zone := strings.TrimSuffix(strings.TrimSuffix(text, "UTC"), "GMT"); zone != text {
		text = strings.TrimSpace(zone) + "Z"
	}
	if len(text) <= len(dateOnly) || text[len(dateOnly)] != 'T' && text[len(dateOnly)] != ' ' {
		return time.Time{}, false
	}
	text = text[:len(dateOnly)] + "T" + strings.ReplaceAll(text[len(dateOnly)+1:], " ", "")
	for _, clock := range []string{"15:04:05", "15:04"} {
		for _, offset := range []string{"Z07:00", "Z0700", "Z07", ""} {
			if at, err := time.Parse(dateOnly+"T"+clock+offset, text); err == nil {
				return at.UTC(), true
			}
		}
	}
	return time.Time{}, false
}
