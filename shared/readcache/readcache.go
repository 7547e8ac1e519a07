// Package readcache keeps what was read from a table for a short while, so that a warm function does not read it for every request.
package readcache

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"
)

// readTimeout bounds one reading, which may serve several callers.
const readTimeout = 5 * time.Second

// Cache keeps values of one type by key. It is safe for concurrent use.
type Cache[V any] struct {
	ttl    time.Duration
	flight singleflight.Group

	mu      sync.Mutex
	entries *simplelru.LRU[string, entry[V]]
}

type entry[V any] struct {
	value   V
	read    time.Time
	expires time.Time
}

// New returns a cache of at most limit values, each kept for ttl and up to a fifth more, so that processes do not read all at once.
// It panics if limit is below 1.
func New[V any](limit int, ttl time.Duration) *Cache[V] {
	entries, err := simplelru.NewLRU[string, entry[V]](limit, nil)
	if err != nil {
		panic(err)
	}
	return &Cache[V]{ttl: ttl, entries: entries}
}

// Get returns the value of a key, from memory if it was read within maxAge, else by read: once for all who ask at the same time.
// It returns read's error, which is not kept: what does not exist yet is looked for each time.
func (c *Cache[V]) Get(ctx context.Context, key string, maxAge time.Duration, read func(context.Context) (V, error)) (V, error) {
	c.mu.Lock()
	kept, known := c.entries.Get(key)
	c.mu.Unlock()
	if now := time.Now(); known && now.Before(kept.expires) && now.Sub(kept.read) < maxAge {
		return kept.value, nil
	}
	result := c.flight.DoChan(key, func() (any, error) {
		// Not the caller's context: the others who wait must not fail with it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		value, err := read(ctx)
		if err == nil {
			now := time.Now()
			c.mu.Lock()
			c.entries.Add(key, entry[V]{value: value, read: now, expires: now.Add(c.ttl + rand.N(c.ttl/5))})
			c.mu.Unlock()
		}
		return value, err
	})
	select {
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	case r := <-result:
		value, _ := r.Val.(V) // no V only if V is an interface type and the value nil
		return value, r.Err
	}
}
