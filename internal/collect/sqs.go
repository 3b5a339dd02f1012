package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"cardea/internal/cloudtrail"
)

// QueueOptions say which queue tells of new objects. State is not needed: the
// queue is the cursor.
type QueueOptions struct {
	Options
	AWS     AWS
	URL     string   // of the queue
	Buckets []string // that may be read: whoever can write to the queue must not choose. Required
	// Wait is how long a receive waits for messages, default 20 s, at most that.
	Wait time.Duration
	// Visibility is how long a message is kept from others until it must be
	// acknowledged, default 10 min.
	Visibility time.Duration
}

// Queue is a source of the objects that messages in an SQS queue name: S3's event
// notifications, plain, through SNS or through EventBridge, and CloudTrail's own.
// A message is deleted once the events of all its objects are acknowledged. One
// that cannot be read stays in the queue, for its redrive policy, and is a finding
// once it came five times.
type Queue struct {
	health
	o    QueueOptions
	sqs  *sqs.Client
	s3   *s3.Client
	read *cloudtrail.Reader

	queue []types.Message
	cur   *message
	bad   map[string]Finding // by message id

	mu      sync.Mutex // guards what follows
	deletes []deletion
	number  int
}

// message is one in the middle of being read.
type message struct {
	types.Message
	objects  []objectRef
	body     io.ReadCloser
	problems int
}

type deletion struct {
	number  int
	receipt *string
}

type objectRef struct{ bucket, key string }

// OpenQueue opens a queue as a source. It does not reach for it yet.
func OpenQueue(ctx context.Context, o QueueOptions) (*Queue, error) {
	if o.URL == "" || len(o.Buckets) == 0 {
		return nil, errors.New("a queue needs its URL and the buckets that it may name")
	}
	if o.Names == nil {
		o.Names = cloudtrail.NewNames()
	}
	if o.Batch <= 0 {
		o.Batch = DefaultBatch
	}
	o.Wait = min(cmp.Or(max(o.Wait, 0), 20*time.Second), 20*time.Second)
	o.Visibility = cmp.Or(max(o.Visibility, 0), 10*time.Minute)
	q := &Queue{
		health: health{now: o.Now, s: Status{Source: o.URL}}, o: o, bad: map[string]Finding{},
		read: cloudtrail.NewReader(nil, cloudtrail.Options{Names: o.Names}),
	}
	var err error
	if q.sqs, err = o.AWS.sqs(ctx); err != nil {
		return nil, err
	}
	q.s3, err = o.AWS.s3(ctx)
	return q, err
}

// Next implements Source.
func (q *Queue) Next(ctx context.Context) (Batch, error) {
	b := Batch{}
	names, touched := 0, false
	var finished []*string
	for len(b.Events) < q.o.Batch {
		if q.cur == nil {
			if len(q.queue) == 0 && touched {
				break
			}
			if err := q.receive(ctx); err != nil {
				q.looked(err)
				return Batch{}, err
			}
			touched = true
			continue
		}
		touched = true
		if q.cur.body == nil && len(q.cur.objects) == 0 {
			finished = append(finished, q.cur.ReceiptHandle)
			q.forgive(q.cur.Message)
			q.cur = nil
			continue
		}
		name := q.cur.objects[0]
		if q.cur.body == nil {
			if names++; names == 1 {
				b.From = "s3://" + name.bucket + "/" + name.key
			}
			body, err := getObject(ctx, q.s3, name.bucket, name.key)
			if err != nil {
				q.blame(q.cur.Message, err)
				q.cur = nil
				continue
			}
			q.cur.body, q.cur.problems = body, 0
			q.read.Reset(body)
		}
		q.some(&b, name)
	}
	if names > 1 {
		b.From += " and " + strconv.Itoa(names-1) + " more"
	}
	q.looked(nil)
	q.gave(&b)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.number++
	number := q.number
	for _, receipt := range finished {
		q.deletes = append(q.deletes, deletion{number, receipt})
	}
	b.ack = func(ctx context.Context) error { return q.acked(ctx, number) }
	return b, nil
}

// receive makes the next message the current one.
func (q *Queue) receive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(q.queue) == 0 {
		out, err := q.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &q.o.URL, MaxNumberOfMessages: 10, WaitTimeSeconds: int32(q.o.Wait / time.Second), VisibilityTimeout: int32(q.o.Visibility / time.Second),
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameApproximateReceiveCount},
		})
		if err != nil {
			return fmt.Errorf("receive from %s: %w", q.o.URL, err)
		}
		if q.queue = out.Messages; len(q.queue) == 0 {
			return io.EOF
		}
	}
	m := q.queue[0]
	q.queue = q.queue[1:]
	q.set(func(s *Status) { s.Backlog = len(q.queue) })
	objects, err := objectsOf(aws.ToString(m.Body), 0)
	for _, o := range objects {
		if !slices.Contains(q.o.Buckets, o.bucket) {
			err = errors.Join(err, fmt.Errorf("names the bucket %q, which is not among those to read", o.bucket))
		}
	}
	if err != nil {
		q.blame(m, err)
		return nil
	}
	q.cur = &message{Message: m, objects: objects}
	return nil
}

// some reads events of the current object into the batch.
func (q *Queue) some(b *Batch, name objectRef) {
	var err error
	for len(b.Events) < q.o.Batch {
		var e cloudtrail.Event
		if err = q.read.Read(&e); err != nil {
			break
		}
		b.Events = append(b.Events, e)
	}
	stats := q.read.Stats()
	for _, p := range stats.Problems[q.cur.problems:] {
		b.Problems = append(b.Problems, Problem{From: "s3://" + name.bucket + "/" + name.key, Problem: p})
	}
	q.cur.problems = len(stats.Problems)
	if err == nil {
		return // the batch is full
	}
	closed := q.cur.body.Close()
	q.cur.body = nil
	if err = cmp.Or(notEOF(err), closed); err != nil {
		q.blame(q.cur.Message, fmt.Errorf("s3://%s/%s: %w", name.bucket, name.key, err))
		q.cur = nil
		return
	}
	q.cur.objects = q.cur.objects[1:]
}

// blame notes that a message could not be read. It comes again by itself.
func (q *Queue) blame(m types.Message, err error) {
	id := aws.ToString(m.MessageId)
	count, convErr := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	if convErr != nil {
		count = maxTries
	}
	f, there := q.bad[id]
	if !there {
		f = Finding{Name: "message " + id, Since: q.now().UTC()}
	}
	f.Error = err.Error()
	if len(q.bad) < maxFailed && count >= maxTries {
		q.bad[id] = f
	}
	q.findings()
}

func (q *Queue) forgive(m types.Message) {
	delete(q.bad, aws.ToString(m.MessageId))
	q.findings()
}

func (q *Queue) findings() {
	var list []Finding
	for _, f := range q.bad {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Finding) int { return cmp.Compare(a.Name, b.Name) })
	q.set(func(s *Status) { s.Findings = list })
}

// receiptOver reports whether a receipt is none any more: acknowledging took longer than
// the message was kept from others. It is in the queue again, comes again, and is
// deleted by the receipt that it has then.
func receiptOver(err error) bool {
	if _, ok := errors.AsType[*types.ReceiptHandleIsInvalid](err); ok {
		return true
	}
	var answer interface {
		ErrorCode() string
		ErrorMessage() string
	}
	return errors.As(err, &answer) && answer.ErrorCode() == "InvalidParameterValue" && strings.Contains(answer.ErrorMessage(), "ReceiptHandle")
}

// acked deletes the messages of the batches up to a number.
func (q *Queue) acked(ctx context.Context, number int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.deletes) > 0 && q.deletes[0].number <= number {
		if _, err := q.sqs.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &q.o.URL, ReceiptHandle: q.deletes[0].receipt}); err != nil && !receiptOver(err) {
			return fmt.Errorf("delete from %s: %w", q.o.URL, err)
		}
		q.deletes = q.deletes[1:]
	}
	return nil
}

// Close closes what is open.
func (q *Queue) Close() error {
	if q.cur == nil || q.cur.body == nil {
		return nil
	}
	return q.cur.body.Close()
}

// notice is a message that tells of objects, in any of its forms.
type notice struct {
	// SNS
	Type    string `json:"Type"`
	Message string `json:"Message"`
	// S3 event notifications
	Event   string `json:"Event"` // "s3:TestEvent"
	Records []struct {
		Source string `json:"eventSource"`
		Name   string `json:"eventName"`
		S3     struct {
			Bucket struct {
				Name string `json:"name"`
			} `json:"bucket"`
			Object struct {
				Key string `json:"key"`
			} `json:"object"`
		} `json:"s3"`
	} `json:"Records"`
	// EventBridge
	DetailType string `json:"detail-type"`
	Detail     struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key string `json:"key"`
		} `json:"object"`
	} `json:"detail"`
	// CloudTrail
	Bucket string   `json:"s3Bucket"`
	Keys   []string `json:"s3ObjectKey"`
}

var errNotice = errors.New("does not tell of objects as S3, SNS, EventBridge or CloudTrail do")

// objectsOf gives the objects that a message tells of. Digests, and objects that
// were removed, are nothing to read.
func objectsOf(body string, wrapped int) ([]objectRef, error) {
	var n notice
	if err := json.Unmarshal([]byte(body), &n); err != nil {
		return nil, errNotice
	}
	var list []objectRef
	add := func(bucket, key string) {
		if !strings.Contains(key, "/CloudTrail-Digest/") && !strings.Contains(key, "/CloudTrail-Insight/") {
			list = append(list, objectRef{bucket, key})
		}
	}
	switch {
	case n.Type == "Notification" && wrapped == 0:
		return objectsOf(n.Message, 1)
	case n.Event == "s3:TestEvent":
	case n.Records != nil:
		for _, r := range n.Records {
			key, err := url.QueryUnescape(r.S3.Object.Key)
			if err != nil || r.S3.Bucket.Name == "" || key == "" {
				return nil, errNotice
			}
			if strings.HasPrefix(r.Name, "ObjectCreated") {
				add(r.S3.Bucket.Name, key)
			}
		}
	case n.Detail.Bucket.Name != "" && n.Detail.Object.Key != "":
		if n.DetailType == "Object Created" {
			add(n.Detail.Bucket.Name, n.Detail.Object.Key)
		}
	case n.Bucket != "" && n.Keys != nil:
		for _, key := range n.Keys {
			add(n.Bucket, key)
		}
	default:
		return nil, errNotice
	}
	return list, nil
}
