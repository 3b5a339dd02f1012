package moduletest

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/zclconf/go-cty/cty"
)

// Account and Region are those of what is made up.
const (
	Account = "111122223333"
	Region  = "us-east-1"
)

// computed is what AWS would tell of a new resource: always the same for an address.
func computed(kind, address string, attrs map[string]cty.Value) map[string]cty.Value {
	sum := sha256.Sum256([]byte(address))
	id := hex.EncodeToString(sum[:])[:17]
	name := func(attr string) string {
		if v, ok := attrs[attr]; ok && !v.IsNull() {
			return v.AsString()
		}
		return id
	}
	text := func(pairs ...string) map[string]cty.Value {
		m := map[string]cty.Value{"id": cty.StringVal(id)}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = cty.StringVal(pairs[i+1])
		}
		return m
	}
	arn := func(service, resource string) string {
		return "arn:aws:" + service + ":" + Region + ":" + Account + ":" + resource
	}
	switch kind {
	case "aws_kms_key", "aws_kms_replica_key", "aws_kms_external_key":
		h := hex.EncodeToString(sum[:])
		uuid := h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
		return text("id", uuid, "key_id", uuid, "arn", arn("kms", "key/"+uuid))
	case "aws_kms_alias":
		return text("arn", arn("kms", name("name")))
	case "aws_kms_custom_key_store":
		return text("id", "cks-"+id)
	case "aws_sns_topic":
		return text("arn", arn("sns", name("name")))
	case "aws_s3_bucket":
		return text("id", name("bucket"), "arn", "arn:aws:s3:::"+name("bucket"))
	case "aws_iam_role":
		return text("id", name("name"), "arn", "arn:aws:iam::"+Account+":role/"+name("name"))
	case "aws_iam_policy":
		return text("arn", "arn:aws:iam::"+Account+":policy/"+name("name"))
	case "aws_cloudwatch_log_group":
		return text("arn", arn("logs", "log-group:"+name("name")))
	case "aws_cloudwatch_event_rule":
		return text("id", name("name"), "arn", arn("events", "rule/"+name("name")))
	case "aws_cloudwatch_metric_alarm":
		return text("arn", arn("cloudwatch", "alarm:"+name("alarm_name")))
	case "aws_cloudtrail":
		return text("arn", arn("cloudtrail", "trail/"+name("name")), "home_region", Region)
	case "aws_vpc_endpoint":
		m := text("id", "vpce-"+id)
		m["dns_entry"] = cty.TupleVal([]cty.Value{cty.ObjectVal(map[string]cty.Value{"dns_name": cty.StringVal("vpce-" + id + ".kms." + Region + ".vpce.amazonaws.com")})})
		return m
	case "aws_security_group":
		return text("id", "sg-"+id)
	case "aws_cloudhsm_v2_cluster":
		return text("cluster_id", "cluster-"+id, "security_group_id", "sg-"+id, "cluster_state", "UNINITIALIZED")
	case "aws_cloudhsm_v2_hsm":
		return text("hsm_id", "hsm-"+id)
	}
	return text()
}
