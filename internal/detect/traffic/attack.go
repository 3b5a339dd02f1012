package traffic

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"cardea/internal/cloudtrail"
)

// Incident is an attack in the traffic.
type Incident struct {
	Name       string   // "B1 slow drain"
	Rules      []string // one of which should name it
	Principal  string
	Start, End time.Time
	Slow       bool
}

// plan puts the attacks into the time after the baselines are learned, each
// principal with a day between its attacks.
func (w *World) plan() {
	r := newRandom(w.P.Seed, 5)
	attacks := w.attacks()
	type taken struct {
		at    time.Time
		apart time.Duration
	}
	busy := map[string][]taken{}
	for i := len(attacks) - 1; i > 0; i-- {
		j := r.intn(i + 1)
		attacks[i], attacks[j] = attacks[j], attacks[i]
	}
	// The silence is last: it must not swallow another attack.
	slices.SortStableFunc(attacks, func(a, b attack) int { return boolInt(a.silence) - boolInt(b.silence) })
	for _, at := range attacks {
		who := at.by(w, r)
		for range 400 {
			start := w.P.Start.Add(time.Duration(w.P.WarmDays) * 24 * time.Hour).Add(time.Duration(r.float() * float64(w.P.Days-w.P.WarmDays-3) * 24 * float64(time.Hour))).Truncate(time.Minute)
			if at.hour != nil {
				start = start.Truncate(24 * time.Hour).Add(time.Duration(at.hour(r) * float64(time.Hour)))
			}
			if at.silence && (int(start.Sub(w.P.Start).Hours()/24)%7 >= 5 || w.attackedNear(start)) {
				continue
			}
			if !at.silence && slices.ContainsFunc(busy[who.name], func(b taken) bool { return b.at.Sub(start).Abs() < max(at.apart(), b.apart) }) {
				continue
			}
			busy[who.name] = append(busy[who.name], taken{start, at.apart()})
			w.stage(at, who, start, r)
			w.Staged++
			break
		}
	}
	w.Dropped = len(attacks) - w.Staged
	slices.SortStableFunc(w.attack, func(a, b labelled) int { return a.e.Time.Compare(b.e.Time) })
	for i := range w.attack {
		w.attack[i].e.ID = "a" + strconv.Itoa(i)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (w *World) attackedNear(t time.Time) bool {
	return slices.ContainsFunc(w.Incidents, func(i Incident) bool {
		return !i.Slow && t.After(i.Start.Add(-5*time.Hour)) && t.Before(i.End.Add(time.Hour))
	})
}

func (w *World) stage(at attack, who *actor, start time.Time, r *random) {
	n := len(w.Incidents)
	inc := Incident{Name: at.name, Rules: at.rules, Principal: who.name, Start: start, Slow: at.slow}
	if at.silence {
		inc.Principal, inc.End = "", start.Add(time.Duration(r.between(1.5, 4)*float64(time.Hour)))
		w.silences = append(w.silences, inc)
		w.Incidents = append(w.Incidents, inc)
		return
	}
	minute := int64(start.Sub(w.P.Start) / time.Minute)
	from := len(w.attack)
	at.events(w, who, minute, r, func(e cloudtrail.Event) { w.attack = append(w.attack, labelled{e, n}) })
	first := true
	for _, l := range w.attack[from:] {
		if first || l.e.Time.Before(inc.Start) {
			inc.Start = l.e.Time
		}
		if first || l.e.Time.After(inc.End) {
			inc.End = l.e.Time
		}
		inc.Principal = l.e.Principal
		first = false
	}
	w.Incidents = append(w.Incidents, inc)
}

// attack is a scenario.
type attack struct {
	name    string
	rules   []string
	slow    bool
	silence bool
	hour    func(*random) float64
	by      func(*World, *random) *actor
	events  func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event))
}

// apart is how far a principal's attacks are from each other at least: what is
// told lately is not told again.
func (a attack) apart() time.Duration {
	switch {
	case a.slow:
		return 60 * time.Hour
	case a.rules[0][0] == 'R':
		return 3 * time.Hour
	}
	return 36 * time.Hour
}

func (w *World) of(kinds ...string) func(*World, *random) *actor {
	return func(w *World, r *random) *actor {
		var all []*actor
		for _, a := range w.actors {
			if slices.Contains(kinds, a.kind) {
				all = append(all, a)
			}
		}
		return all[r.intn(len(all))]
	}
}

func (w *World) api(_ *World, r *random) *actor { return w.actors[r.intn(w.P.Tenants)] }

func (w *World) named(name string) func(*World, *random) *actor {
	return func(w *World, _ *random) *actor {
		return w.actors[slices.IndexFunc(w.actors, func(a *actor) bool { return a.name == role(name) })]
	}
}

func text(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil // values of this file only
	}
	return b
}

// change is an attack of one call that changes something, by a stolen
// administrator.
func (w *World) change(rule, name string, params func(*random) any) attack {
	return attack{
		name: rule + " " + name, rules: []string{rule}, by: w.named("ops"),
		events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			e := w.base(a, m, r)
			e.Name, e.ReadOnly = name, false
			switch {
			case rule == "R20" && name[:3] == "Put" && name != "PutEventSelectors":
				e.Source = cloudtrail.SourceS3
			case rule == "R20":
				e.Source = cloudtrail.SourceTrail
			case rule != "R9":
				e.Keys = []string{w.keys[r.intn(len(w.keys))]}
			}
			if p := params(r); p != nil {
				e.Params = text(p)
			}
			add(e)
		},
	}
}

func pick(r *random, v ...any) any { return v[r.intn(len(v))] }

// one is an attack of few calls that each look wrong.
func (w *World) one(rule string, by func(*World, *random) *actor, alter func(w *World, e *cloudtrail.Event, r *random)) attack {
	return attack{
		name: rule, rules: []string{rule}, by: by,
		events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			for i := range 1 + r.intn(5) {
				e := w.base(a, m+int64(i), r)
				if a.kind == "service" {
					w.use(a, &e, r)
				} else {
					e.Name, e.Keys = "DescribeKey", []string{a.keys[0]}
				}
				alter(w, &e, r)
				add(e)
			}
		},
	}
}

type object = map[string]any

func (w *World) attacks() []attack {
	policy := func(r *random) any {
		p := pick(r, object{"AWS": "*"}, object{"AWS": "arn:aws:iam::" + foreign + ":root"}, "*")
		return object{"policyName": "default", "policy": string(text(object{"Statement": []any{object{"Effect": "Allow", "Principal": p, "Action": "kms:*", "Resource": "*"}}}))}
	}
	none := func(*random) any { return nil }
	anyService := w.of("service")
	all := []attack{
		w.change("R1", "ScheduleKeyDeletion", func(r *random) any { return object{"pendingWindowInDays": 7 + r.intn(24)} }),
		w.change("R2", "DisableKey", none),
		w.change("R3", "PutKeyPolicy", policy),
		w.change("R4", "CreateGrant", func(r *random) any {
			return object{"granteePrincipal": pick(r, "arn:aws:iam::"+foreign+":role/x", role("unknown")), "operations": []string{"Decrypt"}}
		}),
		w.change("R5", "ImportKeyMaterial", none),
		w.change("R6", "DisableKeyRotation", none),
		w.change("R7", "UpdateAlias", func(*random) any { return object{"aliasName": "alias/cards", "targetKeyId": w.others[3]} }),
		w.change("R8", "ReplicateKey", func(*random) any { return object{"replicaRegion": "ap-east-1"} }),
		w.change("R9", "DisconnectCustomKeyStore", func(*random) any { return object{"customKeyStoreId": "cks-1"} }),
		w.one("R10", w.api, func(_ *World, e *cloudtrail.Event, r *random) {
			if e.Context = nil; r.float() < 0.5 {
				e.Context = map[string]string{"tenant": e.Tenant}
			}
		}),
		w.one("R11", w.api, func(w *World, e *cloudtrail.Event, r *random) {
			for other := e.Tenant; other == e.Tenant; {
				e.Tenant = fmt.Sprintf("tenant-%d", r.intn(w.P.Tenants))
			}
			e.Context = map[string]string{"tenant": e.Tenant, "merchant": e.Merchant}
		}),
		w.one("R12", w.of("person"), func(w *World, e *cloudtrail.Event, r *random) {
			e.Name, e.Keys, e.Tenant, e.Merchant = "Decrypt", []string{w.keys[r.intn(len(w.keys))]}, "tenant-0", "tenant-0-m1"
			e.Context = map[string]string{"tenant": e.Tenant, "merchant": e.Merchant}
		}),
		w.one("R13", anyService, func(w *World, e *cloudtrail.Event, r *random) {
			e.Principal, e.CallerAccount, e.SharedEventID = "arn:aws:iam::"+foreign+":role/x", foreign, "shared"
		}),
		w.one("R14", w.of("person"), func(w *World, e *cloudtrail.Event, r *random) {
			e.Principal, e.PrincipalType = "arn:aws:iam::"+Account+":root", "Root"
		}),
		w.one("R15", w.of("person"), func(w *World, e *cloudtrail.Event, r *random) {
			e.Name, e.ReadOnly, e.MFA = "TagResource", false, cloudtrail.MFAUnknown
		}),
		{name: "R16", rules: []string{"R16"}, by: w.api, events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			e := w.base(a, m, r)
			e.Name, e.Keys, e.ReadOnly = "UntagResource", a.keys[:1], false
			add(e)
		}},
		w.one("R17", anyService, func(w *World, e *cloudtrail.Event, r *random) {
			if e.TLSVersion = "TLSv1.1"; r.float() < 0.5 {
				e.TLSVersion, e.Host = "TLSv1.3", "kms.example.net"
			}
		}),
		w.one("R18", w.api, func(_ *World, e *cloudtrail.Event, r *random) { e.VPCEndpoint = "" }),
		w.one("R19", w.api, func(_ *World, e *cloudtrail.Event, r *random) {
			e.Name, e.MaterialID = "GenerateDataKey", "retired-material"
		}),
		w.change("R20", "StopLogging", func(*random) any { return object{"name": "main"} }),
		w.change("R20", "PutBucketLifecycle", func(*random) any { return object{"bucketName": "audit-logs"} }),
	}
	return append(all, w.behaviours()...)
}

// behaviours are the attacks that no single event shows.
func (w *World) behaviours() []attack {
	f := w.P.Intensity
	steal := []string{"B1", "B6", "B7", "B8"}
	return []attack{
		{name: "B1 burst", rules: steal, by: w.api, events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			minutes, times := int64(r.between(5, 30)), r.between(5, 15)*f
			w.more(a, m, minutes, func(at int64) float64 { return max(15, times*a.rate/60*w.level(a, at)) }, r, add)
		}},
		{name: "B1 slow drain", rules: steal, slow: true, by: w.api, events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			hours, share := int64(r.between(24, 48)), r.between(0.6, 1.2)*f
			w.more(a, m, 60*hours, func(at int64) float64 { return share * (1 - a.encrypts) * a.rate / 60 * w.level(a, at) }, r, add)
		}},
		{name: "B2 burst", rules: []string{"B2", "B7"}, by: w.of("service"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			code := pick(r, "AccessDenied", "InvalidCiphertextException", "IncorrectKeyException").(string)
			for range int(r.between(25, 120) * f) {
				e := w.base(a, m+int64(r.intn(10)), r)
				w.use(a, &e, r)
				e.Name, e.ErrorCode = "Decrypt", code
				add(e)
			}
		}},
		{name: "B2 slow guessing", rules: []string{"B2", "B7"}, slow: true, by: w.of("service"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			perHour := r.between(3, 8) * f
			for h := range int64(r.between(18, 36)) {
				for range r.poisson(perHour) {
					e := w.base(a, m+h*60+int64(r.intn(60)), r)
					w.use(a, &e, r)
					e.Name, e.ErrorCode = "Decrypt", "InvalidCiphertextException"
					add(e)
				}
			}
		}},
		{name: "B3 new role", rules: []string{"B3"}, by: w.api, events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			stranger := *a
			stranger.name = role(fmt.Sprintf("build-%d", r.intn(1000)))
			stranger.tenant = a.tenant
			for i := range 1 + r.intn(10) {
				e := w.base(&stranger, m+int64(i), r)
				w.use(&stranger, &e, r)
				e.Name = "Decrypt"
				add(e)
			}
		}},
		{name: "B4 stolen credentials elsewhere", rules: []string{"B4"}, by: w.of("service"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			agent := pick(r, "aws-cli/2.17.1 md/awscrt", "curl/8.5.0", "python-requests/2.32").(string)
			ip := fmt.Sprintf("198.51.100.%d", r.intn(250))
			for i := range 3 + r.intn(20) {
				e := w.base(a, m+int64(i), r)
				w.use(a, &e, r)
				e.IP, e.UserAgent, e.VPCEndpoint = ip, agent, ""
				add(e)
			}
		}},
		{name: "B4 another Region", rules: []string{"B4"}, by: w.of("service"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			for i := range 3 + r.intn(10) {
				e := w.base(a, m+int64(i), r)
				w.use(a, &e, r)
				e.Region, e.IP = "ap-southeast-1", "10.200.7."+strconv.Itoa(r.intn(200))
				e.Host = "kms.ap-southeast-1.amazonaws.com"
				add(e)
			}
		}},
		{
			name: "B5 night visit", rules: []string{"B5"}, by: w.of("person"), hour: func(r *random) float64 { return r.between(0.5, 4.5) },
			events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
				for i := range 3 + r.intn(10) {
					e := w.base(a, m+int64(i), r)
					e.Name, e.Keys = "DescribeKey", []string{a.keys[r.zipf(3)]}
					add(e)
				}
			},
		},
		{name: "B6 scraper", rules: steal, by: w.api, events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			minutes := int64(r.between(20, 60))
			for i := range int(r.between(0.8, 2) * float64(w.P.Merchants)) {
				e := w.base(a, m+int64(r.float()*float64(minutes)), r)
				w.use(a, &e, r)
				e.Name = "Decrypt"
				w.inContext(a, &e, r, i%(2*w.P.Merchants))
				add(e)
			}
		}},
		{name: "B7 tries keys", rules: []string{"B7", "B2", "B10"}, by: w.of("service"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			for i := range 8 + r.intn(12) {
				e := w.base(a, m+int64(r.intn(15)), r)
				w.use(a, &e, r)
				e.Name, e.Keys = "Decrypt", []string{keyARN(200 + i)}
				if r.float() < 0.7 {
					e.ErrorCode = "AccessDenied"
				}
				add(e)
			}
		}},
		{name: "B7 slow probing of keys", rules: []string{"B7", "B2", "B10"}, slow: true, by: w.of("service"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			for h := range int64(r.between(18, 36)) {
				for range 2 + r.poisson(2*f) {
					e := w.base(a, m+h*60+int64(r.intn(60)), r)
					w.use(a, &e, r)
					e.Name, e.Keys, e.ErrorCode = "Decrypt", []string{keyARN(300 + r.intn(400))}, "AccessDenied"
					add(e)
				}
			}
		}},
		{name: "B8 writer turns reader", rules: steal, by: w.named("tokenizer"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			minutes, share := int64(r.between(120, 300)), r.between(0.35, 0.7)*f
			w.more(a, m, minutes, func(at int64) float64 { return max(1.2, share*a.rate/60*w.level(a, at)) }, r, add)
		}},
		{name: "B9 the log stops", rules: []string{"B9"}, silence: true, by: w.of("ops"), hour: func(r *random) float64 { return r.between(7, 17) }},
		{name: "B10 sweep", rules: []string{"B10", "B7"}, by: w.of("service"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			for i := range int(r.between(15, 60)) {
				e := w.base(a, m+int64(r.intn(8)), r)
				e.Name, e.Keys = pick(r, "DescribeKey", "GetKeyPolicy", "ListGrants").(string), []string{keyARN(100 + i%40)}
				add(e)
			}
		}},
		{name: "B10 slow enumeration", rules: []string{"B10", "B7"}, slow: true, by: w.of("service"), events: func(w *World, a *actor, m int64, r *random, add func(cloudtrail.Event)) {
			for h := range int64(r.between(18, 36)) {
				for range 3 + r.poisson(4*f) {
					e := w.base(a, m+h*60+int64(r.intn(60)), r)
					e.Name, e.Keys = pick(r, "DescribeKey", "GetKeyPolicy", "ListGrants").(string), []string{keyARN(100 + r.intn(300))}
					add(e)
				}
			}
		}},
	}
}

// more adds decrypts to what an actor does anyway.
func (w *World) more(a *actor, m, minutes int64, rate func(int64) float64, r *random, add func(cloudtrail.Event)) {
	for i := range minutes {
		for range r.poisson(rate(m + i)) {
			e := w.base(a, m+i, r)
			w.use(a, &e, r)
			e.Name = "Decrypt"
			add(e)
		}
	}
}
