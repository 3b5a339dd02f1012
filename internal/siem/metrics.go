package siem

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// register registers the metrics of all deliveries, cardea_delivery_*.
func (d *Delivery) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	for _, p := range d.pumps {
		labels := prometheus.Labels{"delivery": p.r.Name}
		gauge := func(name, help string, value func() float64) prometheus.Collector {
			return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cardea_delivery_" + name, Help: help, ConstLabels: labels}, value)
		}
		total := func(name, help string, value func(s *state) int64) prometheus.Collector {
			return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cardea_delivery_" + name, Help: help, ConstLabels: labels}, func() float64 {
				p.mu.Lock()
				defer p.mu.Unlock()
				return float64(value(&p.state))
			})
		}
		for _, c := range []prometheus.Collector{
			gauge("lag_seconds", "Age of the oldest event that waits to be delivered.", func() float64 { s, _, _ := p.gauges(d.o.Now()); return s }),
			gauge("lag_entries", "Audit entries that wait to be delivered or looked at.", func() float64 { _, n, _ := p.gauges(d.o.Now()); return n }),
			gauge("stalled", "1 if nothing arrives though something waits (PCI DSS 10.7.2).", func() float64 { _, _, s := p.gauges(d.o.Now()); return s }),
			total("sent_total", "Events delivered, since the delivery was first set up.", func(s *state) int64 { return s.Sent }),
			total("parked_total", "Events that the receiver does not take, since the delivery was first set up.", func(s *state) int64 { return s.Parked }),
		} {
			if err := to.Register(c); err != nil {
				return fmt.Errorf("metrics of delivery %s: %w", p.r.Name, err)
			}
		}
	}
	return nil
}
