package siem

// CheckSigning is that the audit log is signed in time. Whoever can change the
// database could change the entries after the last checkpoint unseen.
const CheckSigning = "signing"
