package environment_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/environment"
)

func TestVariablesThatAreRight(t *testing.T) {
	t.Setenv("CARILLON_TEST_TABLE", " a table ")
	t.Setenv("CARILLON_TEST_WINDOW", "1h30m")
	var env environment.Variables
	assert.Equal(t, " a table ", env.String("CARILLON_TEST_TABLE"), "as it is set")
	assert.Equal(t, 90*time.Minute, env.Duration("CARILLON_TEST_WINDOW"))
	assert.NoError(t, env.Err())
}

func TestVariablesThatAreWrongAreReportedTogether(t *testing.T) {
	t.Setenv("CARILLON_TEST_EMPTY", "")
	t.Setenv("CARILLON_TEST_WORD", "hunter2")
	var env environment.Variables
	assert.Empty(t, env.String("CARILLON_TEST_ABSENT"))
	assert.Empty(t, env.String("CARILLON_TEST_EMPTY"))
	assert.Zero(t, env.Duration("CARILLON_TEST_MISSING"))
	env.Duration("CARILLON_TEST_WORD")
	assert.EqualError(t, env.Err(), "environment: CARILLON_TEST_ABSENT is not set, CARILLON_TEST_EMPTY is not set, "+
		"CARILLON_TEST_MISSING is not set, CARILLON_TEST_WORD is not a positive duration such as 24h")
}

func TestDuration(t *testing.T) {
	for text, valid := range map[string]bool{
		"24h": true, "1ns": true, "0.5h": true, "1h1m1s": true,
		"0": false, "0s": false, "-1h": false, "24": false, "1d": false, "P1D": false, "24 h": false, "h": false, "999999999h": false,
	} {
		t.Run(text, func(t *testing.T) {
			t.Setenv("CARILLON_TEST_WINDOW", text)
			var env environment.Variables
			d := env.Duration("CARILLON_TEST_WINDOW")
			if valid {
				require.NoError(t, env.Err())
				assert.Positive(t, d)
				return
			}
			require.Error(t, env.Err())
		})
	}
}

func TestInt(t *testing.T) {
	for text, want := range map[string]int{
		"1": 1, "30": 30, "007": 7, "+5": 5,
		"0": 0, "-1": 0, "1.5": 0, "1e3": 0, "ten": 0, "99999999999999999999": 0, " 1": 0,
	} {
		t.Run(text, func(t *testing.T) {
			t.Setenv("CARILLON_TEST_COUNT", text)
			var env environment.Variables
			n := env.Int("CARILLON_TEST_COUNT")
			if want > 0 {
				require.NoError(t, env.Err())
				assert.Equal(t, want, n)
				return
			}
			assert.EqualError(t, env.Err(), "environment: CARILLON_TEST_COUNT is not a positive integer")
		})
	}
	var env environment.Variables
	assert.Zero(t, env.Int("CARILLON_TEST_ABSENT"))
	assert.EqualError(t, env.Err(), "environment: CARILLON_TEST_ABSENT is not set")
}

func TestList(t *testing.T) {
	for text, want := range map[string][]string{
		"a":            {"a"},
		"a,b":          {"a", "b"},
		" a , b ,, c,": {"a", "b", "c"},
		"*.a.b, *":     {"*.a.b", "*"},
		", ,":          nil,
		" ":            nil,
	} {
		t.Run(text, func(t *testing.T) {
			t.Setenv("CARILLON_TEST_HOSTS", text)
			var env environment.Variables
			assert.Equal(t, want, env.List("CARILLON_TEST_HOSTS"))
			if want == nil {
				assert.EqualError(t, env.Err(), "environment: CARILLON_TEST_HOSTS is not a list such as a,b")
				return
			}
			require.NoError(t, env.Err())
		})
	}
	var env environment.Variables
	assert.Nil(t, env.List("CARILLON_TEST_ABSENT"))
	assert.EqualError(t, env.Err(), "environment: CARILLON_TEST_ABSENT is not set")
}
