// Package awstest gives tests an AWS: moto and local-kms, which we did not write,
// where they are installed; as much of S3, SQS and CloudTrail as is read from, in
// this process; and trails with digests that are signed.
//
// It promises that nothing of it is left when the test ends.
package awstest

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Moto runs moto's server until the test ends and gives its URL. The test is skipped
// where it is not installed or does not run.
func Moto(t *testing.T) (url string) {
	t.Helper()
	path, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto_server is not here: pip install 'moto[server]'")
	}
	return serve(t, "/moto-api/", func(port string) *exec.Cmd {
		return exec.CommandContext(t.Context(), path, "-H", "127.0.0.1", "-p", port)
	})
}

// LocalKMS runs local-kms until the test ends and gives its URL. Its keys are of the
// account and Region given. The test is skipped where it is not installed or does not
// run.
//
// Source: github.com/nsmithuk/local-kms.
func LocalKMS(t *testing.T, account, region string) (url string) {
	t.Helper()
	path, err := exec.LookPath("local-kms")
	if err != nil {
		t.Skip("local-kms is not here: see github.com/nsmithuk/local-kms")
	}
	return serve(t, "/", func(port string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), path)
		cmd.Env = append(os.Environ(), "PORT="+port, "KMS_ACCOUNT_ID="+account, "KMS_REGION="+region, "KMS_DATA_PATH="+t.TempDir())
		return cmd
	})
}

// serve runs a server that others wrote until the test ends. It serves when it answers
// a GET of ready with anything but an error of its own.
func serve(t *testing.T, ready string, command func(port string) *exec.Cmd) (url string) {
	t.Helper()
	var log bytes.Buffer
	at := port(t)
	cmd := command(at)
	name := filepath.Base(cmd.Path)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Skipf("%s does not start: %v", name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Logf("%s has ended by itself: %v", name, err)
		}
		<-ended
	})
	url = "http://127.0.0.1:" + at
	transport := &http.Transport{} // of its own, so that no connection stays open
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); ; {
		res, err := client.Get(url + ready)
		if err == nil {
			res.Body.Close()
			if res.StatusCode < http.StatusInternalServerError {
				return url
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("%s does not run here: %v\n%s", name, err, log.String())
		case <-end:
			t.Fatalf("%s did not start within a minute:\n%s", name, log.String())
		case <-tick.C:
		}
	}
}
