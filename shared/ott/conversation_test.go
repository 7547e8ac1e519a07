package ott_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/ott"
)

type quadruple struct {
	tenant   string
	platform ott.Platform
	property string
	person   string
}

func (q quadruple) conversation() string {
	return ott.Conversation(q.tenant, q.platform, q.property, q.person)
}

// A conversation is one property's and one person's: no two others are alike, however their parts run together; and
// its name is what SQS takes as a message group and no more than DynamoDB's keys need.
//
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagegroupid-property.html
func TestConversation(t *testing.T) {
	part := rapid.StringOfN(rapid.SampledFrom([]rune("ab#\x00é")), 0, 4, -1)
	draw := rapid.Custom(func(t *rapid.T) quadruple {
		return quadruple{
			part.Draw(
				t,
				"tenant",
			),
			ott.Platform(part.Draw(t, "platform")),
			part.Draw(t, "property"),
			part.Draw(t, "person"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		one, other := draw.Draw(t, "one"), draw.Draw(t, "other")
		if rapid.Bool().Draw(t, "shifted") { // the same text, cut elsewhere
			all := []rune(one.tenant + string(one.platform) + one.property + one.person)
			cut := func(from int) int { return rapid.IntRange(from, len(all)).Draw(t, "cut") }
			a := cut(0)
			b := cut(a)
			c := cut(b)
			other = quadruple{string(all[:a]), ott.Platform(all[a:b]), string(all[b:c]), string(all[c:])}
		}
		require.Equal(t, one == other, one.conversation() == other.conversation())
		require.Regexp(t, `^[A-Za-z0-9_-]{43}$`, one.conversation())
	})
}

func TestConversationOfAMessage(t *testing.T) {
	m := ott.Message{Platform: ott.Messenger, SenderID: "page", OttID: "person", Key: "k"}
	of := m.Conversation("acme")
	assert.Equal(t, ott.Conversation("acme", ott.Messenger, "page", "person"), of)

	same := m
	same.Key, same.Tag, same.Parts = "another", "t", []ott.Part{{Type: ott.TextPart, Text: "hello"}}
	same.UserReference = "reference"
	assert.Equal(t, of, same.Conversation("acme"), "whom it is to counts, and nothing else")

	for name, change := range map[string]func(*ott.Message){
		"platform": func(m *ott.Message) { m.Platform = ott.LINE },
		"property": func(m *ott.Message) { m.SenderID = "page 2" },
		"person":   func(m *ott.Message) { m.OttID = "person 2" },
		"a reference that reads as the id of a person": func(m *ott.Message) { m.OttID, m.UserReference = "", "person" },
	} {
		other := m
		change(&other)
		assert.NotEqual(t, of, other.Conversation("acme"), name)
	}
	assert.NotEqual(t, of, m.Conversation("globex"))

	reference := ott.Message{Platform: ott.Messenger, SenderID: "page", UserReference: "r"}
	other := reference
	other.UserReference = "r2"
	assert.NotEqual(t, reference.Conversation("acme"), other.Conversation("acme"))
}
