// Package interop has no code of its own, only tests: of the key service with the
// programs and libraries that people use AWS KMS by.
//
// It is a module of its own, so that what it depends on is nobody else's burden. Its
// tests build cardea from the folder above, run 'cardea serve' with two Regions, and
// talk to it as the documents tell users to. What is not installed is skipped, with
// the reason.
package interop
