package traffic

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cardea/internal/cloudtrail"
)

// fileEvery is how much time a file of the trail holds. It is named by the time of
// its delivery, five minutes after.
const fileEvery = 15 * time.Minute

// WriteTrail writes the traffic as CloudTrail does: files of one account and
// Region each, under AWSLogs, and returns how many events they have. The folder of
// the day and the name of the file come from the time of delivery.
func (w *World) WriteTrail(dir string) (events int, err error) {
	open := map[string]*trail{}
	var begin time.Time
	w.Each(func(e *cloudtrail.Event, _ int) bool {
		if at := e.Time.Truncate(fileEvery); at.After(begin) {
			err = flush(open, dir, begin)
			begin = at
		}
		t := open[e.Region]
		if t == nil {
			t = &trail{}
			open[e.Region] = t
		}
		t.records = append(t.records, record(e))
		events++
		return err == nil
	})
	return events, errors.Join(err, flush(open, dir, begin))
}

type trail struct{ records []object }

func flush(open map[string]*trail, dir string, begin time.Time) error {
	for region, t := range open {
		delete(open, region)
		at := begin.Add(fileEvery + 5*time.Minute).UTC()
		name := filepath.Join(dir, "AWSLogs", Account, "CloudTrail", region, at.Format("2006/01/02"),
			fmt.Sprintf("%s_CloudTrail_%s_%s_%016x.json.gz", Account, region, at.Format("20060102T1504Z"), at.Unix()))
		if err := writeFile(name, t.records); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(name string, records []object) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	return errors.Join(json.NewEncoder(z).Encode(object{"Records": records}), z.Close(), f.Close())
}

// record is an event as CloudTrail has it.
func record(e *cloudtrail.Event) object {
	r := object{
		"eventVersion": "1.11", "eventTime": e.Time.UTC().Format("2006-01-02T15:04:05Z"), "eventSource": e.Source, "eventName": e.Name, "awsRegion": e.Region,
		"sourceIPAddress": e.IP, "userAgent": e.UserAgent, "eventID": e.ID, "readOnly": e.ReadOnly, "eventType": "AwsApiCall", "managementEvent": true,
		"recipientAccountId": e.Account, "eventCategory": "Management", "userIdentity": identity(e), "requestParameters": parameters(e),
		"tlsDetails": object{"tlsVersion": e.TLSVersion, "cipherSuite": "TLS_AES_128_GCM_SHA256", "clientProvidedHostHeader": e.Host},
	}
	for name, v := range map[string]string{"errorCode": e.ErrorCode, "vpcEndpointId": e.VPCEndpoint, "sharedEventID": e.SharedEventID} {
		if v != "" {
			r[name] = v
		}
	}
	if e.MaterialID != "" {
		r["additionalEventData"] = object{"keyMaterialId": e.MaterialID}
	}
	if e.Console {
		r["sessionCredentialFromConsole"] = "true"
	}
	var resources []object
	for _, k := range e.Keys {
		resources = append(resources, object{"ARN": k, "accountId": Account, "type": "AWS::KMS::Key"})
	}
	if resources != nil {
		r["resources"] = resources
	}
	return r
}

func identity(e *cloudtrail.Event) object {
	u := object{"type": e.PrincipalType, "accountId": e.CallerAccount, "arn": e.Principal, "principalId": "AROAEXAMPLE"}
	attributes := object{"creationDate": "2026-03-01T00:00:00Z", "mfaAuthenticated": fmt.Sprint(e.MFA == cloudtrail.MFAPresent)}
	switch e.PrincipalType {
	case "AssumedRole":
		name := e.Principal[strings.LastIndexByte(e.Principal, '/')+1:]
		u["arn"] = "arn:aws:sts::" + e.CallerAccount + ":assumed-role/" + name + "/session"
		u["sessionContext"] = object{"sessionIssuer": object{"type": "Role", "arn": e.Principal, "accountId": e.CallerAccount, "userName": name}, "attributes": attributes}
	case "IAMUser":
		u["userName"] = e.Principal[strings.LastIndexByte(e.Principal, '/')+1:]
		if e.MFA != cloudtrail.MFAUnknown {
			u["sessionContext"] = object{"attributes": attributes}
		}
	}
	return u
}

func parameters(e *cloudtrail.Event) object {
	p := object{}
	if e.Params != nil && json.Unmarshal(e.Params, &p) != nil {
		p = object{}
	}
	if len(e.Keys) > 0 {
		p["keyId"] = e.Keys[0]
	}
	if e.Context != nil {
		p["encryptionContext"] = e.Context
	}
	return p
}
