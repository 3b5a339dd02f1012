package moduletest

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"cardea/internal/iam"
	"cardea/internal/kms"
)

const modules = "../modules"

// Those who ask.
const (
	keyAdmin  = "arn:aws:iam::" + Account + ":role/key-admin"
	terraform = "arn:aws:iam::" + Account + ":role/terraform"
	app       = "arn:aws:iam::" + Account + ":role/app"
	exporter  = "arn:aws:iam::" + Account + ":role/exporter"
	stranger  = "arn:aws:iam::" + Account + ":role/stranger"
	restore   = "arn:aws:iam::444455556666:role/restore"
	vaultRole = "arn:aws:iam::" + Account + ":role/cardea-vault-cde"
	testKey   = "arn:aws:kms:" + Region + ":" + Account + ":key/12345678-1234-1234-1234-123456789012"
	endpoint  = "vpce-0123456789abcdef0"
)

// now is when everything happens.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// inputs are variables as a *.tfvars file has them.
func inputs(t testing.TB, text string) map[string]cty.Value {
	t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(text), "inputs.tfvars", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	attrs, diags := f.Body.JustAttributes()
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	values := map[string]cty.Value{}
	for name, a := range attrs {
		if values[name], diags = a.Expr.Value(nil); diags.HasErrors() {
			t.Fatal(diags)
		}
	}
	return values
}

// plan evaluates a module that must be content with its inputs.
func plan(t testing.TB, module, text string) *Plan {
	t.Helper()
	m, err := Load(filepath.Join(modules, module))
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Evaluate(inputs(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// example is examples/cde with its example.tfvars.
var example = sync.OnceValues(func() (*Plan, error) {
	m, err := Load("../examples/cde")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile("../examples/cde/example.tfvars")
	if err != nil {
		return nil, err
	}
	values := map[string]cty.Value{}
	f, diags := hclsyntax.ParseConfig(text, "example.tfvars", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	attrs, diags := f.Body.JustAttributes()
	if diags.HasErrors() {
		return nil, diags
	}
	for name, a := range attrs {
		if values[name], diags = a.Expr.Value(nil); diags.HasErrors() {
			return nil, diags
		}
	}
	return m.Evaluate(values)
})

func examplePlan(t testing.TB) *Plan {
	t.Helper()
	p, err := example()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// attr is an attribute of a resource.
func (p *Plan) attr(t testing.TB, address, name string) cty.Value {
	t.Helper()
	r, ok := p.Resources[address]
	if !ok {
		t.Fatalf("there is no %s", address)
	}
	if !r.Type().HasAttribute(name) {
		t.Fatalf("%s has no %s", address, name)
	}
	return r.GetAttr(name)
}

// policy is a policy among the attributes of a resource.
func (p *Plan) policy(t testing.TB, kind iam.PolicyKind, address, name string) *iam.Policy {
	t.Helper()
	return parse(t, kind, p.attr(t, address, name).AsString())
}

// output is a policy among the outputs.
func (p *Plan) output(t testing.TB, kind iam.PolicyKind, name string) *iam.Policy {
	t.Helper()
	return parse(t, kind, p.Outputs[name].AsString())
}

func parse(t testing.TB, kind iam.PolicyKind, text string) *iam.Policy {
	t.Helper()
	policy, err := iam.ParsePolicy(kind, []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return policy
}

// call is a request: by default over TLS, through the endpoint, at now.
type call struct {
	who     iam.Caller
	action  string // without kms: unless it has a colon
	on      string // default testKey
	at      time.Time
	via     string               // service that calls for who
	context map[string]string    // encryption context
	with    map[string]iam.Value // other condition keys; the zero Value takes one away
}

func (c call) query() *iam.Query {
	q := &iam.Query{Caller: c.who, Action: c.action, Resource: c.on, Time: c.at, Context: &iam.Context{}}
	if !strings.Contains(q.Action, ":") {
		q.Action = "kms:" + q.Action
	}
	if q.Resource == "" {
		q.Resource = testKey
	}
	if q.Time.IsZero() {
		q.Time = now
	}
	values := map[string]iam.Value{"aws:SecureTransport": iam.Bool(true), "aws:SourceVpce": iam.String(endpoint), "aws:ViaAWSService": iam.Bool(false)}
	if c.via != "" {
		values["kms:ViaService"], values["aws:ViaAWSService"] = iam.String(c.via+"."+Region+".amazonaws.com"), iam.Bool(true)
		delete(values, "aws:SourceVpce")
	}
	for k, v := range c.with {
		values[k] = v
	}
	for k, v := range values {
		if v != (iam.Value{}) {
			q.Context.Add(k, v)
		}
	}
	q.Context.SetEncryptionContext(c.context)
	return q
}

// may decides by a key policy, and the caller's own if there are any.
func (c call) may(key *iam.Policy, own ...*iam.Policy) bool {
	p := iam.Policies{Resource: key}
	for _, o := range own {
		p.Identity = append(p.Identity, iam.NamedPolicy{Name: "own", Policy: o})
	}
	return iam.Decide(c.query(), &p).Allowed
}

// from is a network address in place of the endpoint.
func from(address string) map[string]iam.Value {
	return map[string]iam.Value{"aws:SourceVpce": {}, "aws:SourceIp": iam.IP(netip.MustParseAddr(address))}
}

// session is a session of a role; with a second factor of that age if it is not negative.
func session(role string, mfa time.Duration) iam.Caller {
	a, err := iam.ParseARN(role)
	if err != nil {
		panic(err)
	}
	name := strings.TrimPrefix(a.Resource, "role/")
	c := iam.Caller{
		Type: iam.CallerRole, ARN: role, Account: a.Account, Session: "arn:aws:sts::" + a.Account + ":assumed-role/" + name + "/s",
		ID: "AROAEXAMPLE:s", Issued: now.Add(-time.Hour),
	}
	if mfa >= 0 {
		c.MFA = now.Add(-mfa)
	}
	return c
}

const without = -time.Second // no second factor

func rootUser(account string, mfa bool) iam.Caller {
	c := iam.Caller{Type: iam.CallerRoot, ARN: "arn:aws:iam::" + account + ":root", Account: account, ID: account}
	if mfa {
		c.Issued, c.MFA = now, now
	}
	return c
}

func service(name string) iam.Caller {
	return iam.Caller{Type: iam.CallerService, Services: []string{name}}
}

// keyActions are all actions of KMS that there are, without kms:.
func keyActions() (all []string) {
	for _, o := range kms.Operations() {
		for _, a := range strings.Split(o.Action, ",") {
			all = append(all, strings.TrimPrefix(a, "kms:"))
		}
	}
	all = append(all, "ReEncryptFrom", "ReEncryptTo")
	slices.Sort(all)
	return slices.Compact(all)
}

// anybody is an identity policy that allows everything.
func anybody(t testing.TB) *iam.Policy {
	t.Helper()
	return parse(t, iam.IdentityPolicy, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
}

// refused fails the test unless an error says what it should.
func refused(t testing.TB, input string, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s is taken, want %q", input, want)
	} else if !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", input, err, want)
	}
}

type hclDiagnostics = hcl.Diagnostics

func attrName(step hcl.Traverser) string {
	if a, ok := step.(hcl.TraverseAttr); ok {
		return a.Name
	}
	return ""
}
