// Package siem carries audit entries, alerts, checkpoints and findings about the
// delivery itself to where others keep and watch them: files for an agent, syslog,
// webhooks, S3.
//
// It promises that each event arrives at least once, in the order of its log, with
// an id that tells a repetition from something new; that a receiver which is slow,
// gone or half there delays neither the vault nor other receivers, because the log
// itself is the buffer; that a delivery which stalls is told of (PCI DSS 10.7.2);
// and that nothing in an event can break out of its line or field in any format.
package siem
