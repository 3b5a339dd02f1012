package vault

// LockerFingerprint is what the peer keeps of data under a key.
var LockerFingerprint = lockerFingerprint
