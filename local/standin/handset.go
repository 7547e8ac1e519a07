package standin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
)

// handsetsShown is how many handsets the page shows.
const handsetsShown = 30

// Handset is what one handset shows of a push.
type Handset struct {
	BNumber string
	From    string // the numbers that the content stands for
	At      time.Time
	Lines   []Line
}

// Line is a member of the program's content, with the destination's personalization in place.
type Line struct{ Name, Text string }

// Handsets returns what handsets show: a destination that the gateway said delivered for, or accepted without a word,
// newest POST first, at most n. A repeated webhook-id changes nothing on a handset.
func (g *Gateway) Handsets(n int) []Handset {
	pushes := g.Pushes()
	seen := map[string]bool{}
	var handsets []Handset
	for _, p := range slices.Backward(pushes) {
		if p.Refused != "" || p.Status < 200 || p.Status > 299 || seen[p.WebhookID()] {
			continue
		}
		seen[p.WebhookID()] = true
		chunk, err := p.Chunk()
		if err != nil {
			continue
		}
		delivered := p.delivered()
		for _, d := range chunk.Destinations {
			if len(handsets) == n {
				return handsets
			}
			if delivered == nil || delivered[d.BNumber] {
				handsets = append(handsets, Handset{
					BNumber: d.BNumber, From: strings.Join(chunk.ANumbers, ", "), At: p.At,
					Lines: lines(chunk.Program, d.Personalization),
				})
			}
		}
	}
	return handsets
}

// delivered is whom the answer says delivered for, nil for all.
func (p Push) delivered() map[string]bool {
	if len(p.answer) == 0 {
		return nil
	}
	var answer struct {
		Results []Result `json:"results"`
	}
	delivered := map[string]bool{}
	if jsonv2.Unmarshal(p.answer, &answer) == nil {
		for _, r := range answer.Results {
			delivered[r.BNumber] = r.Status == "delivered"
		}
	}
	return delivered
}

// lines puts the personalization into the places that the content marks as {{NAME}}; a variable without a place stands
// below.
func lines(program Program, personalization map[string]string) []Line {
	var content map[string]any
	if err := jsonv2.Unmarshal(program.Content, &content); err != nil {
		return []Line{{"content", string(program.Content)}}
	}
	unplaced := maps.Clone(personalization)
	var shown []Line
	for _, name := range slices.Sorted(maps.Keys(content)) {
		text := fmt.Sprint(content[name])
		for variable, value := range personalization {
			if mark := "{{" + variable + "}}"; strings.Contains(text, mark) {
				text = strings.ReplaceAll(text, mark, value)
				delete(unplaced, variable)
			}
		}
		shown = append(shown, Line{name, text})
	}
	for _, variable := range slices.Sorted(maps.Keys(unplaced)) {
		shown = append(shown, Line{variable, unplaced[variable]})
	}
	return shown
}
