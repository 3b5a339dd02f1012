package traffic

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"cardea/internal/cloudtrail"
)

// labelled is an event of an attack and which incident it is of.
type labelled struct {
	e        cloudtrail.Event
	incident int
}

// Each calls yield with every event in the order of time, and the number of the
// incident that it is part of, -1 if of none. The event is good until the next one.
func (w *World) Each(yield func(e *cloudtrail.Event, incident int) bool) {
	w.counter = 0
	next := 0
	var batch []labelled
	for m := range int64(w.P.Days) * 1440 {
		batch = batch[:0]
		for _, a := range w.actors {
			w.minute(a, m, &batch)
		}
		end := w.P.Start.Add(time.Duration(m+1) * time.Minute)
		for next < len(w.attack) && w.attack[next].e.Time.Before(end) {
			batch = append(batch, w.attack[next])
			next++
		}
		slices.SortStableFunc(batch, func(a, b labelled) int { return a.e.Time.Compare(b.e.Time) })
		for i := range batch {
			l := &batch[i]
			if w.silenced(l.e.Time) {
				continue
			}
			if l.e.ID == "" {
				w.counter++
				l.e.ID = "n" + strconv.FormatUint(w.counter, 36)
			}
			if !yield(&l.e, l.incident) {
				return
			}
		}
	}
}

func (w *World) silenced(t time.Time) bool {
	for _, s := range w.silences {
		if !t.Before(s.Start) && t.Before(s.End) {
			return true
		}
	}
	return false
}

// level is how busy a service is at a minute.
func (w *World) level(a *actor, m int64) float64 {
	day, hour := int(m/1440), float64(m%1440)/60
	x := 0.15 + 1.3*math.Pow((1+math.Cos((hour-a.peak)/24*2*math.Pi))/2, 1.5)
	if weekday := day % 7; weekday >= 5 {
		x *= w.P.Weekend
	}
	if slices.Contains(w.P.Holidays, day) {
		x *= 0.45
	}
	return x * (1 + w.P.Growth*float64(day)/30) * math.Exp(a.level)
}

// base is an event of an actor as it always looks.
func (w *World) base(a *actor, m int64, r *random) cloudtrail.Event {
	e := cloudtrail.Event{
		Time: w.P.Start.Add(time.Duration(m)*time.Minute + time.Duration(r.intn(60000))*time.Millisecond), Source: cloudtrail.SourceKMS, Region: Region, Account: Account,
		CallerAccount: Account, Principal: a.name, PrincipalType: "AssumedRole", TLSVersion: "TLSv1.3", Host: "kms." + Region + ".amazonaws.com", ReadOnly: true,
		IP: a.nets[r.intn(len(a.nets))] + strconv.Itoa(10+r.intn(12)), VPCEndpoint: vpce, UserAgent: fmt.Sprintf(a.agent, a.version),
	}
	if a.person {
		e.PrincipalType, e.VPCEndpoint, e.UserAgent, e.MFA, e.Console = "IAMUser", "", a.agent, cloudtrail.MFAPresent, true
		e.IP = "203.0.113." + strconv.Itoa(5+r.intn(4))
	}
	return e
}

func (w *World) use(a *actor, e *cloudtrail.Event, r *random) {
	e.Keys = a.keys[r.zipf(len(a.keys)):][:1:1]
	e.Name = "Decrypt"
	if r.float() < a.encrypts {
		e.Name = "Encrypt"
		if a.encrypts > 0.9 || r.float() < 0.3 {
			e.Name = "GenerateDataKey"
		}
	}
	w.inContext(a, e, r, r.zipf(w.P.Merchants))
}

func (w *World) inContext(a *actor, e *cloudtrail.Event, r *random, merchant int) {
	tenant := a.tenant
	if tenant == "" {
		tenant = fmt.Sprintf("tenant-%d", r.intn(w.P.Tenants))
	}
	e.Tenant, e.Merchant = tenant, fmt.Sprintf("%s-m%d", tenant, merchant)
	e.Context = map[string]string{"tenant": tenant, "merchant": e.Merchant}
}

// minute adds what an actor does in a minute.
func (w *World) minute(a *actor, m int64, out *[]labelled) {
	r := a.rng
	if m == 0 { // begin again, if called again
		*r = *newRandom(w.P.Seed, 4, uint64(slices.Index(w.actors, a)))
		a.level, a.version = 0, a.first
	}
	if m%60 == 0 {
		a.level = 0.7*a.level + w.P.Noise*0.7*r.normal()
	}
	deploying := false
	for i, at := range a.deploys {
		if m == at {
			a.version = 20 + i
		}
		deploying = deploying || m >= at && m < at+5
	}
	add := func(e cloudtrail.Event) { *out = append(*out, labelled{e, -1}) }
	switch a.kind {
	case "service":
		w.service(a, m, deploying, add)
	case "rotation":
		if m%1440 == int64(a.batchAt) && m/1440%7 == 6 { // re-encrypts a few data keys on Sundays
			for range 20 {
				e := w.base(a, m, r)
				w.use(a, &e, r)
				e.Name = "ReEncrypt"
				add(e)
			}
		}
	case "scanner":
		w.scan(a, m, add)
	case "deployer":
		if slices.ContainsFunc(w.actors, func(o *actor) bool { return o.kind == "service" && slices.Contains(o.deploys, m) }) {
			for _, k := range a.keys {
				for _, name := range []string{"DescribeKey", "GetKeyPolicy", "ListResourceTags"} {
					e := w.base(a, m, r)
					e.Name, e.Keys = name, []string{k}
					add(e)
				}
			}
		}
	case "ops":
		if h := m % 1440 / 60; h >= 7 && h < 18 && m/1440%7 < 5 && r.float() < 0.02 {
			e := w.base(a, m, r)
			e.Name, e.Keys = "DescribeKey", []string{a.keys[r.intn(len(a.keys))]}
			add(e)
		}
	case "person", "on-call":
		w.person(a, m, add)
	}
}

func (w *World) service(a *actor, m int64, deploying bool, add func(cloudtrail.Event)) {
	r := a.rng
	n := r.poisson(a.rate / 60 * w.level(a, m))
	if at := m % 1440; a.batch > 0 && at >= int64(a.batchAt) && at < int64(a.batchAt)+20 {
		n += r.poisson(a.batch * math.Exp(0.2*r.normal()) / 4)
	}
	throttled := n > 40 && r.float() < 0.05
	for range n {
		e := w.base(a, m, r)
		w.use(a, &e, r)
		switch x := r.float(); {
		case throttled && x < 0.3:
			e.ErrorCode = "ThrottlingException"
		case x < w.P.Errors:
			e.ErrorCode = []string{"InvalidCiphertextException", "NotFoundException", "KMSInternalException"}[r.intn(3)]
		}
		add(e)
	}
	if deploying && r.float() < 0.1 { // a permission was forgotten for a minute
		for range 1 + r.intn(4) {
			e := w.base(a, m, r)
			w.use(a, &e, r)
			e.ErrorCode = "AccessDenied"
			add(e)
		}
	}
}

func (w *World) scan(a *actor, m int64, add func(cloudtrail.Event)) {
	if m%1440 != int64(a.batchAt) {
		return
	}
	e := w.base(a, m, a.rng)
	e.Name = "ListKeys"
	add(e)
	for _, k := range a.keys {
		for _, name := range []string{"DescribeKey", "GetKeyPolicy", "GetKeyRotationStatus"} {
			e := w.base(a, m, a.rng)
			e.Name, e.Keys = name, []string{k}
			add(e)
		}
	}
}

func (w *World) person(a *actor, m int64, add func(cloudtrail.Event)) {
	r := a.rng
	hour, weekday := float64(m%1440)/60, m/1440%7
	rate := a.rate / 60
	switch {
	case weekday >= 5 || slices.Contains(w.P.Holidays, int(m/1440)):
		rate *= 0.003
	case hour < 7 || hour >= 19:
		rate *= 0.003
	}
	if a.kind == "on-call" && (hour < 7 || hour >= 19 || weekday >= 5) {
		rate = 0.02 / 60
	}
	if r.float() < rate { // a visit to the console is some calls
		for range 2 + r.intn(5) {
			e := w.base(a, m, r)
			e.Name = []string{"DescribeKey", "ListAliases", "ListResourceTags", "DescribeKey"}[r.intn(4)]
			if e.Name != "ListAliases" {
				e.Keys = []string{a.keys[r.zipf(len(a.keys))]}
			}
			add(e)
		}
		if r.float() < 0.03 {
			e := w.base(a, m, r)
			e.Name, e.Keys, e.ReadOnly = "TagResource", []string{a.keys[0]}, false
			add(e)
		}
	}
}
