package moduletest

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"cardea/internal/iam"
)

var update = flag.Bool("update", false, "write the tables of the READMEs and the golden policies")

// folders are all modules and the example.
func folders(t *testing.T) map[string]*Module {
	t.Helper()
	all := map[string]*Module{}
	dirs, err := filepath.Glob(modules + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(dirs, "../examples/cde") {
		m, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(dir)] = m
	}
	if len(all) != 10 {
		t.Errorf("%d folders, want 9 modules and an example", len(all))
	}
	return all
}

// number is an attribute that is a number.
func (p *Plan) number(t testing.TB, address, name string) int {
	t.Helper()
	v := p.attr(t, address, name)
	if v.IsNull() {
		return 0
	}
	n, _ := v.AsBigFloat().Int64()
	return int(n)
}

// ofKind are the addresses of all resources of a type.
func (p *Plan) ofKind(kind string) (addresses []string) {
	pattern := regexp.MustCompile(`(^|\.)` + kind + `\.[a-z_]+(\[[^]]*\])?$`)
	for address := range p.Resources {
		if pattern.MatchString(address) {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	return addresses
}

func TestEachVariableAndOutputIsDescribedTypedAndChecked(t *testing.T) {
	t.Parallel()
	for folder, m := range folders(t) {
		for name, v := range m.Variables {
			if len(v.Description) < 5 || !strings.HasSuffix(v.Description, ".") {
				t.Errorf("%s: variable %s: description %q", folder, name, v.Description)
			}
			if v.TypeText == "" || strings.Contains(v.TypeText, "any") {
				t.Errorf("%s: variable %s has the type %q", folder, name, v.TypeText)
			}
			if folder == "cde" {
				continue
			}
			if v.Nullable && (v.Default == nil || !v.Default.IsNull()) {
				t.Errorf("%s: variable %s may be null, which means nothing", folder, name)
			}
			if v.Type == cty.Number && len(v.Validations) == 0 {
				t.Errorf("%s: variable %s is a number without bounds", folder, name)
			}
			if strings.Contains(name, "password") != v.Sensitive {
				t.Errorf("%s: variable %s: sensitive = %v", folder, name, v.Sensitive)
			}
		}
		for name, o := range m.Outputs {
			if len(o.Description) < 5 || !strings.HasSuffix(o.Description, ".") {
				t.Errorf("%s: output %s: description %q", folder, name, o.Description)
			}
		}
	}
}

func TestVersionsArePinnedAndNoModuleHasAProviderOrCredentials(t *testing.T) {
	t.Parallel()
	bounds := regexp.MustCompile(`^>= [0-9.]+, < [0-9.]+$`)
	for folder, m := range folders(t) {
		if len(m.Terraform) != 1 {
			t.Errorf("%s: %d blocks terraform", folder, len(m.Terraform))
			continue
		}
		var version string
		if err := constant(m.Terraform[0], "required_version", &version); err != nil || !bounds.MatchString(version) {
			t.Errorf("%s: required_version %q, %v", folder, version, err)
		}
		pinned := false
		for _, b := range m.Terraform[0].Body.Blocks {
			if b.Type != "required_providers" {
				continue
			}
			for name, a := range b.Body.Attributes {
				v, diags := a.Expr.Value(nil)
				if diags.HasErrors() || !bounds.MatchString(v.GetAttr("version").AsString()) {
					t.Errorf("%s: provider %s is not pinned", folder, name)
				}
				pinned = true
			}
		}
		if !pinned && len(m.Resources) > 0 {
			t.Errorf("%s: no provider is pinned", folder)
		}
		if folder != "cde" && len(m.Providers) > 0 {
			t.Errorf("%s configures a provider: that is the caller's", folder)
		}
		for _, p := range m.Providers {
			for _, name := range []string{"access_key", "secret_key", "token", "profile", "shared_credentials_files"} {
				if p.Body.Attributes[name] != nil {
					t.Errorf("%s: a provider has %s", folder, name)
				}
			}
		}
		for _, b := range m.Others {
			t.Errorf("%s: block %s: data sources would need AWS for a plan", folder, b.Type)
		}
	}
}

func TestKeysRotateEndSlowlyAndHaveTheirTags(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	keys := append(p.ofKind("aws_kms_key"), p.ofKind("aws_kms_replica_key")...)
	if len(keys) != 8+1+1+3 { // tenants' and services', trail's, topic's, replicas
		t.Errorf("%d keys: %v", len(keys), keys)
	}
	for _, k := range keys {
		hmac := strings.HasSuffix(k, `-mac"]`)
		if !strings.Contains(k, "replica") {
			if on := p.attr(t, k, "enable_key_rotation").True(); on == hmac {
				t.Errorf("%s: rotation %v", k, on)
			}
			if want := map[bool]int{true: 0, false: 90}[hmac]; p.number(t, k, "rotation_period_in_days") != want {
				t.Errorf("%s: rotates each %d days, want %d", k, p.number(t, k, "rotation_period_in_days"), want)
			}
		}
		if n := p.number(t, k, "deletion_window_in_days"); n < 7 || n > 30 {
			t.Errorf("%s: window of %d days", k, n)
		}
		if r := p.Resources[k]; r.Type().HasAttribute("bypass_policy_lockout_safety_check") && r.GetAttr("bypass_policy_lockout_safety_check").True() {
			t.Errorf("%s bypasses the lockout check", k)
		}
		if names := tagNames(p.attr(t, k, "tags")); !slices.Contains(names, "Environment") || !slices.Contains(names, "Service") || !slices.Contains(names, "PCIScope") {
			t.Errorf("%s has the tags %v", k, names)
		}
	}
	var aliases []string
	for _, a := range p.ofKind("aws_kms_alias") {
		aliases = append(aliases, p.attr(t, a, "name").AsString())
	}
	for _, want := range []string{"alias/rds-cde-cmk", "alias/ebs-cde-cmk", "alias/s3-cde-cmk", "alias/secrets-cde-cmk", "alias/vault-shop-cde-cmk"} {
		if !slices.Contains(aliases, want) {
			t.Errorf("no alias %s among %v", want, aliases)
		}
	}
}

func TestServiceKeysTakesOnlyWhatAWSTakes(t *testing.T) {
	t.Parallel()
	m, err := Load(modules + "/service-keys")
	if err != nil {
		t.Fatal(err)
	}
	fine := "account_id = \"111122223333\"\nregion = \"us-east-1\"\nenvironment = \"prod\"\nadministrators = [\"" + keyAdmin + "\"]\n"
	for input, want := range map[string]string{
		`keys = {}`:                       "keys must have names of lower-case letters, digits and hyphens, such as rds.",
		`keys = { RDS = { users = [] } }`: "keys must have names of lower-case letters, digits and hyphens, such as rds.",
		`keys = { rds = { users = [], rotation_period_in_days = 89 } }`:                       "rotation_period_in_days of a key must be 90 to 2560, or 0 for none.",
		`keys = { rds = { users = [], rotation_period_in_days = 2561 } }`:                     "rotation_period_in_days of a key must be 90 to 2560, or 0 for none.",
		`keys = { rds = { users = [], deletion_window_in_days = 6 } }`:                        "deletion_window_in_days of a key must be 7 to 30.",
		`keys = { rds = { users = [], key_spec = "RSA_2048" } }`:                              "key_spec must be SYMMETRIC_DEFAULT or an HMAC spec.",
		`keys = { rds = { users = [], multi_region = true, custom_key_store_id = "cks-1" } }`: "A key in a custom key store cannot be a multi-Region key.",
		`keys = { rds = { users = ["` + keyAdmin + `"] } }`:                                   "users must not be administrators or provisioners",
		`keys = { vault = { users = ["` + app + `"] } }`:                                      "users who call KMS themselves need vpc_endpoint_ids or allowed_cidrs: say from where.",
		"keys = { rds = { users = [] } }\nrotation_period_in_days = 89":                       "rotation_period_in_days must be 90 to 2560.",
		"keys = { rds = { users = [] } }\nrotation_period_in_days = 2561":                     "rotation_period_in_days must be 90 to 2560.",
		"keys = { rds = { users = [] } }\nrotation_period_in_days = 400":                      "max_rotation_period_in_days must not be shorter than rotation_period_in_days.",
		"keys = { rds = { users = [] } }\ndeletion_window_in_days = 31":                       "deletion_window_in_days must be 7 to 30.",
		"keys = { rds = { users = [] } }\nenvironment = \"CDE\"":                              "environment must be 2 to 16 lower-case letters and digits, a letter first.",
		"keys = { rds = { users = [] } }\ntags = { Service = \"x\" }":                         "tags must not set Environment, Service or PCIScope: they follow from the key.",
	} {
		values := inputs(t, fine)
		maps.Copy(values, inputs(t, input))
		_, err := m.Evaluate(values)
		refused(t, input, err, want)
	}
	p := plan(t, "service-keys", fine+`keys = {
  rds  = { users = [], rotation_period_in_days = 2560, deletion_window_in_days = 7 }
  s3   = { users = [], rotation_period_in_days = 0 }
  hsm  = { users = [], custom_key_store_id = "cks-1", rotation_period_in_days = 90 }
  ebs  = { users = [] }
}`)
	for name, want := range map[string]int{"rds": 2560, "s3": 0, "hsm": 0, "ebs": 90} {
		k := `aws_kms_key.this["` + name + `"]`
		if got := p.number(t, k, "rotation_period_in_days"); got != want || p.attr(t, k, "enable_key_rotation").True() != (want > 0) {
			t.Errorf("%s rotates each %d days, want %d", name, got, want)
		}
	}
	if got := p.Outputs["not_rotated"]; got.LengthInt() != 2 {
		t.Errorf("not_rotated = %#v", got)
	}
}

// policies are all policies of a plan, by address and attribute, with their kind.
func (p *Plan) policies(t *testing.T) map[string]*iam.Policy {
	t.Helper()
	all := map[string]*iam.Policy{}
	for address, r := range p.Resources {
		for name := range r.Type().AttributeTypes() {
			if name != "policy" && name != "assume_role_policy" {
				continue
			}
			kind := iam.KeyPolicy
			if name == "assume_role_policy" {
				kind = iam.TrustPolicy
			} else if strings.Contains(address, "aws_iam_") {
				kind = iam.IdentityPolicy
			}
			all[address+"."+name] = parse(t, kind, r.GetAttr(name).AsString())
		}
	}
	return all
}

func TestNothingIsAllowedByWildcard(t *testing.T) {
	t.Parallel()
	all := examplePlan(t).policies(t)
	if len(all) < 15 {
		t.Errorf("only %d policies: %v", len(all), slices.Sorted(maps.Keys(all)))
	}
	for name, policy := range all {
		for _, s := range policy.Document().Statements {
			if s.Effect != iam.Allow {
				continue
			}
			for _, a := range s.Actions {
				if strings.ContainsAny(a, "*?") {
					t.Errorf("%s, %s: action %s", name, s.Sid, a)
				}
			}
			if len(s.NotActions)+len(s.NotPrincipals)+len(s.NotResources) > 0 {
				t.Errorf("%s, %s allows by what it does not name", name, s.Sid)
			}
			for _, who := range s.Principals {
				if who.Kind == iam.PrincipalEveryone {
					t.Errorf("%s, %s: principal *", name, s.Sid)
				}
				// An account as such would be whoever its IAM policies say.
				if who.Kind == iam.PrincipalAccount && !slices.ContainsFunc(s.Conditions, func(c iam.Condition) bool { return c.Key == "aws:PrincipalArn" || c.Key == "aws:PrincipalType" }) {
					t.Errorf("%s, %s: a whole account", name, s.Sid)
				}
			}
			if policy.Kind() == iam.IdentityPolicy && slices.Contains(s.Resources, "*") {
				t.Errorf("%s, %s: resource *", name, s.Sid)
			}
		}
	}
}

func TestPoliciesAreShortEnoughForAWS(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	for kind, most := range map[string]int{
		"aws_kms_key.policy": 32768, "aws_kms_replica_key.policy": 32768, "aws_iam_policy.policy": 6144, "aws_iam_role.assume_role_policy": 2048,
		"aws_s3_bucket_policy.policy": 20480, "aws_vpc_endpoint.policy": 20480, "aws_iam_role_policy.policy": 10240, "aws_sns_topic_policy.policy": 30720,
	} {
		kind, attribute, _ := strings.Cut(kind, ".")
		found := p.ofKind(kind)
		if len(found) == 0 {
			t.Errorf("there is no %s", kind)
		}
		for _, address := range found {
			if n := len(p.attr(t, address, attribute).AsString()); n > most {
				t.Errorf("%s.%s has %d characters, at most %d", address, attribute, n, most)
			}
		}
	}
}

// README.md of each module: the tables of inputs and outputs are as the files say, its
// example is one that the module takes, and it names requirements.
func TestREADMEsAreTrue(t *testing.T) {
	t.Parallel()
	for folder, m := range folders(t) {
		path := filepath.Join(m.Dir, "README.md")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		text := string(b)
		want := between(text, "inputs", inputTable(m))
		want = between(want, "outputs", outputTable(m))
		if *update && want != text {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if want != text {
			t.Errorf("%s: the tables of inputs and outputs are not as the *.tf files say; run: go test ./deploy/terraform/moduletest -run README -update", path)
		}
		for _, mark := range []string{"<!-- inputs -->", "<!-- /inputs -->", "<!-- outputs -->", "<!-- /outputs -->", "| PCI DSS v4.0.1 |", "```hcl"} {
			if !strings.Contains(text, mark) && (folder != "cde" || mark != "```hcl") {
				t.Errorf("%s lacks %s", path, mark)
			}
		}
		for _, id := range regexp.MustCompile(`(?m)^\| ([0-9][0-9.]+) \|`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(requirements, id[1]) {
				t.Errorf("%s names the requirement %s", path, id[1])
			}
		}
		for _, block := range regexp.MustCompile("(?ms)^```hcl\n(.*?)^```").FindAllStringSubmatch(text, -1) {
			checkExample(t, path, block[1])
		}
	}
}

// requirements are those of PCI DSS v4.0.1 that the modules speak of.
var requirements = []string{
	"1.4.4", "2.2.7", "3.5.1", "3.5.1.1", "3.6.1", "3.6.1.1", "3.6.1.2", "3.6.1.3", "3.6.1.4", "3.7.1", "3.7.2", "3.7.3", "3.7.4", "3.7.5", "3.7.6", "3.7.7", "3.7.9", "4.2.1",
	"7.2.1", "7.2.2", "7.2.5", "7.3.1", "7.3.2", "7.3.3", "8.2.2", "8.4.1", "8.4.2", "8.6.1", "10.2.1", "10.2.1.1", "10.2.1.2", "10.2.1.3", "10.2.1.6", "10.2.1.7", "10.3.1", "10.3.2", "10.3.3",
	"10.3.4", "10.4.1.1", "10.5.1", "10.7.1", "10.7.2", "11.5.1", "11.5.2", "12.10.5",
}

// checkExample evaluates the calls of modules in a README.
func checkExample(t *testing.T, path, text string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "main.tf")
	abs, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(dir, filepath.Dir(abs))
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, `"./modules/`, `"`+filepath.ToSlash(relative)+"/")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Load(dir)
	if err != nil {
		t.Errorf("%s: the example: %v", path, err)
		return
	}
	if len(m.Calls) == 0 {
		t.Errorf("%s: the example calls no module", path)
	}
	if _, err := m.Evaluate(nil); err != nil {
		t.Errorf("%s: the example: %v", path, err)
	}
}

func between(text, mark, content string) string {
	open, end := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->"
	i := strings.Index(text, open)
	j := strings.Index(text, end)
	if i < 0 || j < i {
		return text
	}
	return text[:i+len(open)] + content + text[j:]
}

var spaces = regexp.MustCompile(`\s+`)

func cell(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(spaces.ReplaceAllString(text, " ")), "|", "\\|")
}

func inputTable(m *Module) string {
	var b strings.Builder
	b.WriteString("| input | type | default | |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(m.Variables)) {
		v := m.Variables[name]
		kind, value := cell(v.TypeText), "required"
		if strings.Contains(kind, "object(") { // its members are described in words
			kind = strings.TrimSpace(kind[:strings.Index(kind, "object(")]) + "object"
			kind += strings.Repeat(")", strings.Count(kind, "("))
		}
		if v.Default != nil {
			value = "`" + cell(v.DefaultText) + "`"
		}
		b.WriteString("| `" + name + "` | `" + kind + "` | " + value + " | " + cell(v.Description) + " |\n")
	}
	return b.String()
}

func outputTable(m *Module) string {
	var b strings.Builder
	b.WriteString("| output | |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(m.Outputs)) {
		b.WriteString("| `" + name + "` | " + cell(m.Outputs[name].Description) + " |\n")
	}
	return b.String()
}

// TestNoUnusedVariables finds inputs that do nothing.
func TestNoUnusedVariables(t *testing.T) {
	t.Parallel()
	for folder, m := range folders(t) {
		used := map[string]bool{}
		walk := func(n hclsyntax.Node) {
			_ = hclsyntax.VisitAll(n, func(n hclsyntax.Node) (diags hclDiagnostics) {
				if e, ok := n.(*hclsyntax.ScopeTraversalExpr); ok && e.Traversal.RootName() == "var" && len(e.Traversal) > 1 {
					used[attrName(e.Traversal[1])] = true
				}
				return nil
			})
		}
		for _, e := range m.Locals {
			walk(e)
		}
		for _, b := range slices.Concat(slices.Collect(maps.Values(m.Resources)), slices.Collect(maps.Values(m.Calls)), m.Providers) {
			walk(b.Body)
		}
		for _, o := range m.Outputs {
			walk(o.Value)
		}
		uses := used
		for name, v := range m.Variables { // others may be checked against it
			used = map[string]bool{}
			for _, check := range v.Validations {
				walk(check.Body)
			}
			delete(used, name)
			maps.Copy(uses, used)
		}
		used = uses
		for name := range m.Variables {
			if !used[name] {
				t.Errorf("%s: variable %s is not used", folder, name)
			}
		}
	}
}
