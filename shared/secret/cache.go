package secret

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// Getter reads one version of a secret. It returns ErrNotFound when there is none.
type Getter interface {
	Get(ctx context.Context, name string, stage Stage) (Version, error)
}

// ErrBusy says that too many unknown secrets were asked for of late: nobody looked this one up.
var ErrBusy = errors.New("secret: too many unknown names, not looked up")

// AnyAge is the maxAge of a caller who takes whatever the cache holds as fresh.
const AnyAge = time.Duration(math.MaxInt64)

// The cache's limits. An attacker who sends random client ids fills only the absent entries, and spends only the look-up allowance.
const (
	foundLimit  = 1000
	absentLimit = 1000
	foundTTL    = 5 * time.Minute  // plus up to a fifth, so that processes do not ask all at once
	absentTTL   = 15 * time.Second // short: a client added just now should not wait
	staleTTL    = 30 * time.Minute // how long a known secret serves on while Secrets Manager fails
	missEvery   = 100 * time.Millisecond
	missBurst   = 100
	readTimeout = 5 * time.Second
)

// Cache keeps secrets that a Getter reads. One look-up serves all who ask at the same time. It is safe for concurrent use.
type Cache struct {
	getter Getter
	flight singleflight.Group
	misses *rate.Limiter

	mu     sync.Mutex
	found  *simplelru.LRU[key, entry]
	absent *simplelru.LRU[key, time.Time] // when it was looked up
}

type key struct {
	name  string
	stage Stage
}

func (k key) String() string { return string(k.stage) + " " + k.name }

type entry struct {
	version Version
	read    time.Time
	expires time.Time
}

// NewCache returns an empty cache in front of getter, for names that callers choose: it looks up no more than a hundred
// unknown names at once, and ten a second after that.
func NewCache(getter Getter) *Cache {
	return newCache(getter, rate.NewLimiter(rate.Every(missEvery), missBurst))
}

// NewUnthrottledCache returns an empty cache in front of getter that looks up every unknown name, and never returns
// ErrBusy. It is for names that the bundle itself gave: no caller can make it ask for others, and a process that has just
// started may meet many of them at once.
func NewUnthrottledCache(getter Getter) *Cache {
	return newCache(getter, rate.NewLimiter(rate.Inf, 0))
}

func newCache(getter Getter, misses *rate.Limiter) *Cache {
	found, err := simplelru.NewLRU[key, entry](foundLimit, nil)
	if err != nil {
		panic(err) // only for a limit below 1
	}
	absent, err := simplelru.NewLRU[key, time.Time](absentLimit, nil)
	if err != nil {
		panic(err)
	}
	return &Cache{getter: getter, misses: misses, found: found, absent: absent}
}

// Get returns a version, from memory where it is fresh and was read within maxAge, and so for a version that was not
// there. A short maxAge serves a caller whose credentials do not match what is kept: they may have been rotated a moment
// ago. AnyAge takes all that is fresh.
// It returns ErrNotFound, ErrBusy unless the cache is unthrottled, or the Getter's error.
func (c *Cache) Get(ctx context.Context, name string, stage Stage, maxAge time.Duration) (Version, error) {
	k := key{name, stage}
	c.mu.Lock()
	kept, known := c.found.Get(k)
	missed, gone := c.absent.Get(k)
	c.mu.Unlock()
	now := time.Now()
	switch {
	case known && now.Before(kept.expires) && now.Sub(kept.read) < maxAge:
		return kept.version, nil
	case !known && gone && now.Sub(missed) < min(absentTTL, maxAge):
		return Version{}, ErrNotFound
	case !known && !c.misses.Allow():
		return Version{}, ErrBusy
	}
	result := c.flight.DoChan(k.String(), func() (any, error) {
		// Not the caller's context: the others who wait must not fail with it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		return c.read(ctx, k)
	})
	select {
	case <-ctx.Done():
		return Version{}, ctx.Err()
	case r := <-result:
		if r.Err == nil {
			return r.Val.(Version), nil
		}
		if known && !errors.Is(r.Err, ErrNotFound) && time.Since(kept.read) < staleTTL {
			return kept.version, nil
		}
		return Version{}, r.Err
	}
}

// warmDelay lets a cold start ask Lambda for its first event before it asks for secrets: on less than one whole
// processor the one would hold up the other.
const warmDelay = 5 * time.Millisecond

// Warm reads secrets in the background, so that the first request does not wait for them. A failure is left to the request that needs the secret.
func (c *Cache) Warm(stage Stage, names ...string) {
	time.AfterFunc(warmDelay, func() {
		for _, name := range names {
			go func() { _, _ = c.Get(context.Background(), name, stage, AnyAge) }()
		}
	})
}

func (c *Cache) read(ctx context.Context, k key) (Version, error) {
	version, err := c.getter.Get(ctx, k.name, k.stage)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.found.Add(k, entry{version: version, read: now, expires: now.Add(foundTTL + rand.N(foundTTL/5))})
		c.absent.Remove(k)
	case errors.Is(err, ErrNotFound):
		c.found.Remove(k)
		c.absent.Add(k, now)
	}
	return version, err
}
