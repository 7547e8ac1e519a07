package ott_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/tests/simulation/bubble"
	"carillon/tests/simulation/ott"
)

var seeds = bubble.NewSeeds()

func TestMain(m *testing.M) { emulatortest.Main(m) }

func TestSeeds(t *testing.T) {
	model := emulatortest.Deploy(t)
	seeds.Run(
		t,
		"ott",
		emulatortest.DynamoDBEndpoint(),
		func(bridge *bubble.Bridge, seed uint64, full bool) bubble.Report {
			if report := run(t, model, bridge, seed, full); report != nil {
				return report
			}
			return nil
		},
	)
}

// The same seed gives the same run: the same POSTs at the same times, and the same final states.
func TestASeedGivesTheSameRun(t *testing.T) {
	model := emulatortest.Deploy(t)
	bridge := bubble.NewBridge(emulatortest.DynamoDBEndpoint())
	defer bridge.Close()
	for i := range 3 {
		seed := seeds.First() + uint64(i)
		once, again := run(t, model, bridge, seed, false), run(t, model, bridge, seed, false)
		require.NotNil(t, once)
		require.NotNil(t, again)
		assert.Equal(t, once.Trace, again.Trace, "seed %d, %s", seed, once.Profile)
	}
}

// run runs a seed on tables of its own. It returns nil if there are none.
func run(t *testing.T, model string, bridge *bubble.Bridge, seed uint64, full bool) *ott.Report {
	t.Helper()
	tables, drop, err := ott.CreateTables(t.Context(), emulatortest.DynamoDB(), model)
	defer drop()
	if !assert.NoError(t, err) {
		return nil
	}
	return ott.Run(t, seed, ott.Options{Bridge: bridge, Tables: tables, Trace: full})
}

// Fifty conversations of twenty messages each, with every fault that there is: per conversation the order of the 201s,
// none lost, none twice beyond what an unanswered try explains.
func TestFiftyConversations(t *testing.T) {
	model := emulatortest.Deploy(t)
	bridge := bubble.NewBridge(emulatortest.DynamoDBEndpoint())
	defer bridge.Close()
	tables, drop, err := ott.CreateTables(t.Context(), emulatortest.DynamoDB(), model)
	defer drop()
	require.NoError(t, err)
	report := ott.Run(t, seeds.First(), ott.Options{Bridge: bridge, Tables: tables, Profile: ott.Crowd})
	assert.Empty(t, report.Violations)
	assert.Greater(t, report.Messages, 900, "accepted of 1000")
}
