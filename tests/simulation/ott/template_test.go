package ott_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"carillon/tests/document"
	"carillon/tests/simulation/ott"
)

// What the simulation says of the functions and the queue is what template.yaml says.
func TestTheSimulatedStackIsTheTemplates(t *testing.T) {
	template := document.Load(t)
	text := func(path ...string) string { return document.Text(document.At(t, map[string]any(template), path...)) }
	functions := template.Functions(t)
	for name, timeout := range ott.Timeouts() {
		said, own := functions[name]["Timeout"]
		if !own {
			said = document.At(t, map[string]any(template), "Globals", "Function", "Timeout")
		}
		assert.Equal(t, document.Text(said), timeout, name)
	}
	queue := ott.Queue()
	mapping := document.At(t, functions["ott-deliver"], "Events", "Queue", "Properties")
	assert.Equal(t, "!GetAtt OutboundQueue.Arn", document.Text(document.At(t, mapping, "Queue")))
	assert.Equal(t, document.Text(document.At(t, mapping, "BatchSize")), queue["BatchSize"])
	parameter := document.Text(document.At(t, mapping, "ScalingConfig", "MaximumConcurrency"))
	assert.Equal(t, "!Ref OutboundConcurrency", parameter)
	assert.Equal(t, text("Parameters", "OutboundConcurrency", "Default"), queue["OutboundConcurrency"])
	assert.Equal(t, text("Resources", "OutboundQueue", "Properties", "VisibilityTimeout"), queue["VisibilityTimeout"])
	assert.Equal(t, "true", text("Resources", "OutboundQueue", "Properties", "FifoQueue"))
	assert.Equal(t, text("Resources", "OutboundQueue", "Properties", "RedrivePolicy", "maxReceiveCount"),
		queue["maxReceiveCount"])
}
