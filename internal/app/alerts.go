package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"cardea/internal/config"
	"cardea/internal/detect"
	"cardea/internal/siem"
	"cardea/internal/watch"
)

// AlertSpool is where alerts of detection are given to the deliveries of cfg, by the
// node itself or by a command beside it.
func AlertSpool(cfg config.Config) (*siem.Spool, error) { return siem.OpenSpool(DeliveryDir(cfg)) }

// Alerts hands alerts to deliveries.
type Alerts struct {
	Spool *siem.Spool
	Sleep func(context.Context, time.Duration) error
	// Waiting, if set, is told why an alert waits, and nil when it does not any more.
	Waiting func(context.Context, error)
	// Patient says to wait also for what is not known to pass, such as a disk that
	// cannot be written to.
	Patient bool
}

// spoolAgain is how long an alert waits that finds no room.
const spoolAgain = 10 * time.Second

// Hand returns when the alert is kept until it is delivered. A full spool holds up
// who has alerts; nothing is dropped.
func (a *Alerts) Hand(ctx context.Context, alert *detect.Alert) error {
	for waited := false; ; waited = true {
		err := a.Spool.Append(siem.AlertEvent(*alert))
		if err == nil {
			if waited && a.Waiting != nil {
				a.Waiting(ctx, nil)
			}
			return nil
		}
		if !a.Patient && !errors.Is(err, siem.ErrSpoolFull) || errors.Is(err, siem.ErrTooLarge) {
			return err
		}
		if a.Waiting != nil {
			a.Waiting(ctx, err)
		}
		if err := a.Sleep(ctx, spoolAgain); err != nil {
			return err
		}
	}
}

// siemAlarm tells receivers of what keeps the detection from seeing.
type siemAlarm struct{ delivery *siem.Delivery }

// Raise implements watch.Alarm.
func (a siemAlarm) Raise(ctx context.Context, t watch.Trouble) { a.delivery.Raise(ctx, finding(t)) }

// Resolve implements watch.Alarm.
func (a siemAlarm) Resolve(ctx context.Context, subject, message string) {
	a.delivery.Resolve(ctx, siem.CheckDetection, subject, message)
}

func finding(t watch.Trouble) siem.Finding {
	return siem.Finding{Check: siem.CheckDetection, Subject: t.Subject, Failing: true, Since: t.Since, Message: t.Message, Next: t.Next}
}

// SpooledAlarm is for detection beside the process that delivers: its troubles go
// the way of its alerts, and to the log.
type SpooledAlarm struct {
	Spool  *siem.Spool
	Now    func() time.Time
	Logger *slog.Logger
	since  map[string]watch.Trouble
}

// Raise implements watch.Alarm.
func (a *SpooledAlarm) Raise(ctx context.Context, t watch.Trouble) {
	a.Logger.ErrorContext(ctx, "detection is in trouble", slog.String("subject", t.Subject), slog.String("what", t.Message), slog.String("next", t.Next))
	if a.since == nil {
		a.since = map[string]watch.Trouble{}
	}
	a.since[t.Subject] = t
	a.tell(ctx, finding(t))
}

// Resolve implements watch.Alarm.
func (a *SpooledAlarm) Resolve(ctx context.Context, subject, message string) {
	a.Logger.InfoContext(ctx, "detection works again", slog.String("subject", subject), slog.String("what", message))
	f := finding(a.since[subject])
	delete(a.since, subject)
	f.Subject, f.Failing, f.Message, f.Next = subject, false, message, ""
	a.tell(ctx, f)
}

func (a *SpooledAlarm) tell(ctx context.Context, f siem.Finding) {
	if err := a.Spool.Append(siem.FindingEvent(f, a.Now())); err != nil {
		a.Logger.ErrorContext(ctx, "finding about the detection finds no room", slog.Any("error", err))
	}
}
