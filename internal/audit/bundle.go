package audit

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
)

// bundleMagic is a bundle's first line.
const bundleMagic = "cardea audit bundle 1"

// Limits of a bundle.
const (
	maxBundleLogs = 4096
	maxBundleLine = 64 << 10 // of a typed line; a tile's has about 11 KiB
)

// ErrMalformedBundle says that a file is not a bundle.
var ErrMalformedBundle = errors.New("malformed audit bundle")

// WriteBundle writes all that src has of the logs, or of every log if origins is
// empty, as one file (docs/spec/audit-log.md, Bundle). It writes a damaged log as
// it is, except for what the format has no room for: that is an error. Of a log
// that grows meanwhile it writes what there was at the start.
func WriteBundle(ctx context.Context, w io.Writer, src Source, origins []string) error {
	there, err := src.Logs(ctx)
	if err != nil {
		return fmt.Errorf("list audit logs: %w", err)
	}
	slices.Sort(there)
	if len(origins) == 0 {
		origins = there
	} else {
		origins = slices.Clone(origins)
		slices.Sort(origins)
		origins = slices.Compact(origins)
	}
	if len(origins) > maxBundleLogs {
		return fmt.Errorf("write audit bundle: %d logs, at most %d are allowed", len(origins), maxBundleLogs)
	}
	b := &bundleWriter{w: bufio.NewWriterSize(w, 64<<10)}
	b.line("%s", bundleMagic)
	for _, origin := range origins {
		if !slices.Contains(there, origin) {
			return fmt.Errorf("write audit bundle: there is no log %s", origin)
		}
		if err := b.log(ctx, src, origin); err != nil {
			return fmt.Errorf("write audit bundle: log %s: %w", origin, err)
		}
	}
	b.line("end %d", len(origins))
	if err := b.w.Flush(); err != nil {
		return fmt.Errorf("write audit bundle: %w", err)
	}
	return nil
}

// bundleWriter leaves write errors to bufio.Writer, which keeps the first.
type bundleWriter struct{ w *bufio.Writer }

func (b *bundleWriter) line(format string, args ...any) {
	fmt.Fprintf(b.w, format+"\n", args...)
}

// body writes a line and the bytes that it announces.
func (b *bundleWriter) body(head string, body []byte) error {
	b.line("%s %d", head, len(body))
	_, err := b.w.Write(body)
	return err
}

func (b *bundleWriter) log(ctx context.Context, src Source, origin string) error {
	h, err := newHorizon(ctx, src, origin)
	if err != nil {
		return fmt.Errorf("read head: %w", err)
	}
	if _, ok := nodeOf(origin); !ok || h.head.Size < 0 || h.head.Size >= maxSize {
		return errors.New("no log has this origin or size")
	}
	b.line("log %s %d %s", origin, h.head.Size, h.head.Root)
	if err := b.prunings(ctx, src, h); err != nil {
		return fmt.Errorf("prunings: %w", err)
	}
	if err := b.checkpoints(ctx, src, h); err != nil {
		return fmt.Errorf("checkpoints: %w", err)
	}
	if err := b.tiles(ctx, src, h); err != nil {
		return fmt.Errorf("tiles: %w", err)
	}
	if err := b.segments(ctx, src, h); err != nil {
		return fmt.Errorf("segments: %w", err)
	}
	return nil
}

// leave reports whether something that needs size entries is of a commit since
// the start, and so not of what is written.
func leave(ctx context.Context, h *horizon, size int64) (bool, error) {
	if size <= h.head.Size {
		return false, nil
	}
	return h.grew(ctx, size)
}

func (b *bundleWriter) prunings(ctx context.Context, src Source, h *horizon) error {
	for signed, err := range src.Prunings(ctx, h.origin) {
		if err != nil {
			return err
		}
		if len(signed) > MaxCheckpoint {
			return fmt.Errorf("one has %d bytes", len(signed))
		}
		if err := b.body("prune", signed); err != nil {
			return err
		}
	}
	return nil
}

func (b *bundleWriter) checkpoints(ctx context.Context, src Source, h *horizon) error {
	for signed, err := range src.Checkpoints(ctx, h.origin) {
		if err != nil {
			return err
		}
		if len(signed) > MaxCheckpoint {
			return fmt.Errorf("one has %d bytes", len(signed))
		}
		if c, err := openCheckpoint(signed, nobody()); errors.Is(err, ErrUnknownKey) {
			if later, err := leave(ctx, h, c.Size); err != nil {
				return err
			} else if later {
				return nil
			}
		}
		if err := b.body("checkpoint", signed); err != nil {
			return err
		}
	}
	return nil
}

func (b *bundleWriter) tiles(ctx context.Context, src Source, h *horizon) error {
	for t, err := range src.Tiles(ctx, h.origin) {
		if err != nil {
			return err
		}
		at := tileAt{t.Level, t.Index}
		if t.Level < 0 || t.Index < 0 || t.Index >= maxSize || base64.StdEncoding.EncodedLen(len(t.Data)) > maxBundleLine-64 {
			return fmt.Errorf("tile %d/%d of %d bytes has no place in a bundle", t.Level, t.Index, len(t.Data))
		}
		if later, err := at.leave(ctx, h); err != nil {
			return err
		} else if !later {
			b.line("tile %d %d %s", t.Level, t.Index, base64.StdEncoding.EncodeToString(t.Data))
		}
	}
	return nil
}

// leave reports whether the tile became full since the start.
func (t tileAt) leave(ctx context.Context, h *horizon) (bool, error) {
	if t.index < 0 || t.index >= maxSize/t.count()-1 {
		return false, nil // no log is so long
	}
	return leave(ctx, h, t.first()+t.count())
}

func (b *bundleWriter) segments(ctx context.Context, src Source, h *horizon) error {
	for s, err := range src.Segments(ctx, h.origin, 0) {
		if err != nil {
			return err
		}
		if s.First < 0 || s.First >= maxSize || s.Count < 0 || len(s.Body) > MaxSegmentBytes {
			return fmt.Errorf("segment %d of %d entries and %d bytes has no place in a bundle", s.First, s.Count, len(s.Body))
		}
		if s.First >= h.head.Size {
			if later, err := h.grew(ctx, s.First+1); err != nil {
				return err
			} else if later {
				return nil
			}
		}
		if err := b.body(fmt.Sprintf("segment %d %d", s.First, s.Count), s.Body); err != nil {
			return err
		}
	}
	return nil
}
