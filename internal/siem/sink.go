package siem

import (
	"context"
	"time"
)

// Batch is what a receiver is sent at a time: consecutive events of one source,
// without those that its filter leaves out.
type Batch struct {
	// Origin is the log that they are of, "" for alerts, findings and checkpoints.
	Origin string
	// First and End are positions in the source: of the first event, and after the
	// last; what is sent again for want of an answer has the same, if the sink is
	// Planned.
	First, End int64
	File       int64 // of the spool, if Origin is ""
	// Part tells the parts from each other in which a batch is sent of which an event
	// was rejected; 0 is the whole batch. They are the same when it is sent again.
	Part   int
	Events []*Event
}

// Sink is a receiver. One goroutine uses it at a time.
type Sink interface {
	// Send gives the receiver a batch and returns when it has it. n is how many
	// events, from the first on, it has for good; if they are not all, the error says
	// why. A *RejectedError says that it will never take some of the others, a
	// *RetryError when to try again; after any other error it is tried again soon.
	Send(ctx context.Context, b Batch) (n int, err error)
	// Close ends connections and closes files.
	Close() error
}

// Planned is a Sink to which a batch must be sent again as it was, if it is not
// known whether it arrived: its name is made of its positions.
type Planned interface {
	Sink
	Planned()
}

// RejectedError says that the receiver understood the batch and refuses it as such.
type RejectedError struct{ Reason string }

func (e *RejectedError) Error() string { return "receiver refuses the events: " + e.Reason }

// RetryError says when the receiver wants to be asked again.
type RetryError struct {
	After time.Duration
	Err   error
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *RetryError) Unwrap() error { return e.Err }
