package siem

// childMain is what the test binary does when it is run as the child of a test.
func childMain() bool { return false }
