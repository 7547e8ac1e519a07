package schedule_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/schedule"
)

// function notes when it was invoked, and with what.
type function struct {
	mu       sync.Mutex
	at       []time.Time
	payloads []string
	takes    time.Duration
	err      error
}

func (f *function) Label() string { return "minute" }

func (f *function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	f.mu.Lock()
	f.at, f.payloads = append(f.at, time.Now()), append(f.payloads, string(payload))
	f.mu.Unlock()
	select {
	case <-time.After(f.takes):
		return nil, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *function) invoked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.at)
}

func options() schedule.Options {
	return schedule.Options{Region: "eu-west-1", AccountID: "123456789012", Log: func(string) {}}
}

func TestRunsAtItsRateFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &function{takes: 90 * time.Second}
		start := time.Now()
		s := schedule.Start([]schedule.Schedule{{Name: "m", Every: time.Minute, Function: f}}, options())
		time.Sleep(3*time.Minute + time.Second)
		synctest.Wait()
		s.Close()
		want := []time.Time{start.Add(time.Minute), start.Add(2 * time.Minute), start.Add(3 * time.Minute)}
		assert.Equal(t, want, f.at, "a run that takes long does not hold up the next")
	})
}

func TestEventIsTheSchedulers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &function{}
		s := schedule.Start([]schedule.Schedule{{Name: "stack-sweep", Every: time.Minute, Function: f}}, options())
		defer s.Close()
		at := time.Now().Add(time.Minute)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, f.payloads, 1)
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(f.payloads[0]), &got))
		id, _ := got["id"].(string)
		require.NoError(t, uuid.Validate(id))
		delete(got, "id")
		assert.Equal(t, map[string]any{
			"version": "0", "detail-type": "Scheduled Event", "source": "aws.scheduler", "account": "123456789012",
			"time": at.UTC().Format(time.RFC3339), "region": "eu-west-1", "detail": "{}",
			"resources": []any{"arn:aws:scheduler:eu-west-1:123456789012:schedule/default/stack-sweep"},
		}, got)
	})
}

func TestTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("out of luck")
		good, bad := &function{takes: time.Second}, &function{err: broken}
		options := options()
		options.Manual = true
		s := schedule.Start([]schedule.Schedule{
			{Name: "good", Every: time.Minute, Input: `{"a":1}`, Function: good},
			{Name: "bad", Every: time.Minute, Disabled: true, Function: bad},
		}, options)
		defer s.Close()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		assert.Zero(t, good.invoked(), "nothing runs by itself")

		err := s.Trigger(t.Context())
		require.ErrorIs(t, err, broken)
		assert.ErrorContains(t, err, "bad: ")
		assert.Equal(t, []string{`{"a":1}`}, good.payloads)

		s.Resume()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 2, good.invoked())
		assert.Equal(t, 1, bad.invoked(), "it is disabled")
		s.Pause()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		assert.Equal(t, 2, good.invoked())
	})
}

func TestFailuresAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		options := options()
		options.Log = func(line string) { lines = append(lines, line) }
		s := schedule.Start(
			[]schedule.Schedule{{Name: "m", Every: time.Minute, Function: &function{err: errors.New("out of luck")}}},
			options,
		)
		time.Sleep(time.Minute)
		synctest.Wait()
		s.Close()
		assert.Equal(t, []string{"minute | schedule: m: out of luck"}, lines)
	})
}
