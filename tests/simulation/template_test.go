package simulation_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"carillon/tests/document"
	"carillon/tests/simulation"
)

// What the simulation says of the functions and queues is what template.yaml says.
func TestTheSimulatedStackIsTheTemplates(t *testing.T) {
	template := document.Load(t)
	text := func(path ...string) string { return document.Text(document.At(t, map[string]any(template), path...)) }
	functions := template.Functions(t)
	for name, timeout := range simulation.Timeouts() {
		assert.Equal(t, document.Text(document.At(t, functions[name], "Timeout")), timeout, name)
	}
	for _, queue := range simulation.Queues() {
		mapping := document.At(t, functions["engage-deliver"], "Events", queue.Event, "Properties")
		assert.Equal(t, "!GetAtt "+queue.LogicalID+".Arn", document.Text(document.At(t, mapping, "Queue")))
		assert.Equal(t, document.Text(document.At(t, mapping, "BatchSize")), queue.BatchSize)
		parameter := document.Text(document.At(t, mapping, "ScalingConfig", "MaximumConcurrency"))
		assert.Equal(t, "!Ref "+queue.Parameter, parameter)
		assert.Equal(t, text("Parameters", queue.Parameter, "Default"), queue.Concurrency)
		assert.Equal(t, text("Resources", queue.LogicalID, "Properties", "VisibilityTimeout"), queue.Visibility)
		assert.Equal(
			t,
			text("Resources", queue.LogicalID, "Properties", "RedrivePolicy", "maxReceiveCount"),
			queue.Receives,
		)
	}
	assert.Equal(t, text("Parameters", "GatewayTimeout", "Default"), simulation.GatewayTimeout())
}
