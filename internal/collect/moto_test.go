package collect_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"cardea/internal/awstest"
	"cardea/internal/collect"
	"cardea/internal/sdkhttp"
)

func TestAgainstMoto(t *testing.T) {
	t.Parallel()
	url := awstest.Moto(t)
	who := credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "example", "")
	store := s3.New(s3.Options{BaseEndpoint: &url, Region: "eu-central-1", UsePathStyle: true, HTTPClient: sdkhttp.New(nil), Credentials: who})
	_, err := store.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucketName), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-central-1"}})
	ok(t, err)
	put := func(name, content string) {
		_, err := store.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String(bucketName), Key: &name, Body: strings.NewReader(content), ContentType: aws.String("application/json"), ContentEncoding: aws.String("gzip"),
			Metadata: map[string]string{"signature": "abcd"},
		})
		ok(t, err)
	}
	for i := range 5 {
		put(trailName("eu-central-1", start.Add(time.Duration(i)*time.Hour), i), gz(logFile(5*i, 5*i+5)))
	}
	p := newBucketPlace(t, awsAt(url))
	p.begin(t)
	equal(t, p.all(t), wantIDs(0, 25), "bucket")
	late := trailName("eu-central-1", start.Add(-time.Hour), 9)
	put(late, gz(logFile(25, 30)))
	p.begin(t)
	equal(t, p.all(t), wantIDs(25, 30), "bucket, later")

	objects, err := collect.Objects(t.Context(), awsAt(url), bucketName)
	ok(t, err)
	o, err := objects.Open(t.Context(), late)
	ok(t, err)
	ok(t, o.Body.Close())
	if o.Meta["signature"] != "abcd" {
		t.Errorf("metadata %v", o.Meta)
	}

	queues := sqs.New(sqs.Options{BaseEndpoint: &url, Region: "eu-central-1", HTTPClient: sdkhttp.New(nil), Credentials: who})
	made, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("notices")})
	ok(t, err)
	send := func(body string) {
		_, err := queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: &body})
		ok(t, err)
	}
	send(notice(late))
	send(`{"Type":"Notification","Message":` + quote(notice(trailName("eu-central-1", start, 0))) + `}`)
	q := newQueuePlace(t, awsAt(url), *made.QueueUrl)
	q.begin(t)
	equal(t, q.all(t), append(wantIDs(0, 5), wantIDs(25, 30)...), "queue")
	left, err := queues.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: made.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
	ok(t, err)
	if n := left.Attributes["ApproximateNumberOfMessages"] + left.Attributes["ApproximateNumberOfMessagesNotVisible"]; n != "00" {
		t.Errorf("%s messages are left", n)
	}
}
