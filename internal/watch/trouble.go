package watch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"cardea/internal/collect"
)

// Trouble is something that keeps the detection from seeing.
type Trouble struct {
	Subject string // name of the source, and what of it
	Since   time.Time
	Message string
	Next    string // what to do now
}

// Alarm is who is told of troubles. Each is told once, and its end.
type Alarm interface {
	Raise(ctx context.Context, t Trouble)
	Resolve(ctx context.Context, subject, message string)
}

// look finds out whether the sources stall.
func (w *Watcher) look(ctx context.Context) {
	now := w.o.Now()
	for i, s := range w.o.Sources {
		name := w.o.Name
		if i > 0 {
			name += "/digests"
		}
		st := s.Status()
		since := st.LastSuccess
		if since.IsZero() {
			since = w.begun
		}
		if now.Sub(since) >= w.o.StallAfter {
			why := st.LastError
			if why == "" {
				why = w.said
			}
			w.raise(ctx, Trouble{
				Subject: name, Since: since, Message: fmt.Sprintf("source %s stalls: it has not been read since %s: %s", name, since.UTC().Format(time.RFC3339), why),
				Next: "see whether it is there and may be read; nothing is lost, what is there later is judged then",
			})
		} else {
			w.resolve(ctx, name, "source "+name+" is read again")
		}
		w.lookAtFiles(ctx, name, &st)
	}
	w.lookAtSilence(ctx, now)
}

// lookAtFiles tells of parts of a source that cannot be read though the rest can.
func (w *Watcher) lookAtFiles(ctx context.Context, name string, st *collect.Status) {
	subject := name + "/files"
	if len(st.Findings) == 0 {
		w.resolve(ctx, subject, "all files of "+name+" can be read")
		return
	}
	f := st.Findings[0]
	message := fmt.Sprintf("%s of %s cannot be read: %s", f.Name, name, f.Error)
	if n := len(st.Findings); n > 1 {
		message += fmt.Sprintf(" (and %d more)", n-1)
	}
	w.raise(ctx, Trouble{Subject: subject, Since: f.Since, Message: message, Next: "see what became of the file; it is tried again"})
}

// lookAtSilence tells when no events come any more, where that was asked for.
func (w *Watcher) lookAtSilence(ctx context.Context, now time.Time) {
	if w.o.SilentAfter <= 0 {
		return
	}
	since := w.o.Sources[0].Status().NewestEvent
	if since.IsZero() {
		since = w.begun
	}
	subject := w.o.Name + "/silence"
	if now.Sub(since) < w.o.SilentAfter {
		w.resolve(ctx, subject, "source "+w.o.Name+" gives events again")
		return
	}
	w.raise(ctx, Trouble{
		Subject: subject, Since: since, Message: fmt.Sprintf("source %s has given no event since %s", w.o.Name, since.UTC().Format(time.RFC3339)),
		Next: "see whether logging is on, and whether what it writes arrives there",
	})
}

func (w *Watcher) raise(ctx context.Context, t Trouble) {
	if t.Since.IsZero() {
		t.Since = w.o.Now()
	}
	w.mu.Lock()
	_, known := w.troubles[t.Subject]
	w.troubles[t.Subject] = t
	w.mu.Unlock()
	if known {
		return
	}
	if w.o.Alarm != nil {
		w.o.Alarm.Raise(ctx, t)
		return
	}
	w.o.Logger.ErrorContext(ctx, "detection is in trouble", slog.String("subject", t.Subject), slog.String("what", t.Message), slog.String("next", t.Next))
}

func (w *Watcher) resolve(ctx context.Context, subject, message string) {
	w.mu.Lock()
	_, known := w.troubles[subject]
	delete(w.troubles, subject)
	w.mu.Unlock()
	if !known {
		return
	}
	if w.o.Alarm != nil {
		w.o.Alarm.Resolve(ctx, subject, message)
		return
	}
	w.o.Logger.InfoContext(ctx, "detection works again", slog.String("subject", subject), slog.String("what", message))
}

// Troubles are those there are now.
func (w *Watcher) Troubles() []Trouble {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Trouble
	for _, t := range w.troubles {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b Trouble) int { return strings.Compare(a.Subject, b.Subject) })
	return list
}

// Status is that of the log that is watched.
func (w *Watcher) Status() collect.Status { return w.o.Sources[0].Status() }
