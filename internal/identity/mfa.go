package identity

func deviceARN(account, name string) string { return "arn:aws:iam::" + account + ":mfa/" + name }
