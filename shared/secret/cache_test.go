package secret_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/secret"
)

// vault is a Getter whose secrets the test sets, and which counts what it is asked for.
type vault struct {
	mu      sync.Mutex
	values  map[string]string
	failure error
	delay   time.Duration
	asked   map[string]int
}

func newVault(values map[string]string) *vault {
	return &vault{values: values, asked: map[string]int{}}
}

func (v *vault) Get(ctx context.Context, name string, stage secret.Stage) (secret.Version, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked[name]++
	value, ok := v.values[name+"@"+string(stage)]
	failure, delay := v.failure, v.delay
	v.mu.Unlock()
	var ended error
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			ended = ctx.Err()
		}
	}
	v.mu.Lock()
	switch {
	case ended != nil:
		return secret.Version{}, ended
	case failure != nil:
		return secret.Version{}, failure
	case !ok:
		return secret.Version{}, fmt.Errorf("%w: %s", secret.ErrNotFound, name)
	}
	return secret.Version{ID: "id of " + value, Value: secret.NewText(value), Created: time.Now()}, nil
}

func (v *vault) set(name, value string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.values[name+"@AWSCURRENT"] = value
}

func (v *vault) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failure = err
}

func (v *vault) reads(name string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asked[name]
}

func (v *vault) allReads() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, asked := range v.asked {
		n += asked
	}
	return n
}

// pass lets a bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

func get(t *testing.T, c *secret.Cache, name string, maxAge time.Duration) string {
	t.Helper()
	version, err := c.Get(t.Context(), name, secret.Current, maxAge)
	require.NoError(t, err)
	return version.Value.Reveal()
}

// The time to live is five minutes and up to a fifth more.
func TestCacheTimeToLive(t *testing.T) {
	const processes = 30
	var lifetimes = map[time.Duration]bool{}
	for range processes {
		synctest.Test(t, func(t *testing.T) {
			v := newVault(map[string]string{"a@AWSCURRENT": "1"})
			c := secret.NewCache(v)
			assert.Equal(t, "1", get(t, c, "a", secret.AnyAge))
			v.set("a", "2")
			pass(5*time.Minute - 1)
			assert.Equal(t, "1", get(t, c, "a", secret.AnyAge))
			assert.Equal(t, 1, v.reads("a"))
			start := time.Now()
			for get(t, c, "a", secret.AnyAge) == "1" {
				pass(time.Second)
			}
			lifetimes[time.Since(start)] = true
			assert.LessOrEqual(t, time.Since(start), time.Minute+time.Second)
			assert.Equal(t, 2, v.reads("a"))
		})
	}
	assert.Greater(t, len(lifetimes), 3, "processes that started together do not ask together")
}

func TestCacheMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a@AWSCURRENT": "1"})
		c := secret.NewCache(v)
		get(t, c, "a", secret.AnyAge)
		v.set("a", "2")
		pass(10*time.Second - 1)
		assert.Equal(t, "1", get(t, c, "a", 10*time.Second))
		pass(1)
		assert.Equal(t, "2", get(t, c, "a", 10*time.Second), "as old as maxAge is too old")
		assert.Equal(t, "2", get(t, c, "a", secret.AnyAge), "what a short maxAge read is kept for all")
		assert.Equal(t, 2, v.reads("a"))
		v.set("a", "3")
		assert.Equal(t, "3", get(t, c, "a", 0), "no age at all always reads")
	})
}

func TestCacheKeepsStagesApart(t *testing.T) {
	v := newVault(map[string]string{"a@AWSCURRENT": "new", "a@AWSPREVIOUS": "old"})
	c := secret.NewCache(v)
	for range 2 {
		current, err := c.Get(t.Context(), "a", secret.Current, secret.AnyAge)
		require.NoError(t, err)
		previous, err := c.Get(t.Context(), "a", secret.Previous, secret.AnyAge)
		require.NoError(t, err)
		assert.Equal(t, []string{"new", "old"}, []string{current.Value.Reveal(), previous.Value.Reveal()})
		assert.Equal(t, "id of new", current.ID)
	}
	assert.Equal(t, 2, v.reads("a"))
}

func TestCacheReadsOnceForAllWhoAskTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a@AWSCURRENT": "1"})
		v.delay = time.Second
		c := secret.NewCache(v)
		var group sync.WaitGroup
		for range 90 {
			group.Go(func() {
				version, err := c.Get(t.Context(), "a", secret.Current, secret.AnyAge)
				assert.NoError(t, err)
				assert.Equal(t, "1", version.Value.Reveal())
			})
		}
		group.Wait()
		assert.Equal(t, 1, v.reads("a"))
	})
}

// Who goes away while waiting gets the context's error at once, and the others still get the secret.
func TestCacheCallerThatGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a@AWSCURRENT": "1"})
		v.delay = time.Second
		c := secret.NewCache(v)
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var group sync.WaitGroup
		group.Go(func() {
			start := time.Now()
			_, err := c.Get(impatient, "a", secret.Current, secret.AnyAge)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, 100*time.Millisecond, time.Since(start))
		})
		synctest.Wait() // the impatient one's reading is under way
		group.Go(func() { assert.Equal(t, "1", get(t, c, "a", secret.AnyAge)) })
		group.Wait()
		assert.Equal(t, 1, v.reads("a"))
	})
}

func TestCacheGetterThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a@AWSCURRENT": "1"})
		v.delay = time.Hour
		c := secret.NewCache(v)
		start := time.Now()
		_, err := c.Get(t.Context(), "a", secret.Current, secret.AnyAge)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestCacheAbsentSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{})
		c := secret.NewCache(v)
		missing := func() {
			_, err := c.Get(t.Context(), "a", secret.Current, secret.AnyAge)
			require.ErrorIs(t, err, secret.ErrNotFound)
		}
		missing()
		v.set("a", "1")
		pass(15*time.Second - 1)
		missing()
		assert.Equal(t, 1, v.reads("a"), "an absent secret is not asked for again at once")
		pass(1)
		assert.Equal(t, "1", get(t, c, "a", secret.AnyAge), "a client that was added is let in soon")
		assert.Equal(t, "1", get(t, c, "a", secret.AnyAge))
		assert.Equal(t, 2, v.reads("a"))
	})
}

// Who cannot take an old answer gets a new one, as for a secret that is there.
func TestCacheAbsentSecretWithinMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{})
		c := secret.NewCache(v)
		_, err := c.Get(t.Context(), "a", secret.Current, time.Second)
		require.ErrorIs(t, err, secret.ErrNotFound)
		v.set("a", "1")
		pass(time.Second - 1)
		_, err = c.Get(t.Context(), "a", secret.Current, time.Second)
		require.ErrorIs(t, err, secret.ErrNotFound)
		assert.Equal(t, 1, v.reads("a"))
		pass(1)
		assert.Equal(t, "1", get(t, c, "a", time.Second))
	})
}

func TestCacheSecretThatWasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a@AWSCURRENT": "1"})
		c := secret.NewCache(v)
		get(t, c, "a", secret.AnyAge)
		delete(v.values, "a@AWSCURRENT")
		_, err := c.Get(t.Context(), "a", secret.Current, 0)
		require.ErrorIs(t, err, secret.ErrNotFound)
		v.fail(errors.New("down"))
		_, err = c.Get(t.Context(), "a", secret.Current, secret.AnyAge)
		assert.ErrorIs(t, err, secret.ErrNotFound, "a removed secret is never served as stale")
	})
}

// While Secrets Manager fails, a known secret serves on for half an hour after it was read.
func TestCacheServesStaleSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a@AWSCURRENT": "1"})
		c := secret.NewCache(v)
		get(t, c, "a", secret.AnyAge)
		down := errors.New("down")
		v.fail(down)
		assert.Equal(t, "1", get(t, c, "a", 0))
		pass(30*time.Minute - 1)
		assert.Equal(t, "1", get(t, c, "a", secret.AnyAge))
		pass(1)
		_, err := c.Get(t.Context(), "a", secret.Current, secret.AnyAge)
		require.ErrorIs(t, err, down)
		_, err = c.Get(t.Context(), "b", secret.Current, secret.AnyAge)
		require.ErrorIs(t, err, down, "an unknown secret has nothing to serve")
		assert.Equal(t, 1, v.reads("b"))
		v.fail(nil)
		assert.Equal(t, "1", get(t, c, "a", secret.AnyAge), "a failure is not kept")
	})
}

// An attacker's random names cost a bounded number of look-ups and bounded memory, and known secrets serve on.
func TestCacheUnderRandomNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const names = 100_000
		v := newVault(map[string]string{"a@AWSCURRENT": "1"})
		c := secret.NewCache(v)
		get(t, c, "a", secret.AnyAge) // spends one of the allowance
		busy := 0
		for i := range names {
			_, err := c.Get(t.Context(), fmt.Sprint("random", i), secret.Current, secret.AnyAge)
			switch {
			case errors.Is(err, secret.ErrBusy):
				busy++
			default:
				require.ErrorIs(t, err, secret.ErrNotFound)
			}
		}
		assert.Equal(t, names-99, busy, "a hundred look-ups at once")
		assert.Equal(t, "1", get(t, c, "a", secret.AnyAge))
		assert.Equal(t, "1", get(t, c, "a", 0), "reading a known secret again needs no allowance")
		_, err := c.Get(t.Context(), "random0", secret.Current, secret.AnyAge)
		require.ErrorIs(t, err, secret.ErrNotFound, "a name that was looked up is still known to be absent")
		before := v.allReads()
		pass(10 * time.Second)
		for i := range 1000 {
			_, _ = c.Get(t.Context(), fmt.Sprint("later", i), secret.Current, secret.AnyAge)
		}
		assert.Equal(t, 100, v.allReads()-before, "ten look-ups a second after that, no more than a hundred at once")
	})
}

// A process that has just started meets more names of our own than an attacker may ask for.
func TestUnthrottledCache(t *testing.T) {
	const names = 1000
	values := map[string]string{}
	for i := range names {
		values[fmt.Sprint("ours", i, "@AWSCURRENT")] = "1"
	}
	v := newVault(values)
	c := secret.NewUnthrottledCache(v)
	for range 2 {
		for i := range names {
			assert.Equal(t, "1", get(t, c, fmt.Sprint("ours", i), secret.AnyAge))
		}
	}
	assert.Equal(t, names, v.allReads(), "each is kept all the same")
	for range 2 {
		_, err := c.Get(t.Context(), "gone", secret.Current, secret.AnyAge)
		require.ErrorIs(t, err, secret.ErrNotFound)
	}
	assert.Equal(t, 1, v.reads("gone"))
}

func TestCacheMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{})
		c := secret.NewCache(v)
		grow := func(names int) {
			for i := range names {
				v.set("a", "1")
				_, _ = c.Get(t.Context(), fmt.Sprint(names, "absent", i), secret.Current, secret.AnyAge)
				name := fmt.Sprint(names, "found", i)
				v.set(name, "1")
				pass(200 * time.Millisecond) // both look-ups of the allowance
				_, _ = c.Get(t.Context(), name, secret.Current, secret.AnyAge)
				v.mu.Lock()
				clear(v.values)
				clear(v.asked)
				v.mu.Unlock()
			}
		}
		heap := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		grow(1_500)
		full := heap()
		grow(5_000)
		assert.Less(t, heap()-full, int64(512<<10), "bytes after many more names than the cache keeps")
		runtime.KeepAlive(c)
	})
}

func TestCacheWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a@AWSCURRENT": "1", "b@AWSCURRENT": "2"})
		v.delay = time.Second
		c := secret.NewCache(v)
		start := time.Now()
		c.Warm(secret.Current, "a", "b", "missing")
		assert.Zero(t, time.Since(start), "nobody waits for it")
		assert.Equal(t, "1", get(t, c, "a", secret.AnyAge), "a request joins the reading under way")
		assert.Equal(t, "2", get(t, c, "b", secret.AnyAge))
		assert.Equal(t, 1, v.reads("a"))
		assert.Equal(t, 1, v.reads("missing"))
	})
}
