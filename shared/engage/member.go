package engage

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// rfc3339 has the groups: up to the minute, second, fraction, offset. Like number it is compiled when it is first used:
// every function of ENGAGE would pay for it at its start.
var rfc3339 = sync.OnceValue(func() *regexp.Regexp {
	const minute, second = `(\d{4}-\d\d-\d\d[Tt](?:[01]\d|2[0-3]):[0-5]\d)`, `([0-5]\d|60)`
	const fraction, offset = `(\.\d+)?`, `([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)`
	return regexp.MustCompile(`^` + minute + `:` + second + fraction + offset + `$`)
})

// parseTime reads a time of RFC 3339. It is strict where time.Parse is not: that takes an hour of one digit, a comma
// for the point and an offset of 24:60. A leap second, which UTC has at the end of a month alone, is the second that
// follows it. What is finer than a nanosecond is rounded up, so that nothing happens before its time.
func parseTime(text string) (time.Time, bool) {
	parts := rfc3339().FindStringSubmatch(text)
	if parts == nil {
		return time.Time{}, false
	}
	minute, second, fraction, offset := parts[1], parts[2], parts[3], parts[4]
	leap := second == "60"
	if leap {
		second = "59"
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(minute+":"+second+fraction+offset))
	if err != nil {
		return time.Time{}, false // no such day
	}
	if leap {
		t = t.Add(time.Second)
		if u := t.UTC(); u.Day() != 1 || u.Hour() != 0 || u.Minute() != 0 {
			return time.Time{}, false
		}
	}
	const nanoseconds = len(".999999999")
	if finer := fraction[min(len(fraction), nanoseconds):]; strings.Trim(finer, "0") != "" {
		t = t.Add(time.Nanosecond)
	}
	return t, true
}

// number has the groups: whole, fraction, exponent.
var number = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$`)
})

// parseInteger reads a number from 0 to 999,999,999 whose value is an integer, however it is written: 3600, 3600.0,
// 3.6e3. It never rounds.
func parseInteger(text string) (int, bool) {
	parts := number().FindStringSubmatch(text)
	if parts == nil {
		return 0, false
	}
	whole, fraction, exponent := parts[1], parts[2], 0
	if parts[3] != "" {
		var err error
		if exponent, err = strconv.Atoi(parts[3]); err != nil {
			return 0, false
		}
	}
	digits := strings.TrimRight(whole+fraction, "0")
	zeros := len(whole) + exponent - len(digits) // behind the digits
	digits = strings.TrimLeft(digits, "0")
	switch {
	case digits == "":
		return 0, true
	case zeros < 0, zeros > 9, len(digits)+zeros > 9:
		return 0, false
	}
	n, err := strconv.Atoi(digits + strings.Repeat("0", zeros))
	return n, err == nil
}

// isAtMost reports whether a text has at most that many characters.
func isAtMost(limit int, text string) bool {
	return len(text) <= limit || utf8.RuneCountInString(text) <= limit
}

// hasControls reports whether a text holds control characters: Unicode's category Cc.
func hasControls(text string) bool { return strings.ContainsFunc(text, unicode.IsControl) }

// isDisguised reports whether a text holds control characters or bidirectional overrides (U+202A to U+202E), which make
// a display show something else than the text says.
func isDisguised(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || '\u202a' <= r && r <= '\u202e'
	})
}
