package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// sdkCallers are the numbers of callers that share one client of the AWS SDK.
func (o options) sdkCallers() []int { return o.keyConns() }

// sdk is a client of the AWS SDK for Go on one server, without retries.
func sdk(url string, k accessKey, callers int) (*kms.Client, *http.Transport) {
	t := &http.Transport{MaxIdleConnsPerHost: callers}
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(url), Region: region, Credentials: credentials.NewStaticCredentialsProvider(k.ID, k.Secret, ""),
		HTTPClient: &http.Client{Transport: t}, Retryer: aws.NopRetryer{},
	}), t
}

// measureSDK measures a server by the AWS SDK for Go, whose own work, signing first
// of all, shares the machine.
func measureSDK(ctx context.Context, o options, r *report, name, url string, k accessKey, key string) error {
	pairs := map[string]string{"tenant": "acme", "purpose": "branch-key"}
	plaintext := random(32)
	for _, callers := range o.sdkCallers() {
		c, transport := sdk(url, k, callers)
		sealed, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: plaintext, EncryptionContext: pairs})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, op := range []struct {
			name string
			call func() error
		}{
			{"Encrypt", func() error {
				_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: plaintext, EncryptionContext: pairs})
				return err
			}},
			{"Decrypt", func() error {
				_, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: pairs})
				return err
			}},
			{"GenerateDataKey", func() error {
				_, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, EncryptionContext: pairs})
				return err
			}},
		} {
			got, err := calls(callers, o.window(), op.call)
			if err != nil {
				return fmt.Errorf("%s %s: %w", name, op.name, err)
			}
			r.add(row{what: fmt.Sprintf("%s %s, AWS SDK, %s", name, op.name, connections(callers))}.with(got))
		}
		transport.CloseIdleConnections()
	}
	return nil
}

// calls has callers call for d.
func calls(callers int, d time.Duration, call func() error) (result, error) {
	var (
		wg   sync.WaitGroup
		took = make([][]time.Duration, callers)
		errs = make([]error, callers)
	)
	start := time.Now()
	for w := range callers {
		wg.Go(func() {
			for before := time.Now(); before.Sub(start) < d && errs[w] == nil; {
				errs[w] = call()
				now := time.Now()
				took[w] = append(took[w], now.Sub(before))
				before = now
			}
		})
	}
	wg.Wait()
	total := result{Elapsed: time.Since(start)}
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	total.Requests = len(all)
	total.rank(all)
	return total, errors.Join(errs...)
}

// measureLocalKMS measures github.com/nsmithuk/local-kms, if its binary is named, by
// the same clients. It neither verifies signatures nor evaluates policies nor
// records anything.
func measureLocalKMS(ctx context.Context, o options, r *report, dir string) error {
	if o.localKMS == "" {
		r.add(row{what: "local-kms", note: "not measured: no binary, see -local-kms"})
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	data := filepath.Join(dir, "local-kms")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.CommandContext(ctx, o.localKMS)
	cmd.Env = append(os.Environ(), "PORT="+port, "KMS_REGION="+region, "KMS_ACCOUNT_ID="+account, "KMS_DATA_PATH="+data)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			break
		}
		if time.Since(begin) > 10*time.Second {
			return errors.New("local-kms does not listen on port " + strconv.Quote(port))
		}
	}
	k := accessKey{"AKIAEXAMPLE", "secret"}
	c, _ := sdk("http://"+addr, k, 1)
	key, err := c.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		return fmt.Errorf("local-kms: %w", err)
	}
	return measureSDK(ctx, o, r, "local-kms", "http://"+addr, k, *key.KeyMetadata.KeyId)
}
