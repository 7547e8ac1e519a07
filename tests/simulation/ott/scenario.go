package ott

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"carillon/shared/ott"
	"carillon/tests/simulation/bubble"
)

// Profile is what kind of trouble a run has.
type Profile string

// The profiles, of which a seed draws one of the first four.
const (
	// NoisyNeighbour: the endpoint of one property, which sends a lot, hangs or refuses; AWS is well.
	NoisyNeighbour Profile = "noisy neighbour"
	// NetworkTrouble: Messenger and LINE are in trouble from time to time; AWS is well.
	NetworkTrouble Profile = "network trouble"
	// AWSTrouble: processes die, AWS throttles and loses answers, messages are late, clocks differ; the networks are
	// well.
	AWSTrouble Profile = "AWS trouble"
	// AllTrouble: all of that.
	AllTrouble Profile = "all trouble"
	// Crowd: AllTrouble with fifty conversations of twenty messages each.
	Crowd Profile = "crowd"
)

// mode is how a network treats what is sent to it for a while.
type mode string

const (
	modeUp      mode = "up"
	modeSlow    mode = "is slow"         // answers after 1 to 7 s
	modeLate    mode = "is too late"     // takes the message, and answers when nobody listens any more
	modeHang    mode = "hangs"           // never answers; takes some messages all the same
	modeRefuse  mode = "refuses"         // refuses connections
	modeFail    mode = "fails"           // 5xx, at once
	modeBusy    mode = "is busy"         // 429 with Retry-After
	modeCut     mode = "cuts"            // takes the message and breaks the connection
	modeCode    mode = "says temporary"  // Messenger: an error code that goes by; LINE: 429 without Retry-After
	modeMonthly mode = "is at its limit" // LINE: 429, the monthly limit
	modeToken   mode = "refuses tokens"  // Messenger: code 190; LINE: no token is granted
)

// unanswering reports whether a message gets no answer.
func (m mode) unanswering() bool {
	return m == modeLate || m == modeHang || m == modeCut || m == modeRefuse
}

// spell is a time in which a network is in a mode. Outside of spells it is up.
type spell struct {
	from, to time.Time
	mode     mode
}

func modeAt(spells []spell, at time.Time) mode {
	for _, s := range spells {
		if !at.Before(s.from) && at.Before(s.to) {
			return s.mode
		}
	}
	return modeUp
}

// up returns the times within from and to that are outside of spells, which are in the order of time.
func up(spells []spell, from, to time.Time) [][2]time.Time {
	var times [][2]time.Time
	for _, s := range spells {
		if s.from.After(from) && from.Before(to) {
			times = append(times, [2]time.Time{from, bubble.Earlier(s.from, to)})
		}
		from = bubble.Later(from, s.to)
	}
	if from.Before(to) {
		times = append(times, [2]time.Time{from, to})
	}
	return times
}

// Property is a page or a channel.
type Property struct {
	N        int
	Platform ott.Platform
	ID       string
	Tenant   string
	Noisy    bool
	Again    []time.Time // when it is registered again
	spells   []spell

	registered   chan struct{} // closed when it is registered
	registeredAt []time.Time   // when that was answered with 201
}

// Conversation is what a property has with one person.
type Conversation struct {
	N        int
	Property *Property
	User     string
	Orders   []*Order
	spells   []spell // in which the network treats this person's messages alone in a mode
}

// modeAt returns how the network treats the conversation's messages.
func (c *Conversation) modeAt(at time.Time) mode {
	if m := modeAt(c.Property.spells, at); m != modeUp {
		return m
	}
	return modeAt(c.spells, at)
}

// allSpells returns the spells of the property and of the conversation, in the order of time.
func (c *Conversation) allSpells() []spell {
	all := slices.Concat(c.Property.spells, c.spells)
	slices.SortFunc(all, func(a, b spell) int { return a.from.Compare(b.from) })
	return all
}

// Order is a message that a client wants to be sent.
type Order struct {
	N        int
	Conv     *Conversation
	SendAt   time.Time // or when the message before it has its 201, if that is later
	Validity time.Duration
	Reply    bool            // LINE: with a reply token
	StatusAt []time.Duration // when its status is read, after its 201
	RepeatAt time.Duration   // when it is sent once more under its key, after its 201; 0 for never
}

func (o *Order) key() string { return fmt.Sprintf("key-%d", o.N) }

func (o *Order) text() string { return fmt.Sprintf("message %d", o.N) }

// replyToken is what LINE gave for the event that the message answers.
func (o *Order) replyToken() string { return fmt.Sprintf("reply-%d", o.N) }

// faults are the probabilities of AWS's faults.
type faults struct {
	bubble.Faults
	late         float64 // of a job
	deleteFails  float64 // of a job that is done with
	secretUnseen float64 // of a new secret, for a while
}

// Scenario is what a seed makes happen.
type Scenario struct {
	Seed       uint64
	Profile    Profile
	Properties []*Property
	Convs      []*Conversation
	Orders     []*Order
	faults     faults
}

// newScenario draws a scenario. start is when it begins; an empty profile is drawn too.
func newScenario(seed uint64, start time.Time, profile Profile) *Scenario {
	d := bubble.Throw(seed, "ott scenario")
	s := &Scenario{Seed: seed, Profile: profile}
	drawn := NoisyNeighbour
	switch n := d.IntN(20); {
	case n < 3:
	case n < 9:
		drawn = NetworkTrouble
	case n < 14:
		drawn = AWSTrouble
	default:
		drawn = AllTrouble
	}
	if s.Profile == "" {
		s.Profile = drawn
	}
	if s.Profile != NoisyNeighbour && s.Profile != NetworkTrouble {
		s.faults = drawFaults(d, start)
	}
	s.faults.secretUnseen = 0.5
	s.faults.ColdStart = 400 * time.Millisecond
	for i := range d.UpTo(2, 4) {
		s.property(d, i, start)
	}
	slices.SortStableFunc(s.Orders, func(a, b *Order) int { return a.SendAt.Compare(b.SendAt) })
	for i, order := range s.Orders {
		order.N = i
	}
	return s
}

func drawFaults(d bubble.Dice, start time.Time) faults {
	f := faults{
		Faults: bubble.Faults{
			Throttled: 0.01, AnswerLost: 0.01, Slow: 0.005, Killed: bubble.Pick(d, 0.001, 0.004, 0.01),
			SendFails: 0.01, EntryRefused: 0.01, Skew: 500 * time.Millisecond,
		},
		late: 0.02, deleteFails: 0.01,
	}
	if d.Chance(0.25) {
		f.StormFrom = start.Add(d.Between(0, 5*time.Minute))
		f.StormTo = f.StormFrom.Add(d.Between(5*time.Second, 2*time.Minute))
	}
	return f
}

func (s *Scenario) property(d bubble.Dice, n int, start time.Time) {
	p := &Property{
		N: n, Platform: bubble.Pick(d, ott.Messenger, ott.Messenger, ott.LINE), Tenant: fmt.Sprintf("tenant%d", n%3),
		ID: fmt.Sprintf("%d", 1_700_000_000+n), registered: make(chan struct{}),
	}
	s.Properties = append(s.Properties, p)
	convs, most := d.UpTo(1, 5), 6
	switch s.Profile {
	case NoisyNeighbour:
		if n == 0 {
			p.Noisy = true
			convs, most = d.UpTo(15, 40), 3
			m := bubble.Pick(d, modeHang, modeHang, modeRefuse, modeFail, modeLate, modeSlow)
			p.spells = []spell{{start, start.Add(d.Between(time.Minute, 10*time.Minute)), m}}
		}
	case NetworkTrouble, AllTrouble, Crowd:
		if n > 0 || d.Chance(0.5) {
			p.spells = drawSpells(d, start, p.Platform)
		}
	case AWSTrouble:
	}
	for d.Chance(0.3) {
		p.Again = append(p.Again, start.Add(d.Between(5*time.Second, 10*time.Minute)))
	}
	slices.SortFunc(p.Again, time.Time.Compare)
	if s.Profile == Crowd {
		convs, most = 50/2, 20
		if n > 1 {
			convs = 0
		}
	}
	for range convs {
		c := &Conversation{N: len(s.Convs), Property: p, User: fmt.Sprintf("%d", 9_000_000_000+len(s.Convs))}
		if p.Platform == ott.LINE {
			c.User = fmt.Sprintf("U%032x", 0xabc000+c.N)
		}
		if s.Profile == NetworkTrouble && p.Platform == ott.Messenger && d.Chance(0.25) {
			from := start.Add(d.Between(0, 3*time.Minute))
			c.spells = []spell{{from, from.Add(d.Between(time.Second, 5*time.Minute)), modeCode}}
		}
		s.Convs = append(s.Convs, c)
		count := d.UpTo(1, most)
		if s.Profile == Crowd {
			count = most
		}
		s.talk(d, c, count, start)
	}
}

// drawSpells draws what is wrong with a property's endpoint: one to four spells, one after the other.
func drawSpells(d bubble.Dice, start time.Time, platform ott.Platform) []spell {
	var spells []spell
	at := start
	modes := []mode{
		modeSlow, modeLate, modeLate, modeHang, modeHang, modeRefuse, modeFail, modeFail, modeBusy, modeCut, modeCode,
		modeCode, modeToken,
	}
	if platform == ott.LINE {
		modes = append(modes, modeMonthly, modeMonthly)
	}
	for range d.UpTo(1, 4) {
		at = at.Add(d.Between(0, 3*time.Minute))
		length := bubble.Pick(d, d.Between(time.Second, 20*time.Second), d.Between(20*time.Second, 5*time.Minute))
		switch {
		case d.Chance(0.04):
			length = d.Between(time.Hour, 6*time.Hour)
		case d.Chance(0.02):
			length = d.Between(23*time.Hour, 30*time.Hour)
		}
		spells = append(spells, spell{at, at.Add(length), bubble.Pick(d, modes...)})
		at = at.Add(length)
	}
	return spells
}

// talk draws a conversation's messages.
func (s *Scenario) talk(d bubble.Dice, c *Conversation, count int, start time.Time) {
	at := start.Add(d.Between(0, bubble.Pick(d, time.Second, 4*time.Minute)))
	for range count {
		o := &Order{Conv: c, SendAt: at}
		minutes := bubble.Pick(d, d.UpTo(1, 3), d.UpTo(1, 20), d.UpTo(20, 300))
		if d.Chance(0.05) {
			minutes = d.UpTo(1440, 4320)
		}
		o.Validity = time.Duration(minutes) * time.Minute
		o.Reply = c.Property.Platform == ott.LINE && d.Chance(0.2)
		for range d.UpTo(0, 3) {
			o.StatusAt = append(
				o.StatusAt,
				d.Between(0, bubble.Pick(d, time.Second, time.Minute, o.Validity+time.Minute)),
			)
		}
		slices.Sort(o.StatusAt)
		if d.Chance(0.1) {
			o.RepeatAt = d.Between(0, bubble.Pick(d, time.Second, 20*time.Minute))
		}
		c.Orders = append(c.Orders, o)
		s.Orders = append(s.Orders, o)
		at = at.Add(bubble.Pick(d, 0, 0, d.Between(0, time.Second), d.Between(0, 2*time.Minute)))
	}
}

// String describes the scenario in a few lines.
func (s *Scenario) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "profile %s, %d properties, %d conversations, %d messages",
		s.Profile, len(s.Properties), len(s.Convs), len(s.Orders))
	if !s.faults.StormFrom.IsZero() {
		fmt.Fprintf(&text, ", DynamoDB throttles %s to %s",
			bubble.ClockTime(s.faults.StormFrom), bubble.ClockTime(s.faults.StormTo))
	}
	for _, p := range s.Properties {
		for _, sp := range p.spells {
			fmt.Fprintf(&text, "\n  property %d (%s): %s %s to %s",
				p.N, p.Platform, sp.mode, bubble.ClockTime(sp.from), bubble.ClockTime(sp.to))
		}
	}
	for _, c := range s.Convs {
		for _, sp := range c.spells {
			fmt.Fprintf(&text, "\n  conversation %d: %s %s to %s",
				c.N, sp.mode, bubble.ClockTime(sp.from), bubble.ClockTime(sp.to))
		}
	}
	return text.String()
}
