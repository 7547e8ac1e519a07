package bubble

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// Dice are the random choices of one thing that happens. They follow from the seed and from what the thing is, never
// from which goroutine comes first: so a seed always gives the same run.
type Dice struct{ *rand.Rand }

// Throw returns the dice of what the names name.
func Throw(seed uint64, names ...string) Dice {
	hash := fnv.New64a()
	_ = binary.Write(hash, binary.LittleEndian, seed) // a hash never fails
	for _, name := range names {
		_, _ = hash.Write([]byte(name))
		_, _ = hash.Write([]byte{0})
	}
	return Dice{rand.New(rand.NewPCG(seed, hash.Sum64()))}
}

// Chance reports true with a probability from 0 to 1.
func (d Dice) Chance(probability float64) bool { return d.Float64() < probability }

// Between returns a duration from min to max, to the nanosecond: two things hardly ever happen at the same time.
func (d Dice) Between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.Int64N(int64(most-least)+1))
}

// UpTo returns an integer from least to most.
func (d Dice) UpTo(least, most int) int { return least + d.IntN(most-least+1) }

// Pick returns one of the choices.
func Pick[T any](d Dice, choices ...T) T { return choices[d.IntN(len(choices))] }

// UUID returns a UUID of version 4.
func (d Dice) UUID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], d.Uint64())
	binary.BigEndian.PutUint64(b[8:], d.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return uuid.UUID(b).String()
}
