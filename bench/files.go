package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// filesOptions are those of the benchmark of file encryption.
type filesOptions struct {
	alone  bool
	mib    int
	rounds int
	large  bool
}

func (o *filesOptions) flags() {
	flag.BoolVar(&o.alone, "files", false, "measure file encryption alone")
	flag.IntVar(&o.mib, "files-mib", 1024, "size of the file, in MiB")
	flag.IntVar(&o.rounds, "files-rounds", 5, "how often each command runs")
	flag.BoolVar(&o.large, "files-large", false, "encrypt and decrypt 10 GiB as well, for peak memory: of a sparse file, through a pipe")
}

const (
	mib = 1 << 20

	frameLength = 64 << 10 // what cardea encrypt writes
)

// boundGCM is AES-256-GCM of frames in memory on one core, in MiB a second.
func boundGCM(d time.Duration) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	block, err := aes.NewCipher(random(32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	buf, nonce, aad := random(frameLength+16), make([]byte, 12), make([]byte, 80)
	return perCore(d, func() { aead.Seal(buf[:0], nonce, buf[:frameLength], aad) })
}

// boundSHA384 is what a signature is made over, which no second core can help with.
func boundSHA384(d time.Duration) float64 {
	buf := random(frameLength)
	return perCore(d, func() { sha512.Sum384(buf) })
}

func perCore(d time.Duration, work func()) float64 {
	n, start := 0, time.Now()
	for time.Since(start) < d {
		work()
		n++
	}
	return float64(n) * frameLength / mib / time.Since(start).Seconds()
}

// measureFiles measures cardea encrypt and decrypt as processes, their start and
// their calls of the key service included, each run beside the bound that is measured
// right before it.
func measureFiles(ctx context.Context, o options, r *report, exe, dir string) (err error) {
	if o.quick {
		o.files.mib, o.files.rounds = min(o.files.mib, 64), 1
	}
	env, stop, err := startFileKeys(ctx, exe, filepath.Join(dir, "files-keys"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	plain, sealed, out := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed"), filepath.Join(dir, "out")
	f, err := os.Create(plain)
	if err != nil {
		return err
	}
	for chunk := random(mib); o.files.mib > 0; o.files.mib-- {
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
	size, err := f.Seek(0, 1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := writeRow(r, out, size, o.files.rounds); err != nil {
		return err
	}
	encrypt := []string{"encrypt", "--key-id", "alias/bench", "--context", "tenant=bench"}
	decrypt := []string{"decrypt", "--key-id", "alias/bench", "--context", "tenant=bench", "--release-before-signature"}
	with := func(args []string, more ...string) []string { return append(slices.Clone(args), more...) }
	for _, c := range []struct {
		what  string
		args  []string
		out   string
		bound func(time.Duration) float64
	}{
		{"encrypt, written nowhere", with(encrypt, "--in", plain), os.DevNull, boundGCM},
		{"encrypt to a file", with(encrypt, "--in", plain), sealed, boundGCM},
		{"encrypt to a file, on disk", with(encrypt, "--in", plain, "--sync"), out, boundGCM},
		{"decrypt, written nowhere", with(decrypt, "--in", sealed), os.DevNull, boundGCM},
		{"decrypt to a file", with(decrypt, "--in", sealed), out, boundGCM},
		{"rewrap, written nowhere", []string{"rewrap", "--from-key-id", "alias/bench", "--key-id", "alias/bench", "--in", sealed}, os.DevNull, boundGCM},
		{"encrypt --sign, written nowhere", with(encrypt, "--sign", "--in", plain), os.DevNull, boundSHA384},
	} {
		if err := fileRow(ctx, r, exe, env, c.what, c.args, c.out, size, o.files.rounds, c.bound); err != nil {
			return err
		}
	}
	if !o.files.large {
		return nil
	}
	for _, name := range []string{plain, sealed, out} {
		if err := removeFile(name); err != nil {
			return err
		}
	}
	const large = 10 << 30
	if err := errors.Join(os.WriteFile(plain, nil, 0o600), os.Truncate(plain, large)); err != nil {
		return err
	}
	if err := fileRow(ctx, r, exe, env, "encrypt 10 GiB, written nowhere", with(encrypt, "--in", plain), os.DevNull, large, 1, boundGCM); err != nil {
		return err
	}
	source := exec.CommandContext(ctx, exe, with(encrypt, "--in", plain)...)
	source.Env = env
	pipe, err := source.StdoutPipe()
	if err != nil {
		return err
	}
	if err := source.Start(); err != nil {
		return err
	}
	f2, err := runFile(ctx, exe, env, pipe, with(decrypt, "--out", os.DevNull))
	if err := errors.Join(err, source.Wait()); err != nil {
		return err
	}
	r.add(row{what: "files: encrypt 10 GiB into decrypt, MiB", rate: large / mib / f2.took.Seconds(), note: fmt.Sprintf("peak %d MiB of the one that decrypts", f2.peak/mib)})
	return nil
}

// fileRow runs a command some times. Rate and bound are those of the best run: what
// else happens on the machine only takes away. The note has the median of the ratios,
// and the processor time, of which two cores have twice as much as passes.
func fileRow(ctx context.Context, r *report, exe string, env []string, what string, args []string, out string, size int64, rounds int, bound func(time.Duration) float64) error {
	x := row{what: "files: " + what + ", MiB"}
	var ratios, cpu []float64
	var peak int64
	for range rounds {
		if err := removeFile(out); err != nil {
			return err
		}
		most := bound(300 * time.Millisecond)
		f, err := runFile(ctx, exe, env, nil, append(slices.Clone(args), "--out", out))
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		rate := float64(size) / mib / f.took.Seconds()
		ratios, cpu = append(ratios, rate/most), append(cpu, f.cpu.Seconds()/float64(size)*(1<<30))
		x.rate, x.bound, peak = max(x.rate, rate), max(x.bound, most), max(peak, f.peak)
	}
	slices.Sort(ratios)
	x.note = fmt.Sprintf("median %.0f %%, %.2f s CPU a GiB (bound %.2f), peak %d MiB", 100*ratios[len(ratios)/2], slices.Min(cpu), 1024/x.bound, peak/mib)
	r.add(x)
	return nil
}

// writeRow measures what the file system takes from one process that does nothing
// else: an encrypted file cannot be there sooner.
func writeRow(r *report, name string, size int64, rounds int) error {
	x := row{what: "files: a file written, nothing else, MiB"}
	buf := random(256 << 10)
	for range rounds {
		if err := removeFile(name); err != nil {
			return err
		}
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		start := time.Now()
		for n := int64(0); n < size && err == nil; n += int64(len(buf)) {
			_, err = f.Write(buf)
		}
		took := time.Since(start)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		x.rate = max(x.rate, float64(size)/mib/took.Seconds())
	}
	r.add(x)
	return removeFile(name)
}

// removeFile removes a file if it is one: never a device, which root could remove too.
func removeFile(name string) error {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil || !info.Mode().IsRegular():
		return err
	}
	return os.Remove(name)
}

// fileRun is a run of a command. Its peak memory is the high-water mark of its own
// address space: what wait4 tells begins at that of the process that started it.
type fileRun struct {
	took, cpu time.Duration
	peak      int64 // bytes
}

func runFile(ctx context.Context, exe string, env []string, in io.Reader, args []string) (f fileRun, err error) {
	cmd := exec.CommandContext(ctx, exe, args...)
	var problem bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stderr = env, in, &problem
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return f, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return f, fmt.Errorf("%w: %s", err, problem.String())
			}
			f.took, f.cpu = time.Since(start), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
			return f, nil
		case <-tick.C:
			f.peak = max(f.peak, highWater(cmd.Process.Pid))
		}
	}
}

// highWater is the peak of resident memory of a process in bytes (Linux; 0 elsewhere).
func highWater(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); name == "VmHWM" {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// startFileKeys runs 'cardea dev' and makes a key in it. It returns the environment of
// a command that uses it.
func startFileKeys(ctx context.Context, exe, dir string) (env []string, stop func() error, err error) {
	cmd := exec.CommandContext(ctx, exe, "dev", "--data-dir", dir, "--listen", "127.0.0.1:0", "--keys", "127.0.0.1:0", "--ops", "127.0.0.1:0")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() error { return errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()) }
	url := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			if f := strings.Fields(lines.Text()); len(f) > 2 && f[0] == "key" && f[1] == "service" {
				url <- f[2]
			}
		}
		close(url)
	}()
	address, ok := <-url
	if !ok {
		return nil, nil, errors.Join(errors.New("cardea dev did not start"), stop())
	}
	credentials := filepath.Join(dir, "INSECURE-dev-credentials")
	env = append(os.Environ(), "AWS_SHARED_CREDENTIALS_FILE="+credentials, "AWS_CONFIG_FILE="+os.DevNull, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=",
		"AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_KMS="+address, "AWS_EC2_METADATA_DISABLED=true", "NO_PROXY=127.0.0.1")
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), config.WithSharedCredentialsFiles([]string{credentials}))
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	client := kms.NewFromConfig(cfg, func(o *kms.Options) { o.BaseEndpoint = &address })
	key, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
	if err == nil {
		_, err = client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/bench"), TargetKeyId: key.KeyMetadata.Arn})
	}
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return env, stop, nil
}
