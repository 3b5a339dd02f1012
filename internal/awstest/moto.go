// Package awstest gives tests an AWS: moto, which we did not write, where it is
// installed; as much of S3, SQS and CloudTrail as is read from, in this process; and
// trails with digests that are signed.
//
// It promises that nothing of it is left when the test ends.
package awstest

import (
	"bytes"
	"net"
	"net/http"
	"os/exec"
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Skipf("moto_server does not start: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Logf("moto_server has ended by itself: %v", err)
		}
		<-ended
	})
	url = "http://127.0.0.1:" + port
	transport := &http.Transport{} // of its own, so that no connection stays open
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); ; {
		res, err := client.Get(url + "/moto-api/")
		if err == nil {
			res.Body.Close() //nolint:errcheck // only its status is wanted
			if res.StatusCode == http.StatusOK {
				return url
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("moto_server does not run here: %v\n%s", err, log.String())
		case <-end:
			t.Fatalf("moto_server did not start within a minute:\n%s", log.String())
		case <-tick.C:
		}
	}
}
