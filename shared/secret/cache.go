package secret

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"carillon/shared/cache"
)

// ErrBusy says that too many unknown secrets were asked for of late: nobody looked this one up.
var ErrBusy = errors.New("secret: too many unknown names, not looked up")

// AnyAge is the maxAge of a caller who takes whatever the cache holds as fresh.
const AnyAge = cache.AnyAge

// The cache's limits. An attacker who sends random client ids fills only the absent entries, and spends only the
// look-up allowance.
const (
	limit     = 1000
	foundTTL  = 5 * time.Minute
	absentTTL = 15 * time.Second // short: a client added just now should not wait
	staleTTL  = 30 * time.Minute
	missEvery = 100 * time.Millisecond
	missBurst = 100
)

// Cache keeps secrets that a Store reads: each for five to six minutes, for half an hour while Secrets Manager fails,
// and for 15 seconds that there is none. It is a Reader, safe for concurrent use.
type Cache struct {
	store    Store
	versions *cache.Cache[Version]
}

// NewCache returns an empty cache in front of store, for names that callers choose: it looks up no more than a hundred
// unknown names at once, and ten a second after that.
func NewCache(store Store) *Cache {
	misses := rate.NewLimiter(rate.Every(missEvery), missBurst)
	return newCache(store, func() error {
		if !misses.Allow() {
			return ErrBusy
		}
		return nil
	})
}

// NewUnthrottledCache returns an empty cache in front of store that looks up every unknown name, and never returns
// ErrBusy. It is for names that the bundle itself gave: no caller can make it ask for others, and a process that has
// just started may meet many of them at once.
func NewUnthrottledCache(store Store) *Cache { return newCache(store, nil) }

func newCache(store Store, admit func() error) *Cache {
	return &Cache{store: store, versions: cache.New(cache.Options[Version]{
		Limit: limit, TTL: foundTTL, Absent: ErrNotFound, AbsentTTL: absentTTL, StaleTTL: staleTTL, Admit: admit,
	})}
}

// Get returns a version, from memory where it is fresh and was read within maxAge, and so for a version that was not
// there. A short maxAge serves a caller whose credentials do not match what is kept: they may have been rotated a
// moment ago. AnyAge takes all that is fresh. It returns ErrNotFound, ErrBusy unless the cache is unthrottled, or the
// Store's error.
func (c *Cache) Get(ctx context.Context, name string, stage Stage, maxAge time.Duration) (Version, error) {
	return c.versions.Get(ctx, string(stage)+" "+name, maxAge, func(ctx context.Context) (Version, error) {
		return c.store.Get(ctx, name, stage)
	})
}

// warmDelay lets a cold start ask Lambda for its first event before it asks for secrets: on less than one whole
// processor the one would hold up the other.
const warmDelay = 5 * time.Millisecond

// Warm reads secrets in the background, so that the first request does not wait for them. A failure is left to the
// request that needs the secret.
func (c *Cache) Warm(stage Stage, names ...string) {
	time.AfterFunc(warmDelay, func() {
		for _, name := range names {
			go func() { _, _ = c.Get(context.Background(), name, stage, AnyAge) }()
		}
	})
}
