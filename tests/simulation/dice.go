package simulation

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// dice are the random choices of one thing that happens. They follow from the seed and from what the thing is, never
// from which goroutine comes first: so a seed always gives the same run.
type dice struct{ *rand.Rand }

// throw returns the dice of what the names name.
func throw(seed uint64, names ...string) dice {
	hash := fnv.New64a()
	_ = binary.Write(hash, binary.LittleEndian, seed) // a hash never fails
	for _, name := range names {
		_, _ = hash.Write([]byte(name))
		_, _ = hash.Write([]byte{0})
	}
	return dice{rand.New(rand.NewPCG(seed, hash.Sum64()))}
}

// chance reports true with a probability from 0 to 1.
func (d dice) chance(probability float64) bool { return d.Float64() < probability }

// between returns a duration from min to max, to the nanosecond: two things hardly ever happen at the same time.
func (d dice) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.Int64N(int64(most-least)+1))
}

// upTo returns an integer from least to most.
func (d dice) upTo(least, most int) int { return least + d.IntN(most-least+1) }

// pick returns one of the choices.
func pick[T any](d dice, choices ...T) T { return choices[d.IntN(len(choices))] }

// uuid returns a UUID of version 4.
func (d dice) uuid() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], d.Uint64())
	binary.BigEndian.PutUint64(b[8:], d.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return formatUUID(b)
}
