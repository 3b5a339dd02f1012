package awstest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Cloud is as much of S3, SQS and CloudTrail as sources of events use, at one
// address. A test may change its fields while no request is under way.
type Cloud struct {
	URL string

	mu       sync.Mutex // guards what follows
	Objects  map[string]string
	Meta     map[string]map[string]string
	Broken   map[string]bool // objects whose body breaks off
	Lists    []string        // what was listed after what
	messages []*sqsMessage
	Events   []string         // of LookupEvents, newest first
	Lookups  []map[string]any // what was asked of it
	Keys     string           // answer of ListPublicKeys
	Fail     int              // so many requests fail
}

type sqsMessage struct {
	id, body string
	received int
	hidden   bool
	deleted  bool
}

const (
	Bucket   = "logs" // the one bucket there is
	pageSize = 3
)

// NewCloud serves an empty one until the test ends.
func NewCloud(t *testing.T) *Cloud {
	t.Helper()
	c := &Cloud{Objects: map[string]string{}, Meta: map[string]map[string]string{}, Broken: map[string]bool{}}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.URL = s.URL
	return c
}

// Put puts an object into the bucket.
func (c *Cloud) Put(name, content string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Objects[name] = content
}

// ServeHTTP implements http.Handler.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Fail > 0 {
		c.Fail--
		http.Error(w, `<Error><Code>AccessDenied</Code></Error>`, http.StatusForbidden)
		return
	}
	switch target := r.Header.Get("X-Amz-Target"); {
	case strings.HasPrefix(target, "AmazonSQS."):
		c.queue(w, r, strings.TrimPrefix(target, "AmazonSQS."))
	case strings.HasSuffix(target, ".LookupEvents"):
		c.lookup(w, r)
	case strings.HasSuffix(target, ".ListPublicKeys"):
		io.WriteString(w, c.Keys)
	case r.URL.Query().Get("list-type") == "2":
		c.list(w, r)
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
			body = unchunked(body)
		}
		c.Objects[strings.TrimPrefix(r.URL.Path, "/"+Bucket+"/")] = string(body)
	default:
		name := strings.TrimPrefix(r.URL.Path, "/"+Bucket+"/")
		o, there := c.Objects[name]
		if !there {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
			return
		}
		for k, v := range c.Meta[name] {
			w.Header().Set("X-Amz-Meta-"+k, v)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(o)))
		if c.Broken[name] {
			o = o[:len(o)/2]
		}
		io.WriteString(w, o)
	}
}

// unchunked undoes the framing of signed uploads.
func unchunked(body []byte) (out []byte) {
	for {
		line, rest, _ := bytes.Cut(body, []byte("\r\n"))
		digits, _, _ := bytes.Cut(line, []byte(";"))
		size, err := strconv.ParseInt(string(digits), 16, 32)
		if err != nil || size == 0 || int(size)+2 > len(rest) {
			return out
		}
		out, body = append(out, rest[:size]...), rest[size+2:]
	}
}

// All are the objects whose names begin with a prefix, by name.
func (c *Cloud) All(prefix string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]string{}
	for name, content := range c.Objects {
		if strings.HasPrefix(name, prefix) {
			all[name] = content
		}
	}
	return all
}

type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listed
	CommonPrefixes        []struct{ Prefix string }
}

type listed struct {
	Key, ETag string
	Size      int
}

func (c *Cloud) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	prefix, delimiter, after := q.Get("prefix"), q.Get("delimiter"), q.Get("start-after")
	if delimiter == "" && q.Get("continuation-token") == "" {
		c.Lists = append(c.Lists, prefix+" "+after)
	}
	after = max(after, q.Get("continuation-token"))
	out := listing{}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Objects)) {
		if !strings.HasPrefix(name, prefix) || name <= after {
			continue
		}
		if i := strings.Index(name[len(prefix):], "/"); delimiter != "" && i >= 0 {
			if below := name[:len(prefix)+i+1]; !seen[below] {
				seen[below] = true
				out.CommonPrefixes = append(out.CommonPrefixes, struct{ Prefix string }{below})
			}
			continue
		}
		if len(out.Contents) == pageSize {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[pageSize-1].Key
			break
		}
		out.Contents = append(out.Contents, listed{Key: name, ETag: fmt.Sprintf("%q", strconv.Itoa(len(c.Objects[name]))), Size: len(c.Objects[name])})
	}
	if err := xml.NewEncoder(w).Encode(out); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// Send puts messages into the queue.
func (c *Cloud) Send(bodies ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range bodies {
		c.messages = append(c.messages, &sqsMessage{id: fmt.Sprint("m", len(c.messages)), body: b})
	}
}

// Timeout makes messages that were not deleted visible again.
func (c *Cloud) Timeout() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.messages {
		m.hidden = false
	}
}

// Left is how many messages were not deleted.
func (c *Cloud) Left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, m := range c.messages {
		if !m.deleted {
			n++
		}
	}
	return n
}

func (c *Cloud) queue(w http.ResponseWriter, r *http.Request, operation string) {
	var in struct{ ReceiptHandle string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := map[string]any{}
	var list []map[string]any
	for _, m := range c.messages {
		receipt := fmt.Sprint(m.id, "/", m.received)
		switch {
		case operation == "DeleteMessage" && strings.HasPrefix(in.ReceiptHandle, m.id+"/"):
			if !m.hidden || receipt != in.ReceiptHandle { // as queues of type FIFO say it
				w.WriteHeader(http.StatusBadRequest)
				out["__type"], out["message"] = "InvalidParameterValue", "Value "+in.ReceiptHandle+" for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
				continue
			}
			m.deleted = true
		case operation == "ReceiveMessage" && !m.hidden && !m.deleted && len(list) < 2:
			m.hidden = true
			m.received++
			list = append(list, map[string]any{
				"MessageId": m.id, "ReceiptHandle": fmt.Sprint(m.id, "/", m.received), "Body": m.body, "Attributes": map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.received)},
			})
		}
	}
	if list != nil {
		out["Messages"] = list
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (c *Cloud) lookup(w http.ResponseWriter, r *http.Request) {
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.Lookups = append(c.Lookups, in)
	from := 0
	if token, ok := in["NextToken"].(string); ok {
		from, _ = strconv.Atoi(token)
	}
	list := []map[string]any{}
	for _, e := range c.Events[from:min(from+pageSize, len(c.Events))] {
		list = append(list, map[string]any{"CloudTrailEvent": e, "EventTime": 1.7e9})
	}
	out := map[string]any{"Events": list}
	if from+pageSize < len(c.Events) {
		out["NextToken"] = strconv.Itoa(from + pageSize)
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
