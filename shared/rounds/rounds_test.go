package rounds_test

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/rounds"
)

func TestAJobGoesSoManyRounds(t *testing.T) {
	var count rounds.Count
	for range rounds.Max {
		next, err := count.Next()
		require.NoError(t, err)
		require.Equal(t, count+1, next)
		count = next
	}
	for _, over := range []rounds.Count{count, count + 1} {
		next, err := over.Next()
		require.ErrorIs(t, err, rounds.ErrTooMany)
		assert.Equal(t, over, next)
	}
}

func TestCountIsANumberThatMayBeMissing(t *testing.T) {
	type job struct {
		Rounds rounds.Count `json:"rounds,omitzero"`
	}
	for text, want := range map[string]job{`{}`: {}, `{"rounds":7}`: {Rounds: 7}} {
		var got job
		require.NoError(t, json.Unmarshal([]byte(text), &got))
		assert.Equal(t, want, got)
		again, err := json.Marshal(got)
		require.NoError(t, err)
		assert.Equal(t, text, string(again))
	}
}
