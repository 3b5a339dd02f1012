// Package watch reads sources of events, live, with a detector, and hands over
// what it finds.
//
// It promises that every event is judged: an alert was handed over before what was
// learned is written down, and that before the place in the source is; so a process
// that is killed at any moment loses no alert, tells an alert again only under the
// same id, and learns from no event twice. A source that cannot be read, or gives
// nothing though it should, is told of (PCI DSS 10.7.2), once, and its end too.
package watch
