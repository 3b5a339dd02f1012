// Package traffic makes the traffic of a card vault at its key service, month-long
// and synthetic, with attacks in it that are labelled. It promises that the same
// parameters give the same events, and that no event is more real than that: what
// a detector achieves on it says how it compares with others, not how it will do
// in a given installation.
package traffic

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Params describe a world. Random gives those of a seed.
type Params struct {
	Seed      uint64
	Days      int
	WarmDays  int       // before the first attack
	Start     time.Time // a Monday
	Tenants   int       // each with a service that stores and reads cards, and a key
	Merchants int       // of a tenant
	People    int
	Rate      float64 // calls an hour of a middle service at a middle hour
	Noise     float64 // deviation of an hour's logarithmic level
	Weekend   float64 // level on Saturday and Sunday
	Deploys   float64 // a week, of a service
	Errors    float64 // share of calls that fail for ordinary reasons
	Holidays  []int   // days
	Growth    float64 // of the volume, in a month
	Intensity float64 // of attacks: 1 is middle; below it is harder to see
	Attacks   bool
}

// Random gives the parameters of a seed: no two seeds have the same world, and
// attacks differ in strength, length and place. Thresholds are tuned on these.
func Random(seed uint64) Params {
	r := newRandom(seed, 1)
	p := Params{
		Seed: seed, Days: 28, WarmDays: 12, Start: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), Tenants: 3 + r.intn(3), Merchants: 30 + r.intn(120), People: 3 + r.intn(3),
		Rate: r.between(60, 220), Noise: r.between(0.05, 0.16), Weekend: r.between(0.35, 0.9), Deploys: r.between(0.5, 3), Errors: r.between(0.0005, 0.004),
		Growth: r.between(-0.05, 0.2), Intensity: r.between(0.8, 1.3), Attacks: true,
	}
	p.Holidays = []int{8 + r.intn(6), 18 + r.intn(8)}
	return p
}

// Unseen gives parameters from wider ranges, in which the weakest attacks are
// weaker and the noise is louder than anywhere that thresholds were tuned on.
func Unseen(seed uint64) Params {
	r := newRandom(seed, 6)
	p := Random(seed)
	p.Tenants, p.Merchants, p.People = 2+r.intn(6), 20+r.intn(280), 2+r.intn(7)
	p.Rate, p.Noise, p.Weekend, p.Deploys = r.between(40, 300), r.between(0.04, 0.2), r.between(0.25, 1), r.between(0.3, 4)
	p.Errors, p.Growth, p.Intensity = r.between(0.0003, 0.006), r.between(-0.1, 0.3), r.between(0.7, 1.4)
	return p
}

// Account and Region are whose log it is.
const (
	Account = "111122223333"
	Region  = "eu-central-1"
	foreign = "999988887777"
	vpce    = "vpce-0a1b2c3d"
)

// actor is a principal with its habits.
type actor struct {
	name, kind string // of principal; of actor
	tenant     string
	keys       []string
	rate       float64
	encrypts   float64 // share
	peak       float64 // hour of day
	agent      string
	version    int
	first      int      // version in the beginning
	nets       []string // /24 prefixes: "10.0.1."
	level      float64  // logarithmic, wanders
	deploys    []int64  // minutes
	rng        *random
	batchAt    int // minute of day
	batch      float64
	person     bool
}

// World is a month of traffic.
type World struct {
	P         Params
	Incidents []Incident
	Staged    int
	Dropped   int // attacks for which there was no room
	actors    []*actor
	keys      []string // of the vault
	others    []string
	attack    []labelled // events of the attacks, by time
	silences  []Incident
	counter   uint64
}

func keyARN(i int) string {
	return fmt.Sprintf("arn:aws:kms:%s:%s:key/%08x-0000-4000-8000-%012x", Region, Account, 0x1234abcd+i, i)
}

func role(name string) string { return "arn:aws:iam::" + Account + ":role/" + name }

// New makes a world.
func New(p Params) *World {
	w := &World{P: p}
	r := newRandom(p.Seed, 2)
	for i := range p.Tenants {
		w.keys = append(w.keys, keyARN(i))
	}
	for i := range 12 {
		w.others = append(w.others, keyARN(100+i))
	}
	add := func(a *actor) {
		a.rng = newRandom(p.Seed, 3, uint64(len(w.actors)))
		a.first = a.version
		net := 1 + len(w.actors)*4
		for i := range 3 {
			a.nets = append(a.nets, fmt.Sprintf("10.%d.%d.", len(w.actors)%7, net+i))
		}
		for m := 0.0; p.Deploys > 0; {
			m += -math.Log(1-a.rng.float()) * 7 * 1440 / p.Deploys
			if m >= float64(p.Days*1440) {
				break
			}
			a.deploys = append(a.deploys, int64(m))
		}
		w.actors = append(w.actors, a)
	}
	agents := []string{"aws-sdk-go-v2/1.%d.0 os/linux lang/go#1.26", "aws-sdk-java/2.%d.7 Linux", "Boto3/1.%d.0 md/Botocore", "aws-sdk-rust/1.%d.2 os/linux"}
	for i := range p.Tenants {
		t := fmt.Sprintf("tenant-%d", i)
		add(&actor{
			name: role(t + "-api"), kind: "service", tenant: t, keys: w.keys[i : i+1], rate: p.Rate * r.between(0.5, 2), encrypts: r.between(0.25, 0.5), peak: r.between(11, 19),
			agent: agents[r.intn(4)], version: 20 + i,
		})
	}
	add(&actor{name: role("tokenizer"), kind: "service", keys: w.keys[:2], rate: p.Rate * r.between(0.5, 1), encrypts: 0.95, peak: 15, agent: agents[0], version: 41})
	add(&actor{
		name: role("settlement"), kind: "service", keys: w.keys, rate: p.Rate * 0.05, encrypts: 0.02, peak: 3, agent: agents[1], version: 12,
		batchAt: 90 + r.intn(120), batch: p.Rate * r.between(0.5, 1.5),
	})
	add(&actor{name: role("reporting"), kind: "service", keys: w.others[:2], rate: p.Rate * 0.1, encrypts: 0.3, peak: 9, agent: agents[2], version: 33})
	add(&actor{name: role("rotation"), kind: "rotation", keys: w.keys, agent: agents[0], version: 41, batchAt: 60 * (2 + r.intn(3))})
	add(&actor{name: role("scanner"), kind: "scanner", keys: append(append([]string{}, w.keys...), w.others...), agent: agents[2], version: 30, batchAt: 60*4 + r.intn(60)})
	add(&actor{name: role("deployer"), kind: "deployer", keys: w.keys, agent: "APN/1.0 HashiCorp/1.0 Terraform/1.%d.0", version: 9})
	add(&actor{name: role("ops"), kind: "ops", keys: w.others, agent: "aws-cli/2.%d.0", version: 17})
	for i := range p.People {
		add(&actor{
			name: fmt.Sprintf("arn:aws:iam::%s:user/person-%d", Account, i), kind: "person", keys: w.others, rate: r.between(0.3, 1.5), peak: r.between(9, 14), agent: "AWS-Console", person: true,
		})
	}
	add(&actor{name: "arn:aws:iam::" + Account + ":user/on-call", kind: "on-call", keys: w.others, rate: 0.4, peak: 12, agent: "AWS-Console", person: true})
	if p.Attacks {
		w.plan()
	}
	return w
}

// Principals is how many there are.
func (w *World) Principals() int { return len(w.actors) }

// Rules is a rules file for the world.
func (w *World) Rules() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "known_accounts = [%q]\nvpc_endpoints = [%q]\nhosts = [\"kms.*.amazonaws.com\"]\npinned_aliases = [\"alias/cards\"]\nlog_buckets = [\"audit-logs\"]\n", Account, vpce)
	fmt.Fprintf(&b, "people = [\"arn:aws:iam::*:user/*\"]\non_call = [\"*:user/on-call\"]\n")
	for i := range w.P.Tenants {
		fmt.Fprintf(&b, "[[tenant]]\nname = \"tenant-%d\"\nprincipals = [\"*:role/tenant-%d-*\"]\n", i, i)
	}
	for i, k := range w.keys {
		fmt.Fprintf(&b, "[[key]]\nname = \"cards %d\"\nids = [%q]\nrequired_context = [\"tenant\", \"merchant\"]\nretired_materials = [\"retired-material\"]\n", i, k)
	}
	return []byte(b.String())
}
