// Package collect reads events from where CloudTrail's records are: folders, S3
// buckets, queues that tell of new objects, and the LookupEvents operation.
//
// It promises that every event is given at least once: what was given but not
// acknowledged when the process ended is given again by the next one. An event
// that comes again, from wherever, is left out if its id was acknowledged among
// the last ones (see Seen). Files may come late and in any order. What cannot be
// read never stops the rest; it is tried again and then listed as a finding. Memory
// is bounded by batches and by the number of files in the time that is looked back.
package collect
