package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/rogpeppe/go-internal/testscript"
)

// noAWS is a shell's function in place of AWS's command line where that is not
// installed: it does nothing and says so.
const noAWS = `aws() { echo "not run, AWS's command line is not installed: aws $*" >&2; }` + "\n"

// hasAWS says whether AWS's command line is installed.
func hasAWS() bool {
	_, err := exec.LookPath("aws")
	return err == nil
}

// credentialsFile reads the default profile of a file as AWS's tools write it.
func credentialsFile(text string) (creds aws.Credentials, region string) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "aws_access_key_id":
			creds.AccessKeyID = value
		case "aws_secret_access_key":
			creds.SecretAccessKey = value
		case "aws_session_token":
			creds.SessionToken = value
		case "region":
			region = value
		}
	}
	return creds, region
}

// awskms STATUS NAME CREDENTIALS OPERATION [JSON]: calls an operation of KMS on the
// server, signed by AWS's own signer; the answer, which must have the status, is in
// stdout.
func cmdAWSKMS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 || len(args) > 5 {
		ts.Fatalf("usage: awskms STATUS NAME CREDENTIALS OPERATION [JSON]")
	}
	body := "{}"
	if len(args) == 5 {
		body = args[4]
	}
	status, answer, err := awsKMS(named(ts, args[1]).keys, ts.ReadFile(args[2]), args[3], body)
	ts.Check(err)
	ts.Stdout().Write(answer)
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("status %d: %s", status, answer)
	}
}

// guess N NAME CREDENTIALS: asks the server N times with credentials that are wrong.
func cmdGuess(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: guess N NAME CREDENTIALS")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	for range n {
		status, answer, err := awsKMS(named(ts, args[1]).keys, ts.ReadFile(args[2]), "ListKeys", "{}")
		ts.Check(err)
		if status != http.StatusBadRequest {
			ts.Fatalf("status %d: %s", status, answer)
		}
	}
}

func awsKMS(url, credentials, operation, body string) (status int, answer []byte, err error) {
	creds, region := credentialsFile(credentials)
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "TrentService."+operation)
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, req, hex.EncodeToString(sum[:]), "kms", region, time.Now()); err != nil {
		return 0, nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// member NAME PATH: sets an environment variable to a member of the JSON in stdout,
// such as KeyMetadata.KeyId or items.0.id.
func cmdMember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: member NAME PATH")
	}
	value, err := member(ts.ReadFile("stdout"), args[1])
	ts.Check(err)
	ts.Setenv(args[0], value)
}

func member(text, path string) (string, error) {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(x) {
				return "", fmt.Errorf("no element %s", name)
			}
			v = x[i]
		default:
			return "", fmt.Errorf("no member %s of %s in %s", name, path, text)
		}
	}
	s, ok := v.(string)
	if !ok {
		return "", errors.New(path + " is no text")
	}
	return s, nil
}
