// Package cloudtrail writes records of AWS CloudTrail from the audit log of the
// key service, so that what reads CloudTrail reads Cardea.
//
// It promises that a record says no more and no less than the entry it is made
// from, whose id is the record's eventID, in the form of CloudTrail's event
// version 1.11 (AWS CloudTrail user guide, "CloudTrail record contents").
package cloudtrail
