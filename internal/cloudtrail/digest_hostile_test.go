package cloudtrail_test

import (
	"slices"
	"strings"
	"testing"

	"cardea/internal/cloudtrail"
)

// TestHostileDigestsStopNothing puts what nobody should write in a digest's place: it
// is said, and the digests and log files around it are verified as before.
func TestHostileDigestsStopNothing(t *testing.T) {
	t.Parallel()
	tr := trailOf{hours: 9, each: 1}.write(t)
	sound := verify(t, tr.b, tr.options()).Trails[0].Digests
	name := tr.digestName(4)
	digest := gunzipped(t, tr.b.objects[name])
	for what, content := range map[string]string{
		"arrays in each other":     strings.Repeat("[", 1<<20),
		"objects in each other":    strings.Repeat(`{"a":`, 1<<18),
		"deep in a member":         strings.Replace(digest, `"logFiles":[`, `"x":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`,"logFiles":[`, 1),
		"a text without end":       `{"digestS3Object":"` + strings.Repeat("x", 4<<20),
		"a long name":              strings.Replace(digest, `"digestS3Object":"`, `"digestS3Object":"`+strings.Repeat("x", 4<<20), 1),
		"control characters":       strings.Replace(digest, `"digestS3Object":"`, `"digestS3Object":"\u001b[2J\r\nFINDING none\n`, 1),
		"a time far away":          strings.Replace(digest, `"digestEndTime":"2026`, `"digestEndTime":"9999`, 1),
		"numbers instead of texts": strings.Replace(digest, `"awsAccountId":"`+account+`"`, `"awsAccountId":1e999`, 1),
		"no text at all":           "\xff\xfe\x00",
		"nothing":                  "",
	} {
		b := tr.b.clone()
		b.objects[name] = []byte(gz(content))
		r := verify(t, b, tr.options())
		if r.OK() || r.Trails[0].Digests < sound-1 || !slices.ContainsFunc(findings(r), func(f cloudtrail.DigestFinding) bool { return f.Object == name }) {
			t.Errorf("%s: %d of %d digests are sound, findings %+v", what, r.Trails[0].Digests, sound, len(findings(r)))
		}
		for _, e := range r.Trails[0].Events() {
			if len(e.ErrorMessage) > 4096 || len(e.SourceName) > 4096 {
				t.Errorf("%s: an event with a message of %d and an object of %d bytes", what, len(e.ErrorMessage), len(e.SourceName))
			}
		}
	}
}
