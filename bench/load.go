package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// result is what one run of load found.
type result struct {
	Requests int
	Failed   int // answers that were not 200
	Elapsed  time.Duration
	P50, P99 time.Duration
	CPU      time.Duration // of the server, a request

	latencies []time.Duration // sorted
}

func (r result) rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// load sends requests over conns keep-alive connections for d and waits for each
// answer before the next request. It writes raw HTTP/1.1, because a net/http
// client on the same cores would cost more than the server under test. next is
// called with the worker's number and the request's number in that worker; it
// returns a whole request and may reuse buf.
func load(addr string, conns int, d time.Duration, next func(buf []byte, worker, i int) []byte) (result, error) {
	var (
		wg        sync.WaitGroup
		mu        sync.Mutex
		total     result
		latencies []time.Duration
		failure   error
	)
	start := time.Now()
	end := start.Add(d)
	for w := range conns {
		wg.Go(func() {
			n, bad, lat, err := worker(addr, w, end, next)
			mu.Lock()
			defer mu.Unlock()
			total.Requests += n
			total.Failed += bad
			latencies = append(latencies, lat...)
			failure = errors.Join(failure, err)
		})
	}
	wg.Wait()
	total.Elapsed = time.Since(start)
	total.rank(latencies)
	return total, failure
}

// rank takes the latencies and finds those that are told.
func (r *result) rank(latencies []time.Duration) {
	slices.Sort(latencies)
	if n := len(latencies); n > 0 {
		r.P50, r.P99 = latencies[n/2], latencies[n*99/100]
	}
	r.latencies = latencies
}

// plus is two runs taken together.
func (r result) plus(more result) result {
	n := r.Requests + more.Requests
	sum := result{Requests: n, Failed: r.Failed + more.Failed, Elapsed: r.Elapsed + more.Elapsed}
	sum.CPU = (r.CPU*time.Duration(r.Requests) + more.CPU*time.Duration(more.Requests)) / time.Duration(max(n, 1))
	sum.rank(append(r.latencies, more.latencies...))
	return sum
}

func worker(addr string, w int, end time.Time, next func([]byte, int, int) []byte) (n, bad int, lat []time.Duration, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, 0, nil, err
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 16<<10)
	buf := make([]byte, 0, 4<<10)
	lat = make([]time.Duration, 0, 1<<16)
	for i := 0; ; i++ {
		before := time.Now()
		if before.After(end) {
			return n, bad, lat, nil
		}
		buf = next(buf[:0], w, i)
		if _, err := conn.Write(buf); err != nil {
			return n, bad, lat, fmt.Errorf("send: %w", err)
		}
		status, err := readAnswer(r)
		if err != nil {
			return n, bad, lat, fmt.Errorf("receive: %w", err)
		}
		n++
		if status != 200 {
			bad++
		}
		lat = append(lat, time.Since(before))
	}
}

var contentLength = []byte("content-length:")

// readAnswer reads one answer with a Content-Length and drops its body.
func readAnswer(r *bufio.Reader) (status int, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length := 0
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return 0, err
			}
		}
	}
	_, err = io.CopyN(io.Discard, r, int64(length))
	return status, err
}

// post appends a JSON request to buf.
func post(buf []byte, path string, body []byte) []byte {
	buf = append(buf, "POST "...)
	buf = append(buf, path...)
	buf = append(buf, " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nx-tenant-id: "...)
	buf = append(buf, tenant...)
	buf = append(buf, "\r\nContent-Length: "...)
	buf = strconv.AppendInt(buf, int64(len(body)), 10)
	buf = append(buf, "\r\n\r\n"...)
	return append(buf, body...)
}

// conn is one connection of a loader that looks at its answers.
type conn struct {
	net.Conn
	r   *bufio.Reader
	buf []byte
}

// do posts a body and returns the answer's, which must be a 200.
func (c *conn) do(path string, body []byte) ([]byte, error) {
	c.buf = post(c.buf[:0], path, body)
	return c.send(c.buf)
}

// send sends a whole request and returns the body of its answer, which must be a
// 200.
func (c *conn) send(request []byte) ([]byte, error) {
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", res.StatusCode, answer)
	}
	return answer, err
}

// parallel runs f on conns connections of its own to addr.
func parallel(addr string, conns int, f func(w int, c *conn) error) error {
	var wg sync.WaitGroup
	errs := make([]error, conns)
	for w := range conns {
		wg.Go(func() {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				errs[w] = err
				return
			}
			defer nc.Close()
			errs[w] = f(w, &conn{Conn: nc, r: bufio.NewReader(nc)})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
