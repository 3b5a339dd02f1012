package lockerapi

func (a *API) health(x *exchange) error {
	x.out.text(`{"message":"Health is good"}`)
	return nil
}

// diagnose probes what the tenant's requests depend on. Like the peer it answers
// 200 whatever it finds; unlike the peer it looks.
func (a *API) diagnose(x *exchange) error {
	if !a.probes.AllowN(a.now(), 1) {
		a.metrics.limited(x.route.path).Inc()
		return &fault{answer: answerRate, result: "rate_limited", detail: "diagnostics are asked for too often"}
	}
	p, err := a.service.Diagnose(x.ctx, x.who, x.tenant.name)
	if err != nil {
		return err
	}
	for _, s := range [...]struct {
		name string
		err  error
	}{
		{`{"key_custodian_locked":false,"database":{"database_connection":`, p.Connect},
		{`,"database_read":`, p.Read},
		{`,"database_write":`, p.Write},
		{`,"database_delete":`, p.Delete},
		{`,"database_replica":"Disabled"},"keymanager_status":`, p.Keys},
	} {
		x.out.text(s.name)
		x.out.text(state(s.err))
	}
	x.out.text(`,"redis_status":"Disabled"}`)
	return nil
}

func state(err error) string {
	if err != nil {
		return `"Failing"`
	}
	return `"Working"`
}
