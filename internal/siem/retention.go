package siem

// CheckRetention is that the audit log is archived in time (PCI DSS 10.5.1).
const CheckRetention = "retention"
