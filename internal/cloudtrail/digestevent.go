package cloudtrail

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Events are the findings as events of SourceDigests, for detection: what was done
// to the log is told like what is in it. A finding has the same event, by its ID and
// Time, however often it is found.
func (r TrailReport) Events() []Event {
	var list []Event
	for _, f := range r.Findings {
		at := f.Time
		if at.IsZero() {
			at = r.Last
		}
		sum := sha256.Sum256([]byte(strings.Join([]string{r.Account, r.Region, r.Trail, string(f.Outcome), f.Object}, "\x00")))
		list = append(list, Event{
			ID: "digest/" + hex.EncodeToString(sum[:16]), Time: at.UTC(), Source: SourceDigests, Name: string(f.Outcome), Region: r.Region, Account: r.Account,
			Principal: "trail/" + r.Account + "/" + r.Region + "/" + r.Trail, PrincipalType: "trail", SourceName: f.Object, ErrorMessage: f.Message,
		})
	}
	return list
}

// timeOf is the time in the name of a digest, the end of its hour, or of a log file;
// zero for another name.
func timeOf(object string) time.Time {
	form, text := "", ""
	if m := digestName.FindStringSubmatch(object); m != nil {
		form, text = digestTime, m[5]
	} else if m := logName.FindStringSubmatch(object); m != nil {
		form, text = logTime, m[3]
	}
	at, err := time.Parse(form, text)
	if form == "" || err != nil {
		return time.Time{}
	}
	return at
}
