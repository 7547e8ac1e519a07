package cache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/cache"
	"carillon/shared/clock/clocktest"
)

const anyAge = cache.AnyAge

// table is what is read from: its one value, and how often it was read.
type table struct {
	value, reads atomic.Int64
	failure      atomic.Pointer[error]
	delay        time.Duration
}

func (s *table) read(ctx context.Context) (int64, error) {
	s.reads.Add(1)
	if s.delay > 0 {
		select {
		case <-time.After(s.delay):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if failure := s.failure.Load(); failure != nil {
		return 0, *failure
	}
	return s.value.Load(), nil
}

// pass lets a bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

func get(t *testing.T, c *cache.Cache[int64], maxAge time.Duration, s *table) int64 {
	t.Helper()
	value, err := c.Get(t.Context(), "key", maxAge, s.read)
	require.NoError(t, err)
	return value
}

func TestTimeToLive(t *testing.T) {
	lifetimes := map[time.Duration]bool{}
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			s := new(table)
			s.value.Store(1)
			c := cache.New(cache.Options[int64]{Limit: 10, TTL: time.Minute})
			assert.EqualValues(t, 1, get(t, c, anyAge, s))
			s.value.Store(2)
			pass(time.Minute - 1)
			assert.EqualValues(t, 1, get(t, c, anyAge, s))
			start := time.Now()
			for get(t, c, anyAge, s) == 1 {
				pass(100 * time.Millisecond)
			}
			lifetimes[time.Since(start)] = true
			assert.LessOrEqual(t, time.Since(start), 12*time.Second+100*time.Millisecond)
			assert.EqualValues(t, 2, s.reads.Load())
		})
	}
	assert.Greater(t, len(lifetimes), 3, "processes that started together do not read together")
}

func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(table)
		s.value.Store(1)
		c := cache.New(cache.Options[int64]{Limit: 10, TTL: time.Minute})
		get(t, c, anyAge, s)
		s.value.Store(2)
		pass(5*time.Second - 1)
		assert.EqualValues(t, 1, get(t, c, 5*time.Second, s))
		pass(1)
		assert.EqualValues(t, 2, get(t, c, 5*time.Second, s))
		assert.EqualValues(t, 2, get(t, c, anyAge, s))
		assert.EqualValues(t, 2, s.reads.Load())
		get(t, c, 0, s)
		assert.EqualValues(t, 3, s.reads.Load(), "no age at all always reads")
	})
}

func TestOneReadingForAllWhoAskTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{delay: time.Second}
		s.value.Store(7)
		c := cache.New(cache.Options[int64]{Limit: 10, TTL: time.Minute})
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				value, err := c.Get(t.Context(), "key", anyAge, s.read)
				assert.NoError(t, err)
				assert.EqualValues(t, 7, value)
			})
		}
		group.Wait()
		assert.EqualValues(t, 1, s.reads.Load())
	})
}

func TestCallerThatGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{delay: time.Second}
		s.value.Store(7)
		c := cache.New(cache.Options[int64]{Limit: 10, TTL: time.Minute})
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := c.Get(impatient, "key", anyAge, s.read)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.EqualValues(t, 7, get(t, c, anyAge, s), "the reading goes on for the others")
		assert.EqualValues(t, 1, s.reads.Load())
	})
}

func TestReadingThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.New(cache.Options[int64]{Limit: 10, TTL: time.Minute})
		start := time.Now()
		_, err := c.Get(t.Context(), "key", anyAge, (&table{delay: time.Hour}).read)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(table)
		s.value.Store(1)
		c := cache.New(cache.Options[int64]{Limit: 10, TTL: time.Minute})
		down := errors.New("down")
		s.failure.Store(&down)
		for range 2 {
			value, err := c.Get(t.Context(), "key", anyAge, s.read)
			require.Same(t, down, err)
			assert.Zero(t, value)
		}
		assert.EqualValues(t, 2, s.reads.Load())
		s.failure.Store(nil)
		assert.EqualValues(t, 1, get(t, c, anyAge, s))

		// Nor does an error end what is kept.
		s.failure.Store(&down)
		_, err := c.Get(t.Context(), "key", 0, s.read)
		require.ErrorIs(t, err, down)
		assert.EqualValues(t, 1, get(t, c, anyAge, s))
	})
}

func TestKeysAreApart(t *testing.T) {
	c := cache.New(cache.Options[string]{Limit: 10, TTL: time.Minute})
	for range 2 {
		for _, key := range []string{"a", "b", ""} {
			value, err := c.Get(
				t.Context(),
				key,
				anyAge,
				func(context.Context) (string, error) { return "value of " + key, nil },
			)
			require.NoError(t, err)
			assert.Equal(t, "value of "+key, value)
		}
	}
}

func TestNilOfAnInterfaceIsAValue(t *testing.T) {
	c := cache.New(cache.Options[error]{Limit: 10, TTL: time.Minute})
	value, err := c.Get(t.Context(), "key", anyAge, func(context.Context) (error, error) { return nil, nil })
	require.NoError(t, err)
	assert.NoError(t, value)
}

func TestLimit(t *testing.T) {
	c := cache.New(cache.Options[int]{Limit: 3, TTL: time.Hour})
	reads := map[string]int{}
	ask := func(key string) {
		_, err := c.Get(t.Context(), key, anyAge, func(context.Context) (int, error) { reads[key]++; return 0, nil })
		require.NoError(t, err)
	}
	for _, key := range []string{"a", "b", "c", "a", "d", "a", "c", "b"} {
		ask(key)
	}
	assert.Equal(
		t,
		map[string]int{"a": 1, "b": 2, "c": 1, "d": 1},
		reads,
		"the one not asked for the longest goes first",
	)
	assert.Panics(t, func() { cache.New(cache.Options[int]{Limit: 0, TTL: time.Hour}) })
}

func TestMemoryIsBounded(t *testing.T) {
	c := cache.New(cache.Options[[]byte]{Limit: 100, TTL: time.Hour})
	fill := func(from, to int) int64 {
		for i := from; i < to; i++ {
			_, err := c.Get(
				t.Context(),
				fmt.Sprint(i),
				anyAge,
				func(context.Context) ([]byte, error) { return make([]byte, 10_000), nil },
			)
			require.NoError(t, err)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	full := fill(0, 1000)
	assert.Less(t, fill(1000, 6000)-full, int64(1<<20), "bytes after 50 MB more")
	runtime.KeepAlive(c)
}

// A value that says itself how long it is good for is kept for that long from the beginning of its reading, and no
// longer.
func TestValuesThatSayHowLongTheyAreKept(t *testing.T) {
	now := clocktest.New()
	c := cache.New(cache.Options[time.Duration]{
		Limit: 10, Keep: func(v time.Duration) time.Duration { return v }, Clock: now,
	})
	reads := 0
	ask := func() {
		_, err := c.Get(t.Context(), "key", anyAge, func(ctx context.Context) (time.Duration, error) {
			reads++
			return time.Minute, now.Sleep(ctx, 10*time.Second) // what the reading takes is gone already
		})
		require.NoError(t, err)
	}
	ask()
	now.Advance(50*time.Second - 1)
	ask()
	assert.Equal(t, 1, reads)
	now.Advance(1)
	ask()
	assert.Equal(t, 2, reads)
}

func TestDrop(t *testing.T) {
	c := cache.New(cache.Options[string]{Limit: 10, TTL: time.Hour})
	value := "first"
	ask := func() string {
		got, err := c.Get(t.Context(), "key", anyAge, func(context.Context) (string, error) { return value, nil })
		require.NoError(t, err)
		return got
	}
	is := func(want string) func(string) bool { return func(kept string) bool { return kept == want } }
	c.Drop("key", is("first")) // nothing is kept yet
	assert.Equal(t, "first", ask())
	value = "second"
	c.Drop("key", is("another"))
	assert.Equal(t, "first", ask(), "a newer value is not dropped for an older one")
	c.Drop("key", is("first"))
	assert.Equal(t, "second", ask())
}
