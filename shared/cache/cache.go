// Package cache keeps what was read from elsewhere for a while, so that a warm function does not read it for every
// request: a bounded number of values, and one reading for all who ask at the same time.
package cache

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"carillon/shared/clock"
)

// AnyAge is the maxAge of a caller who takes whatever is kept.
const AnyAge = time.Duration(math.MaxInt64)

// readTimeout bounds a reading where Options say nothing else: it may serve several callers, whose own time it has not.
const readTimeout = 5 * time.Second

// Options say what a cache keeps, and for how long.
type Options[V any] struct {
	// Limit is how many values are kept, and as many absences; the least recently used goes first. It is at least 1.
	Limit int
	// TTL is how long a value is kept, and up to a fifth longer, so that processes do not all read at once.
	TTL time.Duration
	// Keep says instead, of one value, how long exactly it is kept from the beginning of its reading on.
	Keep func(V) time.Duration
	// Absent is the error that says that there is no such value, kept for AbsentTTL. Without it every absence is read
	// again.
	Absent    error
	AbsentTTL time.Duration
	// StaleTTL is how long after its reading a value serves on while readings fail for other reasons than Absent.
	StaleTTL time.Duration
	// ReadTimeout bounds one reading; 5 seconds if it is 0.
	ReadTimeout time.Duration
	// Admit is asked before a value is read that is not kept, and refuses it by an error: a bound on what callers who
	// make up keys can cost.
	Admit func() error
	// Clock is clock.System if it is nil.
	Clock clock.Clock
}

// Cache keeps values of one type by key. It is safe for concurrent use.
type Cache[V any] struct {
	options Options[V]
	flight  singleflight.Group

	mu     sync.Mutex
	values *simplelru.LRU[string, entry[V]]
	absent *simplelru.LRU[string, time.Time] // when it was looked for
}

type entry[V any] struct {
	value   V
	read    time.Time
	expires time.Time
}

// New returns an empty cache. It panics if Limit is below 1.
func New[V any](options Options[V]) *Cache[V] {
	if options.Clock == nil {
		options.Clock = clock.System{}
	}
	if options.ReadTimeout == 0 {
		options.ReadTimeout = readTimeout
	}
	return &Cache[V]{
		options: options,
		values:  newLRU[entry[V]](options.Limit),
		absent:  newLRU[time.Time](options.Limit),
	}
}

func newLRU[T any](limit int) *simplelru.LRU[string, T] {
	lru, err := simplelru.NewLRU[string, T](limit, nil)
	if err != nil {
		panic(err)
	}
	return lru
}

// Get returns the value of a key: from memory if it was read within maxAge, and so for an absence, else by read, which
// is called once for all who ask at the same time. It returns read's error; Absent; Admit's error; or ctx's.
func (c *Cache[V]) Get(
	ctx context.Context,
	key string,
	maxAge time.Duration,
	read func(context.Context) (V, error),
) (V, error) {
	var none V
	kept, known := c.find(key)
	switch {
	case known && c.isFresh(kept, maxAge):
		return kept.value, nil
	case known:
	case c.isAbsent(key, maxAge):
		return none, c.options.Absent
	case c.options.Admit != nil:
		if err := c.options.Admit(); err != nil {
			return none, err
		}
	}
	result := c.flight.DoChan(key, func() (any, error) {
		if kept, known := c.find(key); known && c.isFresh(kept, maxAge) {
			return kept.value, nil // read since it was looked for
		}
		// Not the caller's context: the others who wait must not fail with it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.ReadTimeout)
		defer cancel()
		return c.read(ctx, key, read)
	})
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case r := <-result:
		value, _ := r.Val.(V) // no V only if V is an interface type and the value nil
		if r.Err != nil && known && !c.saysAbsent(r.Err) && c.age(kept) < c.options.StaleTTL {
			return kept.value, nil
		}
		return value, r.Err
	}
}

// Drop forgets the value of a key if it is still the one that match knows.
func (c *Cache[V]) Drop(key string, match func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept, known := c.values.Get(key); known && match(kept.value) {
		c.values.Remove(key)
	}
}

func (c *Cache[V]) find(key string) (entry[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.values.Get(key)
}

func (c *Cache[V]) isFresh(kept entry[V], maxAge time.Duration) bool {
	return c.options.Clock.Now().Before(kept.expires) && c.age(kept) < maxAge
}

func (c *Cache[V]) age(kept entry[V]) time.Duration { return c.options.Clock.Now().Sub(kept.read) }

func (c *Cache[V]) isAbsent(key string, maxAge time.Duration) bool {
	c.mu.Lock()
	missed, gone := c.absent.Get(key)
	c.mu.Unlock()
	return gone && c.options.Clock.Now().Sub(missed) < min(c.options.AbsentTTL, maxAge)
}

func (c *Cache[V]) saysAbsent(err error) bool {
	return c.options.Absent != nil && errors.Is(err, c.options.Absent)
}

func (c *Cache[V]) read(ctx context.Context, key string, read func(context.Context) (V, error)) (V, error) {
	begun := c.options.Clock.Now()
	value, err := read(ctx)
	now := c.options.Clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		expires := now.Add(c.options.TTL + rand.N(c.options.TTL/5+1))
		if c.options.Keep != nil {
			expires = begun.Add(c.options.Keep(value))
		}
		c.values.Add(key, entry[V]{value: value, read: now, expires: expires})
		c.absent.Remove(key)
	case c.saysAbsent(err):
		c.values.Remove(key)
		c.absent.Add(key, now)
	}
	return value, err
}
