package simulation

import (
	"fmt"
	"slices"
	"time"

	"carillon/tests/simulation/bubble"
)

// Profile is what kind of trouble a run has.
type Profile string

// The profiles, of which a seed draws one.
const (
	// NoisyNeighbour: the gateway side of one tenant, which pushes a lot, is in trouble; the platform is well.
	NoisyNeighbour Profile = "noisy neighbour"
	// GatewayTrouble: the gateway sides of some tenants are in trouble from time to time; the platform is well.
	GatewayTrouble Profile = "gateway trouble"
	// PlatformTrouble: processes die, AWS throttles and loses answers, messages are late, early or come twice, clocks
	// differ; the gateway is well.
	PlatformTrouble Profile = "platform trouble"
	// AllTrouble: all of that, with lost messages and missed sweeps.
	AllTrouble Profile = "all trouble"
)

// mode is how the gateway treats a tenant's POSTs for a while.
type mode string

const (
	modeUp     mode = "up"
	modeSlow   mode = "slow"        // answers after 1 to 14 s
	modeHang   mode = "hangs"       // never answers
	modeRefuse mode = "refuses"     // refuses connections
	modeFail   mode = "fails"       // 5xx, at once
	modeBusy   mode = "busy"        // 429 or 503 with Retry-After
	modeLie    mode = "lies"        // answers 200 and odd things
	modeRetry  mode = "wants again" // answers retry for some destinations
	modeLose   mode = "loses"       // takes the chunk and breaks the connection
)

// isDead reports whether no POST reaches an answer that the contract knows.
func (m mode) isDead() bool { return m == modeHang || m == modeRefuse || m == modeFail }

// spell is a time in which the gateway treats a tenant's POSTs in one way. Outside of spells it is up.
type spell struct {
	from, to time.Time
	mode     mode
}

// Tenant is a provider, with a gateway side of its own.
type Tenant struct {
	Name     string
	Client   string // its client id
	Noisy    bool
	KeepsIDs bool // its gateway answers 409 to a webhook-id that it has taken before
	spells   []spell
}

// modeAt returns how the tenant's gateway side is at a time.
func (t *Tenant) modeAt(at time.Time) mode {
	for _, s := range t.spells {
		if !at.Before(s.from) && at.Before(s.to) {
			return s.mode
		}
	}
	return modeUp
}

// up returns the times within from and to in which the gateway side is up.
func (t *Tenant) up(from, to time.Time) [][2]time.Time {
	var times [][2]time.Time
	for _, s := range t.spells {
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

// Order is a push that a client wants.
type Order struct {
	N          int
	Tenant     *Tenant
	SendAt     time.Time
	NotBefore  time.Time // zero: none is sent
	TTL        time.Duration
	Size       int
	Key        string // Idempotency-Key; "" for none
	CancelAt   []time.Time
	StatusAt   []time.Time
	destinedAt time.Time // NotBefore, or SendAt if there is none
}

// bNumber returns the number of a destination, which tells its order.
func (o *Order) bNumber(i int) string { return fmt.Sprintf("+1%05d%05d", 10_000+o.N, 10_000+i) }

// DeliverBefore is when the push expires, about.
func (o *Order) deliverBefore() time.Time { return o.destinedAt.Add(o.TTL) }

// faults are the probabilities of the platform's faults.
type faults struct {
	bubble.Faults
	late, early, twice, lost float64 // of a message
	sweepMissed, sweepTwice  float64 // of a sweep
	sweepLate, sweepKilled   float64
}

// Scenario is what a seed makes happen.
type Scenario struct {
	Seed    uint64
	Profile Profile
	Tenants []*Tenant
	Orders  []*Order
	faults  faults
	horizon time.Time // when all is over
}

// newScenario draws a scenario. start is when it begins.
func newScenario(seed uint64, start time.Time) *Scenario {
	d := bubble.Throw(seed, "scenario")
	s := &Scenario{Seed: seed}
	switch n := d.IntN(20); { // a noisy neighbour costs as much as ten others
	case n < 3:
		s.Profile = NoisyNeighbour
	case n < 9:
		s.Profile = GatewayTrouble
	case n < 14:
		s.Profile = PlatformTrouble
	default:
		s.Profile = AllTrouble
	}
	if s.Profile == PlatformTrouble || s.Profile == AllTrouble {
		s.faults = drawFaults(d, start, s.Profile)
	}
	s.faults.ColdStart = 400 * time.Millisecond
	for i := range d.UpTo(2, 4) {
		tenant := &Tenant{Name: fmt.Sprintf("tenant%d", i), Client: fmt.Sprintf("client%d", i)}
		switch s.Profile {
		case NoisyNeighbour:
			if i == 0 {
				tenant.Noisy = true
				mode := bubble.Pick(d, modeHang, modeSlow, modeFail, modeRefuse, modeBusy)
				tenant.spells = []spell{{start, start.Add(d.Between(time.Minute, 10*time.Minute)), mode}}
			}
		case GatewayTrouble, AllTrouble:
			if i > 0 || d.Chance(0.5) {
				tenant.spells = drawSpells(d, start)
				tenant.KeepsIDs = d.Chance(0.3)
			}
		case PlatformTrouble:
			tenant.KeepsIDs = d.Chance(0.3)
		}
		s.Tenants = append(s.Tenants, tenant)
	}
	for range d.UpTo(3, 16) {
		tenant := bubble.Pick(d, s.Tenants...)
		if tenant.Noisy {
			tenant = s.Tenants[1]
		}
		s.order(d, tenant, start.Add(d.Between(0, 4*time.Minute)))
	}
	if s.Profile == NoisyNeighbour {
		burst := start.Add(d.Between(0, 2*time.Minute))
		most := bubble.Pick(d, 60, 60, 60, 60, 60, 60, 60, 700)
		for range d.UpTo(most/4, most) {
			s.noise(d, burst)
		}
		for range d.UpTo(5, 15) { // in the middle of it
			s.order(d, s.Tenants[1], burst.Add(d.Between(0, 20*time.Second)))
		}
	}
	slices.SortStableFunc(s.Orders, func(a, b *Order) int { return a.SendAt.Compare(b.SendAt) })
	for i, order := range s.Orders {
		order.N = i
		s.horizon = bubble.Later(s.horizon, order.deliverBefore().Add(5*time.Minute))
	}
	return s
}

func drawFaults(d bubble.Dice, start time.Time, profile Profile) faults {
	f := faults{
		Faults: bubble.Faults{
			Throttled: 0.01, AnswerLost: 0.01, Slow: 0.005, Killed: bubble.Pick(d, 0.001, 0.004, 0.01),
			SendFails: 0.01, EntryRefused: 0.01, Skew: 500 * time.Millisecond,
		},
		late: 0.02, early: 0.05, twice: 0.02, sweepTwice: 0.05, sweepLate: 0.1, sweepKilled: 0.02,
	}
	if profile == AllTrouble {
		f.lost, f.sweepMissed = 0.02, 0.05
	}
	if d.Chance(0.2) {
		f.StormFrom = start.Add(d.Between(0, 5*time.Minute))
		f.StormTo = f.StormFrom.Add(d.Between(5*time.Second, 40*time.Second))
	}
	return f
}

// drawSpells draws what is wrong with a tenant's gateway side: one to four spells, one after the other.
func drawSpells(d bubble.Dice, start time.Time) []spell {
	var spells []spell
	at := start
	for range d.UpTo(1, 4) {
		at = at.Add(d.Between(0, 3*time.Minute))
		length := bubble.Pick(d, d.Between(time.Second, 20*time.Second), d.Between(20*time.Second, 5*time.Minute))
		m := bubble.Pick(d, modeSlow, modeHang, modeRefuse, modeFail, modeBusy, modeLie, modeLie, modeRetry, modeLose)
		spells = append(spells, spell{at, at.Add(length), m})
		at = at.Add(length)
	}
	return spells
}

func (s *Scenario) order(d bubble.Dice, tenant *Tenant, at time.Time) {
	o := &Order{Tenant: tenant, SendAt: at, Size: d.UpTo(1, 5)}
	if d.Chance(0.03) {
		o.Size = d.UpTo(501, 1200)
	}
	o.destinedAt = o.SendAt
	if ahead := drawAhead(d); ahead > 0 {
		o.NotBefore = o.SendAt.Add(ahead)
		if d.Chance(0.5) {
			o.NotBefore = o.NotBefore.Truncate(time.Second)
		}
		o.NotBefore = o.NotBefore.Truncate(time.Millisecond)
		o.destinedAt = bubble.Later(o.SendAt, o.NotBefore)
	}
	o.TTL = bubble.Pick(d, d.Between(5*time.Second, 30*time.Second), d.Between(30*time.Second, 5*time.Minute),
		d.Between(5*time.Minute, 20*time.Minute))
	if d.Chance(0.03) {
		o.TTL = 2 * time.Hour
	}
	o.TTL = o.TTL.Truncate(time.Second)
	if d.Chance(0.5) {
		o.Key = d.UUID()
	}
	if d.Chance(0.25) {
		at := d.Between(0, o.destinedAt.Sub(o.SendAt)+time.Minute) // after it was sent
		switch d.IntN(3) {
		case 0: // just before its time
			at = max(0, o.destinedAt.Sub(o.SendAt)-d.Between(200*time.Millisecond, 4*time.Second))
		case 1: // while it may be retried
			at = o.destinedAt.Sub(o.SendAt) + d.Between(0, min(o.TTL, 2*time.Minute))
		}
		o.CancelAt = append(o.CancelAt, o.SendAt.Add(at))
		if d.Chance(0.3) {
			o.CancelAt = append(o.CancelAt, o.SendAt.Add(at+d.Between(0, 20*time.Second)))
		}
	}
	for range d.UpTo(0, 2) {
		at := d.Between(0, o.destinedAt.Sub(o.SendAt)+min(o.TTL, 3*time.Minute))
		o.StatusAt = append(o.StatusAt, o.SendAt.Add(at))
	}
	slices.SortFunc(o.StatusAt, time.Time.Compare)
	s.Orders = append(s.Orders, o)
}

func drawAhead(d bubble.Dice) time.Duration {
	switch n := d.IntN(20); {
	case n < 8:
		return 0
	case n < 14:
		return d.Between(time.Second, 20*time.Second)
	case n < 19:
		return d.Between(20*time.Second, 6*time.Minute)
	default:
		return d.Between(6*time.Minute, 40*time.Minute)
	}
}

// noise is one of very many pushes of a noisy tenant, all at about the same time.
func (s *Scenario) noise(d bubble.Dice, at time.Time) {
	o := &Order{
		Tenant: s.Tenants[0], SendAt: at.Add(d.Between(0, 5*time.Second)), Size: 1,
		TTL: d.Between(20*time.Second, 90*time.Second).Truncate(time.Second),
	}
	o.destinedAt = o.SendAt
	s.Orders = append(s.Orders, o)
}

// String describes the scenario in a few lines.
func (s *Scenario) String() string {
	text := fmt.Sprintf("profile %s, %d tenants, %d pushes", s.Profile, len(s.Tenants), len(s.Orders))
	if !s.faults.StormFrom.IsZero() {
		text += fmt.Sprintf(
			", DynamoDB throttles %s to %s",
			bubble.ClockTime(s.faults.StormFrom),
			bubble.ClockTime(s.faults.StormTo),
		)
	}
	for _, t := range s.Tenants {
		for _, sp := range t.spells {
			text += fmt.Sprintf(
				"\n  %s: the gateway %s from %s to %s",
				t.Name,
				sp.mode,
				bubble.ClockTime(sp.from),
				bubble.ClockTime(sp.to),
			)
		}
	}
	return text
}
