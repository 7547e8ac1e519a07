package deliver_test

import (
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/local/emulatortest"
)

func TestMain(m *testing.M) {
	lambdacontext.FunctionName = function
	emulatortest.Main(m)
}

// function is the name that Lambda would give the function: a dimension of the metrics.
const function = "carillon-engage-deliver"
