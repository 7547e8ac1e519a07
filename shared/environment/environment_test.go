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
