package identity

// memberName names the row of a membership. Names hold no slash.
func memberName(group, user string) string { return fold(group) + "/" + fold(user) }
