// Package environment reads a function's settings from its environment variables, which template.yaml sets.
package environment

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Variables reads settings and remembers what is wrong, so that a function that is wired badly says all of it at once.
type Variables struct{ faults []string }

// String returns a variable that must be there and not be empty.
func (v *Variables) String(name string) string {
	s := os.Getenv(name)
	if s == "" {
		v.faults = append(v.faults, name+" is not set")
	}
	return s
}

// Duration returns a variable that must be a positive Go duration, such as 24h.
func (v *Variables) Duration(name string) time.Duration {
	s := v.String(name)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		v.faults = append(v.faults, name+" is not a positive duration such as 24h")
	}
	return d
}

// Int returns a variable that must be a positive integer.
func (v *Variables) Int(name string) int {
	s := v.String(name)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		v.faults = append(v.faults, name+" is not a positive integer")
	}
	return n
}

// List returns the members of a variable that must hold at least one, separated by commas. Spaces around a member do
// not count, and neither does a member that is nothing else.
func (v *Variables) List(name string) []string {
	s := v.String(name)
	if s == "" {
		return nil
	}
	var members []string
	for member := range strings.SplitSeq(s, ",") {
		if member = strings.TrimSpace(member); member != "" {
			members = append(members, member)
		}
	}
	if members == nil {
		v.faults = append(v.faults, name+" is not a list such as a,b")
	}
	return members
}

// Optional returns a variable that need not be there, or "".
func (v *Variables) Optional(name string) string { return os.Getenv(name) }

// Reject remembers what is wrong with a variable beyond its form, unless err is nil.
func (v *Variables) Reject(name string, err error) {
	if err != nil {
		v.faults = append(v.faults, name+": "+err.Error())
	}
}

// Err returns one error that names every variable that is missing or wrong, or nil.
func (v *Variables) Err() error {
	if len(v.faults) == 0 {
		return nil
	}
	return fmt.Errorf("environment: %s", strings.Join(v.faults, ", "))
}
