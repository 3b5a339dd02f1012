package collect_test

import (
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
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"cardea/internal/collect"
)

// cloud is as much of S3, SQS and CloudTrail as the sources use.
type cloud struct {
	url string

	mu       sync.Mutex // guards what follows
	objects  map[string]string
	meta     map[string]map[string]string
	broken   map[string]bool // objects whose body breaks off
	lists    []string        // what was listed after what
	messages []*sqsMessage
	events   []string // of LookupEvents, newest first
	lookups  []map[string]any
	keys     string // answer of ListPublicKeys
	fail     int    // so many requests fail
}

type sqsMessage struct {
	id, body string
	received int
	hidden   bool
	deleted  bool
}

const (
	bucketName = "logs"
	pageSize   = 3
)

func newCloud(t *testing.T) *cloud {
	c := &cloud{objects: map[string]string{}, meta: map[string]map[string]string{}, broken: map[string]bool{}}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *cloud) aws() collect.AWS { return awsAt(c.url) }

func awsAt(url string) collect.AWS {
	return collect.AWS{Region: "eu-central-1", Endpoint: url, Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "example", "")}
}

func (c *cloud) put(name, content string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[name] = content
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail > 0 {
		c.fail--
		http.Error(w, `<Error><Code>AccessDenied</Code></Error>`, http.StatusForbidden)
		return
	}
	switch target := r.Header.Get("X-Amz-Target"); {
	case strings.HasPrefix(target, "AmazonSQS."):
		c.queue(w, r, strings.TrimPrefix(target, "AmazonSQS."))
	case strings.HasSuffix(target, ".LookupEvents"):
		c.lookup(w, r)
	case strings.HasSuffix(target, ".ListPublicKeys"):
		io.WriteString(w, c.keys)
	case r.URL.Query().Get("list-type") == "2":
		c.list(w, r)
	default:
		name := strings.TrimPrefix(r.URL.Path, "/"+bucketName+"/")
		o, there := c.objects[name]
		if !there {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
			return
		}
		for k, v := range c.meta[name] {
			w.Header().Set("X-Amz-Meta-"+k, v)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(o)))
		if c.broken[name] {
			o = o[:len(o)/2]
		}
		io.WriteString(w, o)
	}
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

func (c *cloud) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	prefix, delimiter, after := q.Get("prefix"), q.Get("delimiter"), q.Get("start-after")
	if delimiter == "" && q.Get("continuation-token") == "" {
		c.lists = append(c.lists, prefix+" "+after)
	}
	after = max(after, q.Get("continuation-token"))
	out := listing{}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.objects)) {
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
		out.Contents = append(out.Contents, listed{Key: name, ETag: fmt.Sprintf("%q", strconv.Itoa(len(c.objects[name]))), Size: len(c.objects[name])})
	}
	if err := xml.NewEncoder(w).Encode(out); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (c *cloud) send(bodies ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range bodies {
		c.messages = append(c.messages, &sqsMessage{id: fmt.Sprint("m", len(c.messages)), body: b})
	}
}

// timeout makes messages that were not deleted visible again.
func (c *cloud) timeout() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.messages {
		m.hidden = false
	}
}

func (c *cloud) left() int {
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

func (c *cloud) queue(w http.ResponseWriter, r *http.Request, operation string) {
	var in struct{ ReceiptHandle string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := map[string]any{}
	var list []map[string]any
	for _, m := range c.messages {
		switch {
		case operation == "DeleteMessage" && m.id == in.ReceiptHandle:
			m.deleted = true
		case operation == "ReceiveMessage" && !m.hidden && !m.deleted && len(list) < 2:
			m.hidden = true
			m.received++
			list = append(list, map[string]any{
				"MessageId": m.id, "ReceiptHandle": m.id, "Body": m.body, "Attributes": map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.received)},
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

func (c *cloud) lookup(w http.ResponseWriter, r *http.Request) {
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.lookups = append(c.lookups, in)
	from := 0
	if token, ok := in["NextToken"].(string); ok {
		from, _ = strconv.Atoi(token)
	}
	list := []map[string]any{}
	for _, e := range c.events[from:min(from+pageSize, len(c.events))] {
		list = append(list, map[string]any{"CloudTrailEvent": e, "EventTime": 1.7e9})
	}
	out := map[string]any{"Events": list}
	if from+pageSize < len(c.events) {
		out["NextToken"] = strconv.Itoa(from + pageSize)
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// trailName is the name of a log file of a minute.
func trailName(region string, at time.Time, n int) string {
	at = at.UTC()
	return fmt.Sprintf("AWSLogs/111122223333/CloudTrail/%s/%s/111122223333_CloudTrail_%s_%s_%016d.json.gz", region, at.Format("2006/01/02"), region, at.Format("20060102T1504Z"), n)
}
