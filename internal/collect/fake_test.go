package collect_test

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"cardea/internal/awstest"
	"cardea/internal/collect"
)

const bucketName = awstest.Bucket

func awsAt(url string) collect.AWS {
	return collect.AWS{Region: "eu-central-1", Endpoint: url, Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "example", "")}
}

// trailName is the name of a log file of a minute.
func trailName(region string, at time.Time, n int) string {
	at = at.UTC()
	return fmt.Sprintf("AWSLogs/111122223333/CloudTrail/%s/%s/111122223333_CloudTrail_%s_%s_%016d.json.gz", region, at.Format("2006/01/02"), region, at.Format("20060102T1504Z"), n)
}
