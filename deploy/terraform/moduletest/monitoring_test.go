package moduletest

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	json "github.com/go-json-experiment/json"
	"github.com/zclconf/go-cty/cty"

	"cardea/internal/iam"
)

const logs = "arn:aws:s3:::example-cde-trail"

func TestTrailIsCompleteValidatedAndLockedForThreeYears(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	const m = "module.cloudtrail[0]."
	for name, want := range map[string]cty.Value{
		"enable_logging": cty.True, "enable_log_file_validation": cty.True, "is_multi_region_trail": cty.True, "is_organization_trail": cty.True,
		"include_global_service_events": cty.True, "kms_key_id": p.attr(t, m+"aws_kms_key.trail", "arn"),
	} {
		if got := p.attr(t, m+"aws_cloudtrail.this", name); !got.RawEquals(want) {
			t.Errorf("%s = %#v, want %#v", name, got, want)
		}
	}
	// One selector of management events that leaves nothing out, KMS least of all.
	selectors := p.attr(t, m+"aws_cloudtrail.this", "advanced_event_selector").AsValueSlice()
	if len(selectors) != 1 || selectors[0].GetAttr("field_selector").LengthInt() != 1 {
		t.Errorf("got %d selectors", len(selectors))
	}
	retention := p.attr(t, m+"aws_s3_bucket_object_lock_configuration.logs", "rule").Index(cty.Zero).GetAttr("default_retention").Index(cty.Zero)
	if !retention.GetAttr("mode").RawEquals(cty.StringVal("COMPLIANCE")) || !retention.GetAttr("days").RawEquals(cty.NumberIntVal(3*365+1)) {
		t.Errorf("retention %#v", retention)
	}
	if !p.attr(t, m+"aws_s3_bucket.logs", "object_lock_enabled").True() || p.attr(t, m+"aws_s3_bucket.logs", "force_destroy").True() {
		t.Error("the bucket is not locked")
	}
	if !p.attr(t, m+"aws_s3_bucket_versioning.logs", "versioning_configuration").Index(cty.Zero).GetAttr("status").RawEquals(cty.StringVal("Enabled")) {
		t.Error("the bucket has no versions")
	}
	encryption := p.attr(t, m+"aws_s3_bucket_server_side_encryption_configuration.logs", "rule").Index(cty.Zero).GetAttr("apply_server_side_encryption_by_default").Index(cty.Zero)
	if !encryption.GetAttr("sse_algorithm").RawEquals(cty.StringVal("aws:kms")) || !encryption.GetAttr("kms_master_key_id").RawEquals(p.attr(t, m+"aws_kms_key.trail", "arn")) {
		t.Errorf("encryption %#v", encryption)
	}
	for _, name := range []string{"block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"} {
		if !p.attr(t, m+"aws_s3_bucket_public_access_block.logs", name).True() {
			t.Errorf("%s is off", name)
		}
	}
	if !p.attr(t, m+"aws_s3_bucket_ownership_controls.logs", "rule").Index(cty.Zero).GetAttr("object_ownership").RawEquals(cty.StringVal("BucketOwnerEnforced")) {
		t.Error("ACLs are possible")
	}
	rule := p.attr(t, m+"aws_s3_bucket_lifecycle_configuration.logs", "rule").Index(cty.Zero)
	for _, b := range [][2]string{{"expiration", "days"}, {"noncurrent_version_expiration", "noncurrent_days"}} {
		if days := rule.GetAttr(b[0]).Index(cty.Zero).GetAttr(b[1]); days.LessThanOrEqualTo(cty.NumberIntVal(3 * 365)).True() {
			t.Errorf("%s after %#v", b[0], days)
		}
	}
	group := m + "aws_cloudwatch_log_group.trail[0]"
	if p.number(t, group, "retention_in_days") < 90 || !p.attr(t, group, "kms_key_id").RawEquals(p.attr(t, m+"aws_kms_key.trail", "arn")) {
		t.Error("the log group is short-lived or not encrypted")
	}
}

// onBucket is what the bucket's policy says: allowed, denied, or left to the identity
// policies of the account, which for S3 are enough.
func onBucket(t *testing.T, p *Plan, who iam.Caller, action, on string, with map[string]iam.Value) string {
	t.Helper()
	values := map[string]iam.Value{"s3:TlsVersion": iam.String("1.3"), "aws:SourceVpce": {}}
	maps.Copy(values, with)
	policy := p.policy(t, iam.KeyPolicy, "module.cloudtrail[0].aws_s3_bucket_policy.logs", "policy")
	v := iam.Decide(call{who: who, action: "s3:" + action, on: on, with: values}.query(), &iam.Policies{Resource: policy, Identity: []iam.NamedPolicy{{Name: "all", Policy: anybody(t)}}})
	switch {
	case v.Allowed:
		return "allowed"
	case v.Reason == iam.DeniedExplicitly:
		return "denied"
	}
	return "left"
}

func TestNobodyTampersWithTheLog(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	const siem, file, orgFile = "arn:aws:iam::" + Account + ":role/siem", logs + "/AWSLogs/" + Account + "/CloudTrail/x.json.gz", logs + "/AWSLogs/o-a1b2c3d4e5/444455556666/x.json.gz"
	trail := map[string]iam.Value{"aws:SourceArn": iam.String("arn:aws:cloudtrail:us-east-1:111122223333:trail/cde"), "s3:x-amz-acl": iam.String("bucket-owner-full-control")}
	foreign := map[string]iam.Value{"aws:SourceArn": iam.String("arn:aws:cloudtrail:us-east-1:444455556666:trail/cde"), "s3:x-amz-acl": iam.String("bucket-owner-full-control")}
	for _, c := range []struct {
		who        iam.Caller
		action, on string
		with       map[string]iam.Value
		want       string
	}{
		{service("cloudtrail.amazonaws.com"), "PutObject", file, trail, "allowed"},
		{service("cloudtrail.amazonaws.com"), "PutObject", orgFile, trail, "allowed"},
		{service("cloudtrail.amazonaws.com"), "GetBucketAcl", logs, trail, "allowed"},
		{service("cloudtrail.amazonaws.com"), "PutObject", file, foreign, "left"},
		{service("cloudtrail.amazonaws.com"), "PutObject", logs + "/AWSLogs/444455556666/x", trail, "left"},
		{service("cloudtrail.amazonaws.com"), "DeleteObject", file, trail, "denied"},
		{service("config.amazonaws.com"), "PutObject", file, trail, "left"},
		{session(siem, without), "GetObject", file, nil, "allowed"},
		{session(siem, without), "ListBucket", logs, nil, "allowed"},
		{session(siem, without), "GetObject", file, map[string]iam.Value{"aws:SecureTransport": iam.Bool(false)}, "denied"},
		{session(siem, without), "GetObject", file, map[string]iam.Value{"s3:TlsVersion": iam.String("1.1")}, "denied"},
		{session(siem, 0), "PutObject", file, nil, "denied"},
		{session(siem, 0), "PutBucketPolicy", logs, nil, "denied"},
		{session(keyAdmin, 0), "DeleteObject", file, nil, "denied"},
		{session(keyAdmin, 0), "DeleteObjectVersion", file, nil, "denied"},
		{session(keyAdmin, 0), "BypassGovernanceRetention", file, nil, "denied"},
		{rootUser(Account, true), "DeleteObjectVersion", file, nil, "denied"},
		{session(terraform, without), "PutBucketVersioning", logs, nil, "left"},
		{session(keyAdmin, 0), "PutBucketPolicy", logs, nil, "left"},
		{session(keyAdmin, 0), "GetObject", file, nil, "left"},
		{session(stranger, 0), "PutBucketVersioning", logs, nil, "denied"},
		{session(stranger, 0), "PutLifecycleConfiguration", logs, nil, "denied"},
		{session(stranger, 0), "DeleteBucket", logs, nil, "denied"},
	} {
		if got := onBucket(t, p, c.who, c.action, c.on, c.with); got != c.want {
			t.Errorf("%s %s %s with %v: %s, want %s", c.who.Name(), c.action, c.on, c.with, got, c.want)
		}
	}
}

func TestOnlyTheTrailItsLogGroupAndReadersUseTheTrailsKey(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	key := p.policy(t, iam.KeyPolicy, "module.cloudtrail[0].aws_kms_key.trail", "policy")
	source := map[string]iam.Value{"aws:SourceArn": iam.String("arn:aws:cloudtrail:us-east-1:111122223333:trail/cde")}
	ours := map[string]string{"aws:cloudtrail:arn": "arn:aws:cloudtrail:us-east-1:444455556666:trail/cde"} // a member of the organisation
	for what, c := range map[string]struct {
		call call
		want bool
	}{
		"the trail seals":              {call{who: service("cloudtrail.amazonaws.com"), action: "GenerateDataKey", context: ours, with: source}, true},
		"another trail seals":          {call{who: service("cloudtrail.amazonaws.com"), action: "GenerateDataKey", context: ours}, false},
		"the trail opens":              {call{who: service("cloudtrail.amazonaws.com"), action: "Decrypt", context: ours, with: source}, false},
		"the trail, another context":   {call{who: service("cloudtrail.amazonaws.com"), action: "GenerateDataKey", with: source}, false},
		"the log group":                {call{who: service("logs.us-east-1.amazonaws.com"), action: "Encrypt", context: map[string]string{"aws:logs:arn": "arn:aws:logs:us-east-1:111122223333:log-group:/cardea/cloudtrail/cde"}}, true},
		"another log group":            {call{who: service("logs.us-east-1.amazonaws.com"), action: "Encrypt", context: map[string]string{"aws:logs:arn": "arn:aws:logs:us-east-1:111122223333:log-group:/x"}}, false},
		"a reader through S3":          {call{who: session("arn:aws:iam::"+Account+":role/siem", without), action: "Decrypt", via: "s3"}, true},
		"a reader without S3":          {call{who: session("arn:aws:iam::"+Account+":role/siem", without), action: "Decrypt"}, false},
		"a reader seals":               {call{who: session("arn:aws:iam::"+Account+":role/siem", without), action: "GenerateDataKey", via: "s3"}, false},
		"an administrator reads":       {call{who: session(keyAdmin, 0), action: "Decrypt", via: "s3"}, false},
		"somebody else of the account": {call{who: session(stranger, 0), action: "Decrypt", via: "s3"}, false},
	} {
		if got := c.call.may(key, anybody(t)); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func TestTopicIsEncryptedAndTakesOnlyItsRulesAndAlarms(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	const m, topic = "module.alarms[0].", "arn:aws:sns:us-east-1:111122223333:kms-cde"
	if !p.attr(t, m+"aws_sns_topic.alarms", "kms_master_key_id").RawEquals(p.attr(t, m+"aws_kms_key.topic", "arn")) {
		t.Error("the topic is not encrypted under its key")
	}
	key, policy := p.policy(t, iam.KeyPolicy, m+"aws_kms_key.topic", "policy"), p.policy(t, iam.KeyPolicy, m+"aws_sns_topic_policy.alarms", "policy")
	from := func(arn, account string) map[string]iam.Value {
		return map[string]iam.Value{"aws:SourceArn": iam.String(arn), "aws:SourceAccount": iam.String(account)}
	}
	for _, c := range []struct {
		who  iam.Caller
		with map[string]iam.Value
		want bool
	}{
		{service("events.amazonaws.com"), from("arn:aws:events:us-east-1:111122223333:rule/kms-cde-deletion", Account), true},
		{service("events.amazonaws.com"), from("arn:aws:events:us-east-1:444455556666:rule/kms-cde-deletion", "444455556666"), false},
		{service("cloudwatch.amazonaws.com"), from("arn:aws:cloudwatch:us-east-1:111122223333:alarm:kms-cde-volume", Account), true},
		{service("cloudwatch.amazonaws.com"), from("arn:aws:cloudwatch:us-east-1:444455556666:alarm:kms-cde-volume", "444455556666"), false},
		{session("arn:aws:iam::444455556666:role/x", 0), nil, false},
	} {
		if got := (call{who: c.who, action: "sns:Publish", on: topic, with: c.with}).may(policy, anybody(t)); got != c.want {
			t.Errorf("%s %v publishes: %v, want %v", c.who.Name(), c.with, got, c.want)
		}
	}
	for _, s := range []string{"events.amazonaws.com", "cloudwatch.amazonaws.com", "s3.amazonaws.com"} {
		for _, name := range []string{topic, topic + "-2"} {
			want := s != "s3.amazonaws.com" && name == topic
			for _, action := range []string{"Decrypt", "GenerateDataKey"} {
				if got := (call{who: service(s), action: action, context: map[string]string{"aws:sns:topicArn": name}}).may(key); got != want {
					t.Errorf("%s %s for %s: %v, want %v", s, action, name, got, want)
				}
			}
		}
	}
	if (call{who: session(keyAdmin, 0), action: "Decrypt", context: map[string]string{"aws:sns:topicArn": topic}}).may(key, anybody(t)) {
		t.Error("an administrator uses the topic's key")
	}
}

// incidents are CloudTrail records, as far as they differ from a call of KMS by a role,
// and what must tell of them.
var incidents = []struct {
	event          string
	source         string // of EventBridge
	rules, metrics []string
}{
	{`"eventName":"Decrypt"`, "aws.kms", nil, []string{"Uses"}},
	{`"eventName":"GenerateDataKeyWithoutPlaintext"`, "aws.kms", nil, []string{"Uses"}},
	{`"eventName":"DescribeKey"`, "aws.kms", nil, nil},
	{`"eventName":"Decrypt","errorCode":"AccessDenied"`, "aws.kms", []string{"unauthorized"}, []string{"UnauthorizedAttempts", "Uses"}},
	{`"eventName":"PutKeyPolicy","errorCode":"AccessDeniedException"`, "aws.kms", []string{"control", "unauthorized"}, []string{"UnauthorizedAttempts"}},
	{`"eventName":"Decrypt","errorCode":"VpceAccessDenied"`, "aws.kms", []string{"unauthorized"}, []string{"UnauthorizedAttempts", "Uses"}},
	{`"eventName":"Encrypt","errorCode":"Client.UnauthorizedOperation"`, "aws.kms", []string{"unauthorized"}, []string{"UnauthorizedAttempts", "Uses"}},
	{`"eventName":"ScheduleKeyDeletion"`, "aws.kms", []string{"deletion"}, []string{"DeletionAttempts"}},
	{`"eventName":"ScheduleKeyDeletion","errorCode":"AccessDenied"`, "aws.kms", []string{"deletion", "unauthorized"}, []string{"DeletionAttempts", "UnauthorizedAttempts"}},
	{`"eventName":"DisableKey"`, "aws.kms", []string{"deletion"}, []string{"DeletionAttempts"}},
	{`"eventName":"DeleteImportedKeyMaterial"`, "aws.kms", []string{"deletion"}, []string{"DeletionAttempts"}},
	{`"eventName":"DisableKeyRotation"`, "aws.kms", []string{"deletion"}, nil},
	{`"eventName":"Decrypt","errorCode":"InvalidCiphertextException"`, "aws.kms", []string{"failed-decrypt"}, []string{"FailedDecrypts", "Uses"}},
	{`"eventName":"ReEncrypt","errorCode":"IncorrectKeyException"`, "aws.kms", []string{"failed-decrypt"}, []string{"FailedDecrypts", "Uses"}},
	{`"eventName":"Decrypt","errorCode":"ThrottlingException"`, "aws.kms", nil, []string{"Uses"}},
	{`"eventName":"UpdateAlias"`, "aws.kms", []string{"control"}, nil},
	{`"eventName":"ImportKeyMaterial"`, "aws.kms", []string{"control"}, nil},
	{`"eventName":"ListKeys","userIdentity":{"type":"Root"}`, "aws.kms", []string{"root"}, nil},
	{`"eventSource":"cloudtrail.amazonaws.com","eventName":"StopLogging"`, "aws.cloudtrail", []string{"trail"}, nil},
	{`"eventSource":"cloudtrail.amazonaws.com","eventName":"DescribeTrails"`, "aws.cloudtrail", nil, nil},
	{`"eventSource":"s3.amazonaws.com","eventName":"PutBucketLifecycle","requestParameters":{"bucketName":"example-cde-trail"}`, "aws.s3", []string{"log-bucket"}, nil},
	{`"eventSource":"s3.amazonaws.com","eventName":"PutBucketLifecycle","requestParameters":{"bucketName":"pictures"}`, "aws.s3", nil, nil},
	{`"eventSource":"s3.amazonaws.com","eventName":"GetObject","errorCode":"AccessDenied"`, "aws.s3", nil, nil},
}

func TestEachIncidentRaisesItsAlarms(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	for _, i := range incidents {
		e := map[string]any{"eventSource": "kms.amazonaws.com", "userIdentity": map[string]any{"type": "AssumedRole"}}
		var own map[string]any
		if err := json.Unmarshal([]byte("{"+i.event+"}"), &own); err != nil {
			t.Fatal(err)
		}
		maps.Copy(e, own)
		var rules, metrics []string
		for _, address := range p.ofKind("aws_cloudwatch_event_rule") {
			var pattern map[string]any
			if err := json.Unmarshal([]byte(p.attr(t, address, "event_pattern").AsString()), &pattern); err != nil {
				t.Fatal(err)
			}
			if matches(t, pattern, map[string]any{"source": i.source, "detail-type": "AWS API Call via CloudTrail", "detail": e}) {
				rules = append(rules, strings.TrimPrefix(p.attr(t, address, "name").AsString(), "kms-cde-"))
				// What changes nothing reaches only rules in this state.
				if readOnly(e["eventName"].(string)) && p.attr(t, address, "state").AsString() != "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS" {
					t.Errorf("%s does not see %s", address, i.event)
				}
			}
		}
		for _, address := range p.ofKind("aws_cloudwatch_log_metric_filter") {
			if counts(t, p.attr(t, address, "pattern").AsString(), e) {
				metrics = append(metrics, strings.TrimPrefix(p.attr(t, address, "name").AsString(), "kms-cde-"))
			}
		}
		slices.Sort(rules)
		slices.Sort(metrics)
		if !slices.Equal(rules, i.rules) || !slices.Equal(metrics, i.metrics) {
			t.Errorf("%s: rules %v and metrics %v, want %v and %v", i.event, rules, metrics, i.rules, i.metrics)
		}
	}
}

func readOnly(name string) bool {
	return slices.Contains([]string{"Decrypt", "Encrypt", "ReEncrypt", "ListKeys", "DescribeKey"}, name) || strings.HasPrefix(name, "GenerateDataKey")
}

// matches is as much of EventBridge's patterns as the module uses: objects, lists of
// values, prefixes.
func matches(t *testing.T, pattern, e map[string]any) bool {
	t.Helper()
	for name, want := range pattern {
		switch want := want.(type) {
		case map[string]any:
			inner, ok := e[name].(map[string]any)
			if !ok || !matches(t, want, inner) {
				return false
			}
		case []any:
			got, ok := e[name].(string)
			if !ok || !slices.ContainsFunc(want, func(w any) bool {
				if m, is := w.(map[string]any); is {
					prefix, is := m["prefix"].(string)
					if !is || len(m) != 1 {
						t.Fatalf("a matcher that this test does not know: %v", m)
					}
					return strings.HasPrefix(got, prefix)
				}
				return w == got
			}) {
				return false
			}
		default:
			t.Fatalf("%s: %T in a pattern", name, want)
		}
	}
	return true
}

var (
	filterShape = regexp.MustCompile(`^\{ .* \}$`)
	term        = regexp.MustCompile(`\(\$\.([A-Za-z]+) (=|!=) "([^"]+)"\)`)
)

// counts is as much of CloudWatch's filter patterns as the module uses: comparisons in
// parentheses, joined by && and ||, of texts with *.
func counts(t *testing.T, pattern string, e map[string]any) bool {
	t.Helper()
	if !filterShape.MatchString(pattern) {
		t.Fatalf("not a pattern for JSON: %s", pattern)
	}
	text := term.ReplaceAllStringFunc(strings.Trim(pattern, "{} "), func(s string) string {
		m := term.FindStringSubmatch(s)
		got, present := e[m[1]].(string)
		equal, err := path.Match(m[3], got)
		if err != nil {
			t.Fatal(err)
		}
		return map[bool]string{true: "1", false: "0"}[present && equal == (m[2] == "=")]
	})
	for { // innermost parentheses first
		next := text
		for _, r := range [][2]string{{"1 && 1", "1"}, {"1 && 0", "0"}, {"0 && 1", "0"}, {"0 && 0", "0"}} {
			next = strings.ReplaceAll(next, r[0], r[1])
		}
		if next == text && !strings.Contains(text, "&& (") && !strings.Contains(text, ") &&") {
			for _, r := range [][2]string{{"1 || 1", "1"}, {"1 || 0", "1"}, {"0 || 1", "1"}, {"0 || 0", "0"}} {
				next = strings.ReplaceAll(next, r[0], r[1])
			}
		}
		if next == text {
			for _, r := range [][2]string{{"1 || 1", "1"}, {"1 || 0", "1"}, {"0 || 1", "1"}, {"0 || 0", "0"}, {"(1)", "1"}, {"(0)", "0"}} {
				next = strings.ReplaceAll(next, r[0], r[1])
			}
		}
		if next == text {
			break
		}
		text = next
	}
	if text != "0" && text != "1" {
		t.Fatalf("%s is left of %s", text, pattern)
	}
	return text == "1"
}

// The seed's four conditions each have an alarm that counts, besides the rules.
func TestAlarmsHaveMetricsThatExistAndTellSomebody(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	const m = "module.alarms[0]."
	metrics := map[string]bool{}
	for _, address := range p.ofKind("aws_cloudwatch_log_metric_filter") {
		tr := p.attr(t, address, "metric_transformation").Index(cty.Zero)
		metrics[tr.GetAttr("namespace").AsString()+" "+tr.GetAttr("name").AsString()] = true
	}
	alarms := p.ofKind("aws_cloudwatch_metric_alarm")
	for _, address := range alarms {
		r := p.Resources[address]
		if actions := r.GetAttr("alarm_actions"); actions.LengthInt() != 1 || !actions.Index(cty.Zero).RawEquals(p.attr(t, m+"aws_sns_topic.alarms", "arn")) {
			t.Errorf("%s tells nobody", address)
		}
		if r.Type().HasAttribute("metric_name") && r.GetAttr("namespace").AsString() != "AWS/Logs" && !metrics[r.GetAttr("namespace").AsString()+" "+r.GetAttr("metric_name").AsString()] {
			t.Errorf("%s counts nothing", address)
		}
	}
	if len(alarms) != 6 {
		t.Errorf("alarms: %v", alarms)
	}
	if got := p.attr(t, m+"aws_cloudwatch_metric_alarm.silence[0]", "treat_missing_data").AsString(); got != "breaching" {
		t.Errorf("silence is %s", got)
	}
	band := p.attr(t, m+"aws_cloudwatch_metric_alarm.abnormal_volume[0]", "metric_query").AsValueSlice()[0]
	if band.GetAttr("expression").AsString() != "ANOMALY_DETECTION_BAND(uses, 3)" {
		t.Errorf("band %#v", band)
	}
	if rules, targets := p.ofKind("aws_cloudwatch_event_rule"), p.ofKind("aws_cloudwatch_event_target"); len(rules) != 7 || len(targets) != 7 {
		t.Errorf("%d rules, %d targets", len(rules), len(targets))
	}
	few := plan(t, "alarms", "account_id = \"111122223333\"\nregion = \"us-east-1\"\nhas_log_group = false\nadministrators = [\""+keyAdmin+"\"]")
	if len(few.ofKind("aws_cloudwatch_metric_alarm")) != 0 || len(few.ofKind("aws_cloudwatch_event_rule")) != 6 {
		t.Error("without a log group there are other alarms than those of events")
	}
}

func TestEndpointIsOnlyForOursAndOurKeys(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	const m = "module.vpc_endpoint[0]."
	policy := p.policy(t, iam.KeyPolicy, m+"aws_vpc_endpoint.kms", "policy")
	ours := map[string]iam.Value{}
	for what, c := range map[string]struct {
		who    iam.Caller
		action string
		on     string
		want   bool
	}{
		"the vault":                       {session(vaultRole, without), "Decrypt", testKey, true},
		"files":                           {session(exporter, without), "GenerateDataKey", testKey, true},
		"the vault, somebody else's key":  {session(vaultRole, without), "Encrypt", "arn:aws:kms:us-east-1:444455556666:key/x", false},
		"the vault administers":           {session(vaultRole, without), "PutKeyPolicy", testKey, false},
		"an administrator":                {session(keyAdmin, 0), "PutKeyPolicy", testKey, false},
		"somebody else":                   {session(stranger, 0), "Decrypt", testKey, false},
		"a stolen key of another account": {session("arn:aws:iam::444455556666:role/cardea-vault-cde", 0), "Encrypt", testKey, false},
		"the root user":                   {rootUser(Account, true), "PutKeyPolicy", testKey, false},
	} {
		if got := (call{who: c.who, action: c.action, on: c.on, with: ours}).may(policy, anybody(t)); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
	if !p.attr(t, m+"aws_vpc_endpoint.kms", "private_dns_enabled").True() || p.attr(t, m+"aws_vpc_endpoint.kms", "service_name").AsString() != "com.amazonaws.us-east-1.kms" {
		t.Error("the endpoint is not that of KMS in the Region")
	}
	for _, address := range slices.Concat(p.ofKind("aws_vpc_security_group_ingress_rule"), p.ofKind("aws_vpc_security_group_egress_rule")) {
		r := p.Resources[address]
		if r.Type().HasAttribute("cidr_ipv4") || !r.Type().HasAttribute("referenced_security_group_id") {
			t.Errorf("%s lets networks in, want security groups", address)
		}
	}
	if port := p.number(t, m+`aws_vpc_security_group_ingress_rule.https["vault"]`, "from_port"); port != 443 {
		t.Errorf("port %d", port)
	}
}

// The three steps of the custodians.
func TestHSMStepByStep(t *testing.T) {
	t.Parallel()
	base := `
account_id     = "111122223333"
region         = "us-east-1"
vpc_id         = "vpc-0123456789abcdef0"
subnet_ids     = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1", "subnet-0123456789abcdef2"]
administrators = ["` + keyAdmin + `"]
keys           = { rds-hsm = { kind = "rds", users = ["` + app + `"] } }
`
	const store = "initialized = true\ntrust_anchor_certificate = \"-----BEGIN CERTIFICATE-----\\n\"\nkey_store_password = \"1234567\"\n"
	for _, c := range []struct {
		step               string
		hsms, stores, keys int
	}{{"", 1, 0, 0}, {store, 2, 1, 0}, {store + "connected = true\n", 2, 1, 1}} {
		p := plan(t, "cloudhsm", base+c.step)
		got := fmt.Sprint(len(p.ofKind("aws_cloudhsm_v2_hsm")), len(p.ofKind("aws_kms_custom_key_store")), len(p.ofKind("aws_kms_key")))
		if want := fmt.Sprint(c.hsms, c.stores, c.keys); got != want {
			t.Errorf("after %q: HSMs, stores, keys %s, want %s", c.step, got, want)
		}
		if c.keys == 1 {
			k := `module.keys[0].aws_kms_key.this["rds-hsm"]`
			if !p.attr(t, k, "custom_key_store_id").RawEquals(p.attr(t, "aws_kms_custom_key_store.this[0]", "id")) || p.attr(t, k, "enable_key_rotation").True() {
				t.Error("the key is not in the store, or should rotate there, which AWS does not")
			}
		}
	}
	old := plan(t, "cloudhsm", "cluster_id = \"cluster-2a3b4c5d6e7\"\naccount_id = \"111122223333\"\nregion = \"us-east-1\"\nadministrators = [\""+keyAdmin+"\"]\n"+strings.TrimPrefix(store, "initialized = true\n"))
	if len(old.Resources) != 1 || old.attr(t, "aws_kms_custom_key_store.this[0]", "cloud_hsm_cluster_id").AsString() != "cluster-2a3b4c5d6e7" {
		t.Errorf("with a cluster that exists: %v", slices.Collect(maps.Keys(old.Resources)))
	}
	m, err := Load(modules + "/cloudhsm")
	if err != nil {
		t.Fatal(err)
	}
	for input, want := range map[string]string{
		`subnet_ids = ["subnet-0123456789abcdef0"]`:                                                      "A new cluster needs vpc_id and two subnet_ids at least: KMS connects no store with fewer than two HSMs.",
		`trust_anchor_certificate = "-----BEGIN CERTIFICATE-----\n"`:                                     "The custom key store needs key_store_password.",
		"trust_anchor_certificate = \"-----BEGIN CERTIFICATE-----\\n\"\nkey_store_password = \"123456\"": "key_store_password must be 7 to 32 characters.",
		`trust_anchor_certificate = "x"`:                                                                 "trust_anchor_certificate must be a certificate in PEM.",
		`connected = true`:                                                                               "connected needs trust_anchor_certificate: there is no store without it.",
		`cluster_id = "hsm"`:                                                                             "cluster_id must be as cluster-2a3b4c5d6e7.",
		`hsm_type = "large"`:                                                                             "hsm_type must be hsm1.medium or hsm2m.medium.",
	} {
		values := inputs(t, base)
		maps.Copy(values, inputs(t, input))
		_, err := m.Evaluate(values)
		refused(t, input, err, want)
	}
}

func TestTrailAndAlarmsAndEndpointRefuse(t *testing.T) {
	t.Parallel()
	fine := map[string]string{
		"cloudtrail":   "account_id = \"111122223333\"\nregion = \"us-east-1\"\nbucket_name = \"logs\"\nadministrators = [\"" + keyAdmin + "\"]\n",
		"alarms":       "account_id = \"111122223333\"\nregion = \"us-east-1\"\nlog_group_name = \"g\"\nadministrators = [\"" + keyAdmin + "\"]\n",
		"vpc-endpoint": "account_id = \"111122223333\"\nregion = \"us-east-1\"\nvpc_id = \"vpc-1\"\nsubnet_ids = [\"a\", \"b\"]\nclient_security_group_ids = { a = \"sg-1\" }\nprincipals = [\"" + app + "\"]\n",
		"replica":      "environment = \"cde\"\nkeys = {}\n",
	}
	for module, cases := range map[string]map[string]string{
		"cloudtrail": {
			`retention_days = 365`: "retention_days must be 366 to 36500.", `lock_mode = "NONE"`: "lock_mode must be COMPLIANCE or GOVERNANCE.",
			`archive_after_days = 30`: "archive_after_days must be 90 at least, and less than retention_days.", `bucket_name = "Logs"`: "bucket_name must be 3 to 63",
			`readers = ["*"]`: "readers must be ARNs of roles or users, without wildcards.", `cloudwatch_retention_days = 30`: "cloudwatch_retention_days must be a period of CloudWatch Logs of 90 days at least, such as 365.",
			`readers = ["` + keyAdmin + `"]`: "users must not be administrators or provisioners", `organization_id = "x"`: "organization_id must be as o-abcdefghij.",
		},
		"alarms": {
			`subscriptions = { a = { protocol = "http", endpoint = "http://x" } }`: "http is not encrypted", `volume_band = 0`: "volume_band must be 1 to 10.",
			`unauthorized_threshold = 0`: "unauthorized_threshold must be 1 at least.", `failed_decrypt_threshold = 0`: "failed_decrypt_threshold must be 1 at least.",
			`volume_threshold = 0`: "volume_threshold must be 1 at least.", `log_group_name = null`: "has_log_group needs log_group_name",
		},
		"vpc-endpoint": {
			`subnet_ids = ["a"]`: "subnet_ids must be two at least", `principals = ["*"]`: "principals must be ARNs of roles or users, without wildcards.",
			`client_security_group_ids = {}`: "client_security_group_ids must name one at least.", `vpc_id = "x"`: "vpc_id must be as vpc-0123456789abcdef0.", `key_account_ids = ["*"]`: "key_account_ids must be 12 digits each.",
		},
		"replica": {
			`deletion_window_in_days = 5`: "deletion_window_in_days must be 7 to 30.", `tags = { PCIScope = "no" }`: "tags must not set Environment, Service or PCIScope", `environment = ""`: "environment must be 2 to 16",
		},
	} {
		m, err := Load(modules + "/" + module)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Evaluate(inputs(t, fine[module])); err != nil {
			t.Errorf("%s without a fault: %v", module, err)
		}
		for input, want := range cases {
			values := inputs(t, fine[module])
			maps.Copy(values, inputs(t, input))
			_, err := m.Evaluate(values)
			refused(t, module+": "+input, err, want)
		}
	}
}
