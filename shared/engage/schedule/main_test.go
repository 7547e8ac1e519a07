package schedule_test

import (
	"testing"

	"carillon/local/emulatortest"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }
