package lifecycle

import (
	"fmt"
	"slices"
	"time"
)

// DoneStep is a step that was done and checked.
type DoneStep struct {
	Step   string    `json:"step"`
	At     time.Time `json:"at"`
	Detail string    `json:"detail"`
}

// Journal notes what was done of work in several steps, so that work which was cut
// off goes on where it was. It is for one caller at a time.
type Journal struct {
	// Steps are those of the state that Save keeps.
	Steps *[]DoneStep
	// Save keeps the state; its error stops the work.
	Save func() error
	Now  func() time.Time
}

// Did says whether a step was done.
func (j Journal) Did(name string) bool {
	return slices.ContainsFunc(*j.Steps, func(s DoneStep) bool { return s.Step == name })
}

// Do does a step unless it was done, and keeps that it was. Between the two there may
// be a kill: a step must bear being done twice. Its detail has no secrets.
func (j Journal) Do(name string, do func() (detail string, err error)) error {
	if j.Did(name) {
		return nil
	}
	detail, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*j.Steps = append(*j.Steps, DoneStep{name, j.Now().UTC().Truncate(time.Second), detail})
	return j.Save()
}
